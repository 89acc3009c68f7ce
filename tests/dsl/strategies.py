"""Random specifications, blocks and texts."""

from __future__ import annotations

from itertools import chain
from typing import Any, TypeVar

from hypothesis import strategies as st

from bcgraph import dsl, plugins, schema, spaces
from bcgraph.dsl import syntax
from bcgraph.dsl.elaboration import kinds, layers, settings
from bcgraph.dsl.wording import KEYWORDS
from bcgraph.schema.search import COSTS, Bound, Rule, SpaceSpec, strategy_settings
from bcgraph.schema.values import Frozen, has_statements

_Kind = TypeVar("_Kind", bound=schema.Connection)
_GAINS = st.sampled_from([0.0, 0.1, 1.0, 2.5])
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,5}", fullmatch=True).filter(
    lambda n: n not in KEYWORDS and n not in layers.LAYERS and n != "range"
)

# --- Settings ---------------------------------------------------------------------------------------------


def setting(kind: kinds.Kind) -> st.SearchStrategy[Any]:
    """Any value of a kind."""
    match kind:
        case kinds.Integer():
            return st.integers(kind.low, kind.high)
        case kinds.Real():
            return st.floats(
                kind.low,
                kind.high,
                exclude_min=kind.low_open,
                exclude_max=kind.high_open,
                allow_nan=False,
                allow_infinity=False,
            )
        case kinds.Flag():
            return st.booleans()
        case kinds.Text():
            return st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
        case kinds.Word():
            return st.sampled_from(kind.options)
        case kinds.Words():
            return st.lists(st.sampled_from(kind.options), unique=True).map(tuple)
        case kinds.Either():
            return st.one_of(setting(kind.number), setting(kind.word))
        case kinds.Called():
            return st.one_of(*(model(option) for _, option in kind.options))


def model(cls: type, **fixed: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Any instance of a class of settings; the fields that must be given come from `fixed`."""
    fields: dict[str, st.SearchStrategy[Any]] = dict(fixed)
    for name, field in kinds.fields(cls).items():
        if name in fixed or name == "kind" or has_statements(field):
            continue
        section = kinds.section(field.annotation)
        if section is None:
            fields[name] = setting(kinds.kind_of(field))
        else:
            fields[name] = model(section) if field.default is not None else st.none() | model(section)
    # The settings that count with one strategy alone.
    beside: dict[str, str] = {}
    for strategy in plugins.names("strategy") if cls is schema.EvolveSpec else ():
        for name, field in kinds.fields(strategy_settings(strategy) or Frozen).items():
            beside[name], fields[name] = strategy, setting(kinds.kind_of(field))

    def made(**values: Any) -> Any:
        # A setting that counts only beside a certain value of another is left out where it does not.
        idle = {name for name, strategy in beside.items() if values["strategy"] != strategy}
        if cls is schema.SGD and not values["momentum"]:
            idle.add("nesterov")
        if cls is schema.SearchSpec:
            # One thing is an objective once, and none stands beside a score.
            by_score = values["evolve"].score != "oneshot"
            small = tuple(m for m in values["minimize"] if m not in values["maximize"])
            values |= {"maximize": (), "minimize": ()} if by_score else {"minimize": small}
            # A recipe with a last stage always has one.
            values |= {"recipe": "paper"} if values["finish"] is None else {}
        return cls(**{n: v for n, v in values.items() if n not in idle})

    return st.builds(made, **fields)


DATA = model(schema.DataSpec, name=st.sampled_from(settings.DATA_SETS), span=st.none())
SEARCH = model(schema.SearchSpec)
TRAIN = model(schema.TrainSpec)

# --- Blocks -----------------------------------------------------------------------------------------------

_EXPRESSION_NAMES = st.sampled_from(["n", "on", "i"])


def expressions() -> st.SearchStrategy[syntax.Expression]:
    """Any expression the grammar has."""
    leaves = st.one_of(
        st.integers(0, 10**18 - 1).map(syntax.Number),
        FLOATS.filter(lambda f: str(f)[0] != "-").map(syntax.Number),
        st.text(st.characters(exclude_categories=["Cs"]), max_size=5).map(syntax.String),
        st.booleans().map(syntax.Boolean),
        NAMES.map(syntax.Name),
        st.just(syntax.Dotted("input.channels")),
    )

    def grown(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[syntax.Expression]:
        argument = st.builds(syntax.Argument, st.none() | NAMES, inner)
        binary = st.sampled_from(["+", "-", "*", "/", "//", "%", "==", "!=", "<", "<=", ">", ">=", "and", "or"])
        return st.one_of(
            st.lists(inner, max_size=3).map(lambda items: syntax.List(tuple(items))),
            st.builds(syntax.Unary, st.sampled_from(["-", "not"]), inner),
            st.builds(syntax.Binary, binary, inner, inner),
            st.builds(syntax.Conditional, inner, inner, inner),
            st.builds(syntax.Call, NAMES, st.lists(argument, max_size=3).map(tuple)),
        )

    return st.recursive(leaves, grown, max_leaves=12)


def statements(depth: int = 2) -> st.SearchStrategy[syntax.Statement]:
    """Any statement that can stand in a block, whether it means something or not."""
    call = st.builds(
        syntax.Call,
        NAMES,
        st.lists(st.builds(syntax.Argument, st.none() | NAMES, expressions()), max_size=2).map(tuple),
    )
    target = st.one_of(NAMES.map(syntax.Name), st.integers(0, 99).map(syntax.Index), expressions().map(syntax.Computed))
    simple = st.one_of(st.builds(syntax.Assign, target, call), st.builds(syntax.Bare, call))
    if depth == 0:
        return simple
    body = st.lists(statements(depth - 1), max_size=3).map(tuple)
    branches = st.lists(st.builds(syntax.Branch, st.none() | expressions(), body), max_size=3).map(tuple)
    return st.one_of(
        simple,
        st.builds(syntax.Sum, branches),
        st.builds(syntax.Concat, branches),
        st.builds(syntax.If, expressions(), body, body),
        st.builds(syntax.Repeat, NAMES, expressions(), body),
    )


BLOCKS = st.builds(
    syntax.Block,
    NAMES,
    st.lists(st.builds(syntax.Parameter, NAMES, st.none() | expressions()), max_size=3, unique_by=lambda p: p.name).map(
        tuple
    ),
    st.lists(statements(), max_size=4).map(tuple),
)

# --- Networks that work -----------------------------------------------------------------------------------

_NEURONS = st.sampled_from(["lif()", "lif(tau=0.25)", "lif(reset=soft)", "lif(surrogate=triangle(width=0.5))"])


@st.composite
def layer_lines(draw: st.DrawFn, prefix: str, depth: int) -> list[str]:
    """Statements that leave height and width alone; every path ends with `n` channels."""
    lines: list[str] = []
    for number in range(draw(st.integers(1, 3))):
        name = f"{prefix}{number}"
        form = draw(st.sampled_from(["conv", "lif", "bn", "pool", "sum", "concat", "if", "repeat", "unit"]))
        if depth == 0 and form in ("sum", "concat", "if", "repeat"):
            form = "conv"
        if form == "conv":
            kernel = draw(st.sampled_from([1, 3, 5]))
            lines.append(f"{name} = conv(n, kernel={kernel}, bias={draw(st.sampled_from(['true', 'on']))})")
        elif form == "lif":
            lines.append(f"{name} = {draw(_NEURONS)}")
        elif form == "bn":
            lines.append(f"{name} = bn(momentum={draw(st.sampled_from([0, 0.5, 1]))})")
        elif form == "pool":
            lines.append("maxpool(3, stride=1, padding=1); dropout(0.5)")
        elif form == "unit":
            lines.append(f"{name} = unit(n, {draw(st.sampled_from(['', 'on', 'k=3']))})".replace(", )", ")"))
        elif form in ("sum", "concat"):
            lines.append(f"{name}in = conv(n)")
            lines.append(f"{form} {{")
            for branch in range(draw(st.integers(0, 3))):
                test = draw(st.sampled_from(["", "if on ", "if not on ", "if n > 2 "]))
                inner = draw(layer_lines(f"{name}_{branch}_", depth - 1))
                lines += [f"branch {test}{{", *inner, f"{name}_{branch}_end = conv(n)", "}"]
            lines += ["}", f"{name}out = conv(n)"]
        elif form == "if":
            inner = draw(layer_lines(f"{name}_", depth - 1))
            other = draw(layer_lines(f"{name}_", depth - 1))
            lines += ["if input.channels == n {", *inner, "} else {", *other, "}"]
        else:
            start = draw(st.integers(1, 3))
            lines.append(f"{name} = many({start})")
    return lines


@st.composite
def networks(draw: st.DrawFn) -> str:
    """The text of a network that is in order, with blocks of its own."""
    lines = draw(layer_lines("a", 2))
    calls = st.sampled_from(["body()", "body(3, false)", "body(on=true, n=1)", "tiny()"])
    channels = draw(st.integers(1, 4))
    text = [
        "bcg 1",
        "block unit(n, on=true, k=1) { conv = conv(n, kernel=k); bn = bn(); if on { lif = lif() } }",
        f"block many(n) {{ repeat i in range(n, {draw(st.integers(3, 5))}) {{ [i] = unit(i) }} }}",
        "block body(n=2, on=true) {",
        *lines,
        "last = lif(); adaptive_avgpool(); flatten(); fc = linear(3)",
        "}",
        "network net {",
        f"input = {draw(st.sampled_from(['image', 'sequence']))}({channels}, {draw(st.integers(1, 9))}, 4)",
        f"steps = {draw(st.integers(1, 9))}",
        f"readout = {draw(st.sampled_from(['mean', 'last']))}",
        f"backbone = {draw(calls)}",
    ]
    if draw(st.booleans()):
        text.append(f"norm = bn(statistics=per_step, gain={draw(_GAINS)})")
    if draw(st.booleans()):
        text.append(f"feedback = project(gain={draw(_GAINS)})")
    return "\n".join([*text, "}"]) + "\n"


@st.composite
def specs(draw: st.DrawFn) -> schema.NetworkSpec:
    """Any specification: a network of `networks` with connections, data, search and training drawn at random."""
    spec = dsl.parse(draw(networks()))
    port = st.integers(0, len(spec.ports) - 1)
    ends = st.tuples(port, port).map(lambda pair: (max(pair), min(pair)))
    late, early = (
        st.lists(st.tuples(ends, st.sampled_from(d)), max_size=4, unique=True) for d in ((1, 2, 1000), (0, 3))
    )
    spec = spec.with_connections(
        [_kind(draw, schema.BackwardConnection, j, i, delay) for (j, i), delay in draw(late)],
        [_kind(draw, schema.ForwardConnection, i, j, delay) for (j, i), delay in draw(early) if j != i],
    )
    search = draw(SEARCH)
    if draw(st.booleans()):
        space = draw(described(len(spec.ports)))
        some = {"subject_to": draw(st.lists(BOUNDS, max_size=3, unique_by=lambda b: b.metric).map(tuple))}
        search = schema.SearchSpec(**(dict(search.__dict__) | {"space": space, "max_backward": 2} | some))
    fields = dict(spec.__dict__) | {"data": draw(DATA), "search": search, "train": draw(TRAIN)}
    return possible(schema.NetworkSpec(**fields))


def _kind(draw: st.DrawFn, kind: type[_Kind], source: int, target: int, delay: int) -> _Kind:
    through = st.none() | st.builds(schema.Projection, st.sampled_from((1, 3)), _GAINS)
    gain, join, read = st.none() | _GAINS, st.sampled_from(("add", "mul")), st.sampled_from(("s", "u", "v"))
    return kind(source, target, delay, draw(gain), draw(through), draw(join), draw(read))


_AMOUNTS = st.sampled_from((0.0, 0.5, 1.05, 3.0, 64_000.0))
BOUNDS = st.builds(Bound, st.sampled_from(COSTS), _AMOUNTS, _AMOUNTS)


def described(ports: int) -> st.SearchStrategy[SpaceSpec]:
    """Any space of a network with so many ports; it may contradict itself."""
    end = st.integers(0, ports - 1)
    delays = st.lists(st.integers(1, 1_000), max_size=3, unique=True).map(tuple)
    family = st.builds(Rule, st.just("backward"), st.just("any") | end, st.just("any") | end, delays)
    fixed = st.builds(Rule, st.just("fixed"), end, end, delays.map(lambda found: found[:1]))
    forbid = st.builds(Rule, st.just("forbid"), st.just("any") | end, st.just("any") | end, delays)
    rules = st.tuples(
        st.lists(family, min_size=1, max_size=2), st.lists(fixed, max_size=1), st.lists(forbid, max_size=1)
    )
    return st.builds(
        SpaceSpec, rules=rules.map(lambda found: tuple(chain.from_iterable(found))), at_most=st.integers(0, 5)
    )


def possible(spec: schema.NetworkSpec) -> schema.NetworkSpec:
    """The specification with settings of the search that can be met together; its own where they can."""
    evolve = spec.search.evolve
    least = {"score": "oneshot", "keep": 1, "stages": 1, "extra_operations": None}
    for choice in ({}, least, {"strategy": "evolutionary"}):
        fields = evolve.model_dump() | choice
        own = strategy_settings(fields["strategy"])
        allowed = {*kinds.fields(schema.EvolveSpec), *({} if own is None else kinds.fields(own))}
        fields = {name: value for name, value in fields.items() if name in allowed}
        search = schema.SearchSpec(**(dict(spec.search.__dict__) | {"evolve": schema.EvolveSpec(**fields)}))
        if choice == {"strategy": "evolutionary"}:
            search = schema.SearchSpec(**(dict(search.__dict__) | {"space": None, "for": "any"}))
        found = schema.NetworkSpec(**(dict(spec.__dict__) | {"search": search}))
        entry = plugins.known("strategy", fields["strategy"])
        if not (entry and list(entry.value.contradictions(found))) and not list(spaces.check(found)):
            return found
    raise AssertionError


# --- Layout -----------------------------------------------------------------------------------------------

_COMMENTS = ["", "# note", "#", "#   wide  # twice  ", "# é = {"]


@st.composite
def layouts(draw: st.DrawFn, text: str) -> str:
    """The same text with other spaces, line ends, semicolons, empty lines and comments."""
    from bcgraph.dsl.parser import grammar

    tokens = [t for t in grammar().lex(text) if t.type not in ("COMMENT",)]
    choice = draw(st.randoms(use_true_random=False))
    result: list[str] = []
    depth = 0
    for position, token in enumerate(tokens):
        if token.type == "NEWLINE":
            if depth:
                continue
            before = tokens[position - 1].type if position else "NEWLINE"
            after = tokens[position + 1].type if position + 1 < len(tokens) else "NEWLINE"
            joined = choice.random() < 0.3 and before != "NEWLINE" and after != "NEWLINE"
            if joined and before != "LBRACE" and after != "RBRACE":
                result.append(choice.choice([";", " ; ", ";;"]))
            elif joined:
                result.append(choice.choice(["", " ", ";"]) if before == "LBRACE" or after == "RBRACE" else "")
            else:
                result.append(choice.choice(["", "  ", "\t", ";", " "]) + choice.choice(_COMMENTS))
                result.append(choice.choice(["\n", "\n", "\r\n", "\n\n", "\n\n \n\n", "\n# alone\n", "\n  ;\n"]))
                result.append(" " * choice.choice([0, 0, 2, 5]))
            continue
        if token.type in ("RPAR", "RSQB"):
            depth -= 1
        result.append(str(token))
        if token.type in ("LPAR", "LSQB"):
            depth += 1
        if depth and choice.random() < 0.1:
            result.append(choice.choice(["\n", " # inside\n", "\n\n\n", "\r\n    "]))
        else:
            result.append(choice.choice([" ", " ", "  ", "\t"]))
    return "".join(result)

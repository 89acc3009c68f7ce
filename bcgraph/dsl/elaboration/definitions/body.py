"""From the text of a neuron or a surrogate to its equations, with numbers in place of its parameters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from bcgraph import schema
from bcgraph.dsl import syntax
from bcgraph.dsl.elaboration import kinds
from bcgraph.dsl.elaboration.definitions.equations import BROKEN, CONSTANTS, Constant, Meaning, Meanings
from bcgraph.dsl.elaboration.evaluate import Failed, Scope
from bcgraph.dsl.elaboration.library import Definition, Namespace
from bcgraph.dsl.elaboration.vocabulary.peers import converted
from bcgraph.dsl.unparse import expression as written
from bcgraph.dsl.walk import names_in
from bcgraph.dsl.wording import show, statement_name
from bcgraph.equations import expression as E
from bcgraph.equations import neuron as N
from bcgraph.errors import Span, nearest

MAX_SIZE = 2_000
"""Numbers, reads and functions in all equations of a neuron."""

CHANNELS = "channels"
REQUIRE = "require"


class Body:
    """The body of one definition, with values for its parameters."""

    def __init__(
        self,
        surrogate: Callable[[syntax.Expression, Scope, Namespace], schema.Surrogate | None],
        definition: Definition,
        scope: Scope,
        values: Mapping[str, Constant],
        spans: Mapping[str, Span],
    ) -> None:
        self.text = definition.definition
        self.scope = scope
        self.spans = spans
        self.parameters = values
        self.good = True
        self.reported: set[str] = set()
        namespace = definition.namespace
        self.meanings = Meanings(scope, lambda e, s: surrogate(e, s, namespace), dict(values))
        self.places: dict[str, Span] = {p.name: p.span for p in self.text.parameters}

    def wrong(self, code: str, message: str, place: Span, hint: str | None = None) -> None:
        """Report a mistake; the equations are then not whole."""
        self.scope.fail(code, message, place, hint)
        self.good = False

    # --- a surrogate ---

    def surrogate(self) -> E.Expression:
        """The derivative of a spike as an expression of x. Raises Failed."""
        self.reserve({"x": "the distance from the threshold"})
        self.meanings.values["x"] = E.X
        found: E.Expression | None = None
        for statement in self.text.body:
            match statement:
                case syntax.Bare(call=syntax.Call(name=name) as call) if name == REQUIRE:
                    self.require(call)
                case syntax.Formula(value=value) | syntax.Bare(call=value):
                    if found is not None:
                        self.wrong("E033", "a surrogate is one expression, and this is another", statement.span)
                        continue
                    try:
                        found = self.meanings.value(value)
                    except Failed:
                        self.good = False
                        found = E.Number(0.0)
                case _:
                    if isinstance(statement, syntax.Assign) and isinstance(statement.target, syntax.Name):
                        self.meanings.values.setdefault(statement.target.name, BROKEN)
                    what = "an equation" if isinstance(statement, syntax.Assign) else statement_name(statement)
                    hint = "a surrogate is one expression of `x`, the distance from the threshold"
                    self.wrong("E035", f"{what} does not belong in a surrogate", _span(statement), hint)
        if found is None and self.good:
            hint = "write the derivative of a spike as an expression of `x`, the distance from the threshold"
            self.wrong("E034", f"the surrogate `{self.text.name}` is empty", self.text.name_span, hint)
        if found is None or not self.good:
            raise Failed
        if E.size(found) > MAX_SIZE:
            self.large(self.text.name_span)
        return found

    # --- a neuron ---

    def neuron(self) -> N.Equations:
        """The equations. Raises Failed."""
        self.reserve({N.CURRENT: "the current of the step", N.SPIKES: "what the neuron sends"})
        self.meanings.values[N.CURRENT] = E.Read(N.CURRENT)
        self.states: dict[str, float] = {}
        self.learned: list[N.Learned] = []
        self.body: list[tuple[str, E.Expression]] = []
        self.times: Counter[str] = Counter()
        self.assigned: dict[str, Span] = {}
        targets = [s.target for s in self.text.body if isinstance(s, syntax.Assign)]
        left = Counter(t.name for t in targets if isinstance(t, syntax.Name))
        self.meanings.later = left
        for statement in self.text.body:
            match statement:
                case syntax.Declaration():
                    self.declare(statement)
                case syntax.Assign(target=syntax.Name() as target, value=value):
                    self.assign(target, value, again=left[target.name] > 1)
                    left[target.name] -= 1
                    if not left[target.name]:
                        del left[target.name]
                case syntax.Bare(call=syntax.Call(name=name) as call) if name == REQUIRE:
                    self.require(call)
                case _:
                    hint = "a neuron holds `state v = 0`, `learn w = 1` and equations such as `u = tau * v + I`"
                    self.wrong(
                        "E035", f"{statement_name(statement)} does not belong in a neuron", _span(statement), hint
                    )
        self.check()
        if not self.good:
            raise Failed
        kept = [f"{name}.offset" if initial else name for name, initial in self.states.items()]
        try:
            made = N.neuron(self.body, kept, self.learned, (N.SPIKES, *kept))
        except ArithmeticError:
            raise self.scope.fail("E044", "an equation has no value", self.text.name_span) from None
        return made

    def declare(self, statement: syntax.Declaration) -> None:
        """Take in a state or a learned parameter."""
        self.reported.add(statement.name)
        if statement.kind not in ("state", "learn"):
            self.meanings.values.setdefault(statement.name, BROKEN)
            hint = nearest(statement.kind, ("state", "learn")) or "write `state v = 0` or `learn w = 1`"
            self.wrong("E032", f"`{statement.kind}` begins nothing in a neuron", statement.kind_span, hint)
            return
        if statement.of is not None and (statement.kind, statement.of) != ("learn", CHANNELS):
            self.meanings.values.setdefault(statement.name, BROKEN)
            hint = f"write `{statement.kind} {statement.name} = ...`"
            hint += ", or `learn[channels]` for one value a channel" if statement.kind == "learn" else ""
            self.wrong("E032", f"there is no `{statement.kind}[{statement.of}]`", statement.span, hint)
            return
        try:
            initial = self.meanings.number(statement.value, f"the first value of `{statement.name}`")
        except Failed:
            self.good = False
            self.name(statement.name, statement.name_span, BROKEN)
            return
        if not self.name(statement.name, statement.name_span, BROKEN):
            return
        self.reported.discard(statement.name)
        if statement.kind == "learn":
            self.learned.append(N.Learned(statement.name, initial, statement.of == CHANNELS))
            self.meanings.values[statement.name] = E.Read(statement.name)
            return
        self.states[statement.name] = initial
        # A state is zero before the first step. One that starts elsewhere is kept as its distance from there.
        before: E.Expression = E.Read(statement.name, 1)
        if initial:
            before = E.Apply("add", (E.Read(f"{statement.name}.offset", 1), E.Number(initial)))
        self.meanings.values[statement.name] = before

    def assign(self, target: syntax.Name, value: syntax.Expression, *, again: bool) -> None:
        """One equation; `again` says that the name is assigned further down, which a state may be."""
        name = target.name
        state = name in self.states
        if name in self.reported:
            self.assigned.setdefault(name, target.span)
            return
        if name in self.assigned and not state:
            where = f"the first is at {self.assigned[name]}"
            self.wrong("E033", f"`{name}` is assigned twice", target.span, where)
            return
        if name == N.CURRENT or (name in self.meanings.values and not state and name not in self.assigned):
            hint = "choose another name"
            what = "the current of the step" if name == N.CURRENT else "a parameter or a learned value"
            self.wrong("E033", f"`{name}` is {what} and cannot be assigned", target.span, hint)
            return
        if name in CONSTANTS or (name in E.FUNCTIONS and E.FUNCTIONS[name].written):
            self.wrong("E033", f"`{name}` has a meaning in every equation and cannot be assigned", target.span)
            self.meanings.values.setdefault(name, BROKEN)
            return
        self.assigned.setdefault(name, target.span)
        try:
            meaning = self.meanings.value(value)
        except Failed:
            self.good = False
            self.meanings.values[name] = BROKEN
            return
        # A state that is assigned several times has its own name at the end.
        self.times[name] += 1
        label = f"{name}#{self.times[name]}" if again else name
        self.body.append((label, meaning))
        self.meanings.values[name] = E.Read(label)
        if state and self.states[name] and not again:
            offset = E.Apply("sub", (E.Read(label), E.Number(self.states[name])))
            self.body.append((f"{name}.offset", offset))

    def check(self) -> None:
        """What a neuron has to have: spikes that depend on its input, and a next value of each state."""
        if sum(E.size(expression) for _, expression in self.body) > MAX_SIZE:
            self.large(self.text.name_span)
        for name in self.states:
            if name not in self.assigned:
                hint = f"write `{name} = ...`, its value for the next step"
                self.wrong("E034", f"the state `{name}` is never assigned", self.places[name], hint)
        if N.SPIKES not in self.assigned:
            hint = "write `s = spike(u - threshold, surrogate)`, for example"
            self.wrong(
                "E034", f"the neuron `{self.text.name}` assigns no `s`, what it sends", self.text.name_span, hint
            )
        elif self.good and not self.reaches():
            self.wrong("E044", "`s` does not depend on `I`, the current", self.assigned[N.SPIKES])

    def reaches(self) -> bool:
        """Whether the current reaches the spikes, in this step or in a later one."""
        reached = {N.CURRENT}
        while True:
            more = {n for n, e in self.body for r in E.reads(e) if r.name in reached} - reached
            if not more:
                return N.SPIKES in reached
            reached |= more

    # --- both ---

    def reserve(self, names: Mapping[str, str]) -> None:
        """Report parameters whose name has a meaning in equations (E033); `names` says what more of them mean."""
        for parameter in self.text.parameters:
            name = parameter.name
            meaning = names.get(name) or ("a number of every equation" if name in CONSTANTS else None)
            if meaning is None and name in E.FUNCTIONS and E.FUNCTIONS[name].written:
                meaning = "a function of equations"
            if meaning is not None:
                self.wrong("E033", f"`{name}` is {meaning} and cannot be a parameter", parameter.span)
                self.reported.add(name)

    def name(self, name: str, span: Span, meaning: Meaning) -> bool:
        """Give a name its meaning; a name that has one already is reported (E033)."""
        taken = name in self.meanings.values or name in CONSTANTS
        if taken or (name in E.FUNCTIONS and E.FUNCTIONS[name].written):
            where = self.places.get(name)
            self.wrong(
                "E033", f"`{name}` already has a meaning here", span, f"the first is at {where}" if where else None
            )
            return False
        self.meanings.values[name] = meaning
        self.places[name] = span
        return True

    def requirements(self) -> None:
        """Report what parameters do not fulfil, where something else is wrong with the call."""
        for statement in self.text.body:
            if isinstance(statement, syntax.Bare) and statement.call.name == REQUIRE:
                self.require(statement.call)

    def require(self, call: syntax.Call) -> None:
        """`require(condition)`: what parameters have to fulfil."""
        if len(call.arguments) != 1 or call.arguments[0].name is not None:
            self.wrong("E042", "`require` takes one condition", call.span, "`require(tau >= 0 and tau <= 1)`")
            return
        condition = call.arguments[0].value
        try:
            found = self.meanings.condition(condition)
        except Failed:
            self.good = False
            return
        if not isinstance(found, bool):
            self.wrong("E044", "`require` is about parameters alone", call.span)
        elif not found:
            names = [n.name for n in names_in(condition) if n.name in self.parameters]
            name = next((n for n in names if n in self.spans), names[0] if names else "")
            value = self.parameters.get(name)
            code = "E043" if isinstance(value, str) else "E041"
            words = [n.name for n in names_in(condition) if n.name not in self.meanings.values]
            hint = f"allowed: {allowed(condition, name, words)}"
            if (unit := converted(name, value)) is not None:
                hint = f"{hint}; {unit}"
            if isinstance(value, str) and (close := nearest(value, words)):
                hint = f"{close} ({hint})"
            self.good = False
            place = self.spans.get(name)
            message = (
                f"`{name}` cannot be `{show(value)}`"
                if isinstance(value, str)
                else f"`{name}` cannot be {_number(value)}"
            )
            if place is not None:
                self.scope.reporter.add(code, message, place, hint, self.scope.notes[1:])
            else:
                self.scope.fail(code, message, call.span, hint)

    def large(self, span: Span) -> None:
        """Stop at a definition that is too large (E054)."""
        message = f"the definition has more than {MAX_SIZE:,} numbers, names and operations"
        self.scope.reporter.stop("E054", message, self.scope.locate(span)[0])


def allowed(condition: syntax.Expression, name: str, words: list[str]) -> str:
    """What a condition allows of `name`: `words`, `0 to 1` for `tau >= 0 and tau <= 1`, else the condition itself."""
    if words:
        return ", ".join(f"`{word}`" for word in dict.fromkeys(words))
    limits: dict[str, Any] = {}
    pending = [condition]
    while pending:
        match pending.pop():
            case syntax.Binary(operator="and", left=left, right=right):
                pending += [left, right]
            case syntax.Binary(operator=sign, left=syntax.Name(name=left), right=syntax.Number(value=limit)) if (
                left == name and sign in _LIMITS
            ):
                end, is_open = _LIMITS[sign]
                limits |= {end: float(limit), f"{end}_open": is_open}
            case _:
                return written(condition)
    return kinds.allowed_range(kinds.Real(**limits))


_LIMITS = {">=": ("low", False), ">": ("low", True), "<=": ("high", False), "<": ("high", True)}


def _number(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) and not isinstance(value, bool) else show(value)


def _span(statement: syntax.Statement) -> Span:
    span: Span = getattr(statement, "name_span", statement.span)
    return span

"""Add your own layers, passes, targets, data sets, scores and strategies.

    import bcgraph

    bcgraph.register.score("depth", lambda model, x, y: float(len(list(model.modules()))))

What is registered works in `.bcg` texts, on the command line, in a search and from Python. A package registers when its
entry point in the group `bcgraph.plugins` is loaded; a text names it in a line `use "package"`. `registered()` and the
command `bcgraph plugins` show what there is. docs/extending.md has an example of each.

All functions raise PluginError: E036 when a name is taken, with both places, E005 when a name cannot stand in a text,
and E040 for what is not of the kind that it should be.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, get_args, get_type_hints

from pydantic import create_model

from bcgraph import plugins
from bcgraph.dsl.wording import KEYWORDS
from bcgraph.plugins import values
from bcgraph.plugins.installed import owner
from bcgraph.plugins.registry import KINDS, REGISTRY, TITLES, Entry, Kind, Origin, PluginError
from bcgraph.schema.search import EvolveSpec
from bcgraph.schema.values import Frozen

__all__ = ["data", "forget", "layer", "predictor", "registered", "score", "strategy", "target", "transform"]

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}")
_ENDING = re.compile(r"\.[A-Za-z0-9_]{1,20}")


def registered(kind: Kind | None = None) -> tuple[Entry, ...]:
    """What is registered in this process, by kind and name, each with its `value` and its `origin`."""
    return tuple(entry for entry in REGISTRY.entries() if kind in (None, entry.kind))


def forget(kind: Kind, name: str) -> None:
    """Take out what is registered under a name, for instance to register it anew in a notebook. Raises LookupError."""
    entry = REGISTRY.get(kind, name)
    if entry is None:
        raise LookupError(f"no {TITLES.get(kind, kind)} `{name}` is registered; the kinds are {', '.join(KINDS)}")
    REGISTRY.remove(entry)


def layer(
    name: str,
    module: Callable[..., Any] | str,
    *,
    shape: Callable[..., tuple[int, ...]],
    operations: Callable[..., int] | None = None,
    parameters: Callable[..., int] | None = None,
    emitters: Mapping[str, Callable[..., Any]] | None = None,
    random: bool = False,
) -> None:
    """A layer of the language, `name(...)` in a block.

    `shape(given, **arguments)` is the shape of one sample after the layer for the shape before it, `(C, H, W)` or
    `(F,)`; it raises ValueError for one that does not fit. Its parameters after the first, each annotated with bool,
    int, float or str, are what the layer may be given in a text. `module(given, **arguments)` makes the torch module,
    which maps `[N, *given]` to `[N, *shape]`, each sample by itself and each step alike; a path `package.module:name`
    is imported when a network is compiled, so that reading a text stays cheap. `operations` gives the
    multiply-accumulates of one sample and step, `parameters` the number of trained values, both as `shape` is called.
    With `random` it draws random numbers at each step.

    torch runs the module itself, and so do `.pt2` files. For other targets `emitters` has a function each: see
    docs/extending.md. A target without one refuses the layer (E073). Raises TypeError for arguments that have no kind.
    """
    from bcgraph.dsl.elaboration.layers import LAYERS
    from bcgraph.dsl.elaboration.library import NEURON, standard_names

    for each in (shape, *(f for f in (operations, parameters) if f is not None), *(emitters or {}).values()):
        _callable("a layer", name, each)
    if not callable(module) and not isinstance(module, str):
        raise _wrong("a layer", name, "a torch module class or its path", module)
    unknown = set(emitters or {}) - set(EMITTERS)
    if unknown:
        raise PluginError("E072", f"no target takes emitters `{min(unknown)}`", hint=f"known: {', '.join(EMITTERS)}")
    made = values.Layer(module, shape, values.arguments_of(shape), operations, parameters, dict(emitters or {}), random)
    taken = (*LAYERS, NEURON, "range", "sum", "concat", "mul", *standard_names("block"), *standard_names("neuron"))
    _add("layer", name, made, taken)


EMITTERS = ("onnx", "python", "nir")
"""The targets that take an emitter for a layer."""


def data(name: str, source: Any) -> None:
    """A data set for `data = name(...)`.

    `source` is a map-style torch Dataset with items (x, y), a pair of them (train, test), or a function of one
    argument, the `bcgraph.data.sources.Request` of a network, that returns one of these or a
    `bcgraph.data.sources.DataSet`. Of a dataset without a test set a fixed 20 % of each class are held out.
    """
    from bcgraph.data import catalog

    sized = hasattr(source, "__getitem__") and hasattr(source, "__len__")
    if not sized and not callable(source):
        raise _wrong("a data set", name, "a torch Dataset, a pair of them, or a function that returns one", source)
    _add("data", name, values.Data(source, takes_request=not sized), catalog.names())


def score(
    name: str,
    measure: Callable[[Any, Any, Any], Any] | values.OfSpikes | values.OfGradients | values.OfConnections,
    *,
    label: str | None = None,
) -> None:
    """A training-free score for `scores = [...]` and `score = ...`: `measure(model, x, y)` is a number, the higher
    the better.

    `model` is the compiled network at initialization in eval mode with batch statistics, x `[N, C, H, W]` or
    `[T, N, C, H, W]` the one class-balanced batch of the search, y `[N]` its labels. All candidates of a search have
    the same weights wherever they have the same layers; what `measure` changes in them is undone. A value that is not
    finite counts as dead: it ranks last. `label` is what reports call the score.

    A score of what neurons send, or of the gradients of the input, may be `bcgraph.scores.OfSpikes` or `OfGradients`
    instead: it is computed as those of bcgraph itself are, from what candidates have in common. One of the
    specification alone is `bcgraph.scores.OfConnections`, for which no network is run.
    """
    from bcgraph.search.records.evaluations import FIELDS, FITNESS, NAMES

    if not isinstance(measure, values.OfSpikes | values.OfGradients | values.OfConnections):
        _callable("a score", name, measure)
    _add("score", name, values.Score(measure, label or name), (*FITNESS, *NAMES, *FIELDS, *plugins.names("score")))


def strategy(name: str, propose: Callable[..., Any]) -> None:
    """A strategy for `strategy = name`: `propose(population, rng)` gives the architectures of the next iteration.

    Each is a list of pairs (source, target) of port numbers, or a specification. `population` is a
    `bcgraph.search.strategies.population.Population`: all that was evaluated, with its values, and the space. `rng` is
    a `random.Random` that follows from the seed and the iteration; draw from nothing else, so that a resumed search
    ends as an uninterrupted one. What was evaluated before is left out, and random ones fill what is left open.

    The parameters after the first two, each with a default and annotated with bool, int, float or str (or such with
    bounds, `Annotated[float, pydantic.Field(gt=0)]`), are settings of `evolve { }` that count with this strategy alone.
    Raises TypeError for a parameter of another kind, or with the name of a setting that every strategy has.
    """
    _callable("a strategy", name, propose)
    about = (inspect.getdoc(propose) or name).partition("\n")[0]
    made = values.Strategy(about, propose=propose, settings=_settings(name, propose))
    _add("strategy", name, made, plugins.names("strategy"))


def _settings(name: str, propose: Callable[..., Any]) -> type[Frozen] | None:
    """The settings of a registered strategy, as a group of settings; None where it has none."""
    own = list(inspect.signature(propose).parameters.values())[2:]
    own = [each for each in own if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)]
    if not own:
        return None
    hints = get_type_hints(propose, include_extras=True)
    fields: dict[str, Any] = {}
    for each in own:
        kind = hints.get(each.name, type(each.default))
        if each.default is each.empty or (get_args(kind) or (kind,))[0] not in (bool, int, float, str):
            raise TypeError(f"the setting `{each.name}` of a strategy has a default, and is bool, int, float or str")
        if each.name in EvolveSpec.model_fields:
            raise TypeError(f"`{each.name}` is a setting of every strategy: give that of yours another name")
        fields[each.name] = (kind, each.default)
    made: type[Frozen] = create_model(f"settings of {name}", __base__=Frozen, **fields)
    return made


def predictor(name: str, predict: Callable[[Any, Any], Iterable[float]]) -> None:
    """A predictor for `choose = name`: `predict(architectures, measures)` is one number for each architecture.

    The higher the better. An architecture is a tuple of connections: pairs (source, target) of port numbers, or in a
    `space` named tuples with `source`, `target`, `delay` and so on. `measures` maps the name of each measure to its
    values, one for each architecture, oriented so that more is better: None where there is none, -inf for what failed.
    In `init` it decides which architectures of the pool are kept, in `evolve` which network is the best. It draws from
    nothing, so that a resumed search ends as an uninterrupted one.
    """
    _callable("a predictor", name, predict)
    about = (inspect.getdoc(predict) or name).partition("\n")[0]
    _add("predictor", name, values.Predictor(predict, about), ("turns", "best", *plugins.names("predictor")))


def transform(value: Any) -> None:
    """A pass under its own name, for `optimize=[...]` and `bcgraph show --graph --optimize`.

    `value` has `name`, `inference_only` (whether training is not the same after it) and `run(graph)`, which gives a
    `bcgraph.compiler.TemporalGraph` that computes the same; the verifier looks at it.
    """
    from bcgraph.compiler.passes import PASSES, is_pass

    if not is_pass(value):
        raise _wrong("a pass", getattr(value, "name", "?"), "a value with `name`, `inference_only` and `run`", value)
    _add("pass", value.name, value, PASSES)


def target(ending: str, write: Callable[[Any], Any]) -> None:
    """A target for files of an ending such as `.txt`, for `bcgraph.export` and `bcgraph compile -o`.

    `write(request)` takes a `bcgraph.compiler.export.request.Request` and returns the content of the file, as text or
    bytes, which is then written; or it writes and returns an `ExportReport` with its own proof. It raises CompileError
    (E073) for what it cannot express, before it writes anything.
    """
    from bcgraph.compiler.targets import TARGETS

    _callable("a target", ending, write)
    _add("target", ending, values.Target(write), TARGETS, _ENDING)


def _callable(what: str, name: str, given: Any) -> None:
    if not callable(given):
        raise _wrong(what, name, "a function", given)


def _wrong(what: str, name: str, wanted: str, given: Any) -> PluginError:
    return PluginError("E040", f"{what} is registered with {wanted}, but `{name}` with {type(given).__name__}")


def _add(kind: Kind, name: str, value: Any, taken: Collection[str], pattern: re.Pattern[str] = _NAME) -> None:
    if not isinstance(name, str) or not pattern.fullmatch(name) or name in KEYWORDS:
        hint = "a dot, then letters and digits" if pattern is _ENDING else "letters, digits and `_`, and no keyword"
        raise PluginError("E005", f"{name!r} cannot be the name of a {TITLES[kind]}", hint=hint)
    origin = _origin()
    if name in taken:
        raise PluginError(
            "E036",
            f"`{name}` is a {TITLES[kind]} of bcgraph itself",
            notes=(f"it is registered by {origin}",),
            hint="give yours another name",
        )
    REGISTRY.add(Entry(kind, name, value, origin))


def _origin() -> Origin:
    """Where the call stands that registers: the first frame outside of this module."""
    frame = sys._getframe(1)
    while frame.f_globals.get("__name__") == __name__ and frame.f_back is not None:
        frame = frame.f_back
    package, version = owner(str(frame.f_globals.get("__name__", ""))) or (None, None)
    return Origin(frame.f_code.co_filename, frame.f_lineno, package, version)

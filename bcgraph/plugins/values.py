"""What can be registered, as values. Nothing here imports torch: functions are called when they are needed."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, TypeAlias

Shape: TypeAlias = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Argument:
    """What a call of a registered layer may be given: `kind` is bool, int, float or str."""

    name: str
    kind: type
    required: bool
    default: Any = None


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer: see `bcgraph.register.layer`."""

    module: Callable[..., Any] | str
    shape: Callable[..., Shape]
    arguments: tuple[Argument, ...] = ()
    operations: Callable[..., int] | None = None
    parameters: Callable[..., int] | None = None
    emitters: Mapping[str, Callable[..., Any]] = field(default_factory=dict)
    random: bool = False

    def build(self) -> Callable[..., Any]:
        """What makes the module: a path is imported now. Raises whatever importing it raises."""
        if not isinstance(self.module, str):
            return self.module
        path, _, name = self.module.partition(":")
        found: Callable[..., Any] = getattr(import_module(path), name)
        return found


@dataclass(frozen=True, slots=True)
class Target:
    """A target: `write(request)` proves and writes a file."""

    write: Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Data:
    """A data set: a function of a request, or a torch Dataset (or a pair of them, for training and test)."""

    source: Any
    takes_request: bool


@dataclass(frozen=True, slots=True)
class OfSpikes:
    """A score of what neurons send, one layer and step at a time.

    `term(codes)` is what the spikes `[N, ...]` of one layer in one step add, and `result(terms)` makes the score of the
    terms of all layers and steps, in their order: a number, or a `ScoreResult` with the reason why a network is dead.
    A term depends on nothing else, so that candidates share those of the layers where they do not differ.
    """

    term: Callable[[Any], Any]
    result: Callable[[Iterable[Any]], Any]


@dataclass(frozen=True, slots=True)
class OfGradients:
    """A score of the gradients of the output with respect to the input.

    `result(rows, y)` makes the score, as for `OfSpikes`, of one row `[N, D]` for each sample and of the labels `[N]`.
    """

    result: Callable[[Any, Any], Any]


@dataclass(frozen=True, slots=True)
class OfConnections:
    """A score of the specification alone, `measure(spec)`, which needs no network and no data."""

    measure: Callable[[Any], float]


@dataclass(frozen=True, slots=True)
class Score:
    """A score, the higher the better, what it is called in pictures and tables, and what it says, in a few words.

    `measure` is `OfSpikes` or `OfGradients`, which need one forward pass for all scores and share what candidates have
    in common, `OfConnections`, which needs no network, or a function `measure(model, x, y)` of the network itself. A
    score that compares samples of one class (`classes`) needs a batch with two of them.
    """

    measure: OfSpikes | OfGradients | OfConnections | Callable[[Any, Any, Any], Any]
    label: str
    about: str = ""
    classes: bool = False


@dataclass(frozen=True, slots=True)
class Predictor:
    """What a search chooses by, and what it says, in a few words.

    `predict(architectures, measures)` gives one number for each architecture, the higher the better. An architecture is
    a tuple of its connections, which are pairs (source, target), or in a `space` members with delay, projection and so
    on. `measures` holds by name what is known of them, one value for each, the higher the better: None where it was not
    measured, -inf where a candidate failed.
    """

    predict: Callable[[Any, Any], Iterable[float]]
    about: str


@dataclass(frozen=True, slots=True)
class Contradiction:
    """A setting of `evolve` that cannot be met, why, and what would do."""

    setting: str
    message: str
    hint: str


def nothing(spec: Any) -> Iterable[Contradiction]:
    """The contradictions of a strategy that takes all settings."""
    return ()


@dataclass(frozen=True, slots=True)
class Strategy:
    """A strategy: what it does, in a few words, and one of four functions.

    `propose(population, rng, **settings)` gives architectures, of which the first new ones are the next iteration;
    random ones fill it up. `candidates(population, iteration)` gives the candidates of the iteration as they are, none
    of them evaluated before. `run(spec, train, history=...)` is a search in one training run: it gives the records of
    its stages. `loop(spec, evaluate, seed=..., initial=..., history=...)` is all of step two; `evaluate` trains each
    network as it says, and the records of the last iteration are those of the networks that were trained to the end.

    `settings` is a `schema.values.Frozen` with the settings of `evolve` that count with this strategy alone.
    `network(spec, architecture)` is the network of an architecture, where connections are not put into `spec` as they
    are. `contradictions` are of settings that no text may have
    together, `obstacles` those that stop a search before it begins.
    """

    about: str
    propose: Callable[..., Any] | None = None
    candidates: Callable[[Any, int], list[Any]] | None = None
    run: Callable[..., Iterator[Any]] | None = None
    loop: Callable[..., Iterator[Any]] | None = None
    settings: type[Any] | None = None
    network: Callable[[Any, Any], Any] | None = None
    contradictions: Callable[[Any], Iterable[Contradiction]] = nothing
    obstacles: Callable[[Any], Iterable[Contradiction]] = nothing


_KINDS: Mapping[str, type] = {"bool": bool, "int": int, "float": float, "str": str}


def arguments_of(rule: Callable[..., Any]) -> tuple[Argument, ...]:
    """The arguments of a layer, from its shape rule: all but the first. Raises TypeError for other signatures."""
    _, *rest = inspect.signature(rule).parameters.values()
    found = []
    for each in rest:
        if each.kind in (each.VAR_POSITIONAL, each.VAR_KEYWORD):
            raise TypeError("a shape rule names each argument of its layer")
        annotation = each.annotation
        kind = _KINDS.get(annotation) if isinstance(annotation, str) else annotation
        required = each.default is each.empty
        if annotation is each.empty and not required:
            kind = type(each.default)
        if kind not in _KINDS.values():
            raise TypeError(f"the argument `{each.name}` of a layer is annotated with bool, int, float or str")
        assert kind is not None
        found.append(Argument(each.name, kind, required, None if required else each.default))
    return tuple(found)

"""Passes, one a file, here and in the folders here: temporal graph in, temporal graph out. `PASSES` has all of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module

from bcgraph import plugins
from bcgraph.compiler.passes.base import Pass, run
from bcgraph.errors import CompileError, nearest
from bcgraph.lazy import homes

__all__ = ["PASSES", "Pass", "find", "run"]


def is_pass(value: object) -> bool:
    """Whether a value has all that a pass has."""
    return all(hasattr(value, part) for part in ("name", "inference_only", "run"))


def _found() -> Iterator[Pass]:
    """A value of each pass that a module here defines, with the options that it has unless told otherwise."""
    for path in homes("bcgraph.compiler", "passes").values():
        module = import_module(path)
        for value in vars(module).values():
            if isinstance(value, type) and value.__module__ == module.__name__ and is_pass(value):
                yield value()


PASSES: Mapping[str, Pass] = {each.name: each for each in _found()}


# Names that passes had before.
_FORMER: Mapping[str, str] = {"fuse_lif": "fuse_neuron"}


def find(chosen: Sequence[str | Pass]) -> tuple[Pass, ...]:
    """The passes in `chosen`, in this order: names of `PASSES` or of registered passes, or passes with their options.

    Raises CompileError (E072) for an unknown name, and for what is no pass.
    """
    return tuple(_find(each) for each in chosen)


def _find(chosen: str | Pass) -> Pass:
    if not isinstance(chosen, str):
        if not is_pass(chosen):
            raise CompileError(
                "E072", f"{chosen!r} is not a pass", hint="a pass has `name`, `inference_only` and `run(graph)`"
            )
        return chosen
    chosen = _FORMER.get(chosen, chosen)
    if chosen in PASSES:
        return PASSES[chosen]
    entry = plugins.find("pass", chosen)
    if entry is None:
        known = (*PASSES, *(e.name for e in plugins.REGISTRY.entries() if e.kind == "pass"))
        hint = nearest(chosen, known) or f"known: {', '.join(sorted(known))}"
        raise CompileError("E072", f"there is no pass `{chosen}`", hint=hint)
    found: Pass = entry.value
    return found

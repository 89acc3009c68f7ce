"""The files of a supernet: of which search they are, and the weights that a network has in them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bcgraph import spaces, weights
from bcgraph.errors import RunError
from bcgraph.schema import NetworkSpec
from bcgraph.search.space.members import MemberSpace
from bcgraph.search.space.search_space import SearchSpace, of_search, wired
from bcgraph.training.checkpoint import MODEL, under

STATE = "supernet-state.safetensors"
WEIGHTS = "supernet.safetensors"

_MACHINE = frozenset(("dtype", "schedule", "devices", "on", "precision"))
"""What a checkpoint says of how it was trained, apart from what the search and its seed say."""


def identity(spec: NetworkSpec, seed: int) -> dict[str, Any]:
    """What the search and the seed of a supernet say of its training."""
    settings = spec.search
    return {
        "fingerprint": named(spec, of_search(spec)).fingerprint(),
        "seed": seed,
        "max_backward": settings.max_backward,
        **({} if settings.space is None else {"space": settings.space.model_dump(mode="json")}),
        "epochs": settings.supernet.epochs,
        "train": spec.train.model_dump(mode="json", exclude={"epochs"}),
        "batch": spec.data.batch,
        # Left out at its default, as in checkpoints from before there was a choice.
        **({} if spec.feedback.gain == 1.0 else {"gain": spec.feedback.gain}),
    }


def everything(spec: NetworkSpec, space: SearchSpace) -> tuple[NetworkSpec, ...]:
    """Networks that hold every connection of the space: one in the paper's, where all can stand together."""
    if isinstance(space, MemberSpace):
        return tuple(wired(spec, members) for members in space.covers())
    return (spec.with_connections(space.pair(i) for i in range(space.pairs)),)


def named(spec: NetworkSpec, space: SearchSpace) -> NetworkSpec:
    """The network that files of the weights name: with all connections, or the backbone alone."""
    found = everything(spec, space)
    return found[0] if len(found) == 1 else wired(spec, ())


def weights_in(checkpoint: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights in the tensors of a checkpoint."""
    return under(checkpoint, MODEL)


def same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    """Whether two state dicts have the same names and values."""
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def inherited(path: Path, spec: NetworkSpec, seed: int, best: NetworkSpec) -> dict[str, Tensor]:
    """The weights that the network `best` has in the supernet of the search of `spec` in `path`, by standard names.

    They are those of its checkpoint, which says of which search it is; where there is none any more, those of
    `supernet.safetensors`. Raises WeightsError (E082) when there is no supernet, RunError (E085) when it is another.
    """
    if not (path / STATE).exists():
        return spaces.inherited(weights.load(path / WEIGHTS, spec=named(spec, of_search(spec))), best)
    tensors, described = weights.unpack(path / STATE)
    kept = described.get("identity")
    if not isinstance(kept, dict) or {k: v for k, v in kept.items() if k not in _MACHINE} != identity(spec, seed):
        raise of_another(path / STATE)
    return spaces.inherited(weights_in(tensors), best)


def of_another(path: Path) -> RunError:
    """The error for the checkpoint of another supernet."""
    return RunError("E085", f"`{path}` holds the supernet of something else", hint="start in a new directory")

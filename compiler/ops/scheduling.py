"""What only schedules emit: steps taken out of a tensor of all steps, and put together again."""

from __future__ import annotations

from collections.abc import Mapping

from bcgraph.compiler.ops.base import Op, Trait, must_build, same_shape

SCHEDULING: Mapping[str, Op] = {
    "frame": Op(1, 1, same_shape, must_build, "one step of a sequence"),
    "stack": Op(1, None, same_shape, must_build, "all steps of [N, ...] as [T, N, ...]", Trait.ALLOCATES),
    "fold_frames": Op(1, 1, same_shape, must_build, "a sequence [T, N, ...] as [T*N, ...]"),
    "fold": Op(1, None, same_shape, must_build, "all steps of [N, ...] as [T*N, ...]"),
    "repeat": Op(1, 1, same_shape, must_build, "[N, ...] for each step, as [T*N, ...]"),
    "shift": Op(1, 1, same_shape, must_build, "[T*N, ...] late by `delay` steps, zero before"),
    "at": Op(1, 1, same_shape, must_build, "one step of [T*N, ...]"),
    "unfold": Op(1, 1, same_shape, must_build, "[T*N, ...] as [T, N, ...]"),
}

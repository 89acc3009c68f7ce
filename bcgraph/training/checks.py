"""What must hold before training begins, so that nothing is computed or written in vain."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from bcgraph import projections, schema, shapes
from bcgraph.data.declaration import too_many_or_few
from bcgraph.errors import CompileError, DataError, RunError, nearest
from bcgraph.schema import NetworkSpec
from bcgraph.shapes import Shape

if TYPE_CHECKING:
    from bcgraph.data.split import Split


def schedule(name: str) -> None:
    """Raise CompileError (E072) for a schedule that is unknown, or whose module takes one step instead of all."""
    from bcgraph.compiler.schedules import SCHEDULES

    known = [each for each in SCHEDULES if each != "step"]
    if name not in known:
        raise CompileError(
            "E072",
            f"there is no schedule `{name}` to train with",
            hint=nearest(name, known) or f"known: {', '.join(known)}",
        )


def directory(out: Path) -> None:
    """Raise RunError (E085) for the directory of a search, whose `spec.bcg` and `best.safetensors` are its own."""
    if (out / "run.json").exists():
        raise RunError("E085", f"`{out}` holds a search", hint="give the training a directory of its own")


def classes(spec: NetworkSpec, names: tuple[str, ...]) -> None:
    """Raise DataError (E081) unless the network has one output for each of `names`."""
    number = shapes.outputs(spec)
    if number != len(names):
        raise too_many_or_few(spec.data, len(names), number)


def batch(spec: NetworkSpec, devices: int) -> None:
    """Raise RunError (E041) when a batch has not two samples for each part that is computed on its own.

    One sample is enough where every batch norm sees several places of it.
    """
    parts(spec, devices * spec.train.accumulate)
    if spec.data.batch == 1:
        single = next((name for name, places in _normalized(spec) if places == 1), None)
        if single is not None:
            raise RunError(
                "E041",
                f"a batch of 1 leaves the batch norm `{single}` with one value a channel",
                hint="batch norm needs two values: a batch of 2 or more",
            )


def parts(spec: NetworkSpec, number: int) -> None:
    """Raise RunError (E041) when a batch has not two samples for each of `number` parts, where there are several."""
    if number > 1 and spec.data.batch < 2 * number:
        raise RunError(
            "E041",
            f"a batch of {spec.data.batch} cannot be computed in {number} parts",
            hint=f"batch norm needs two samples in each: a batch of {2 * number} or more",
        )


def samples(split: Split, batch: int, devices: int) -> None:
    """Raise DataError (E081) when `split` has not two samples for each device, which batch norm needs."""
    number = len(split)
    if number < min(batch, 2 * devices):
        raise DataError(
            "E081",
            f"the training part of the data set `{split.source.name}` has {number} sample{'s' * (number != 1)}",
            hint=f"training needs {2 * devices} or more",
        )


def _frame(spec: NetworkSpec) -> Shape:
    form = spec.input
    return form.shape


def _normalized(spec: NetworkSpec) -> Iterator[tuple[str, int]]:
    """Every batch norm with the number of places at which it sees a sample, those of connections included."""
    prefixes = spec.prefixes()
    for node, shape in shapes.walk(spec.backbone.body, _frame(spec)):
        if isinstance(node, schema.BatchNorm):
            yield node.name, math.prod(shapes.spatial(shape))
    for each in spec.connections:
        for node, shape in projections.walk(spec, each, prefixes[each]):
            if isinstance(node, schema.BatchNorm):
                yield node.name, math.prod(shapes.spatial(shape))

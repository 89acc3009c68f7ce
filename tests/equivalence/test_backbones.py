"""The standard backbones, written in the language, narrow and on small images, against the reference."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest

from bcgraph import dsl, schema
from tests.equivalence.support import SCHEDULES, compare

TEXT = """
bcg 1

network net {{
  input = {input}
  steps = {steps}
  neuron = {neuron}
  backbone = {backbone}
  {backward}
}}
"""

STATIC = "image(3, 16, 16)"
FRAMES = "sequence(2, 16, 16)"

# Backbone, what it is fed, and how many ports it has.
BACKBONES = {
    "tiny": ("tiny(width=4, classes=5)", STATIC, 5),
    "tiny-frames": ("tiny(width=4, classes=5)", FRAMES, 5),
    "tiny-plain": ("tiny(width=4, classes=5, residual=false)", STATIC, 5),
    "resnet18": ("resnet18(width=4, classes=5)", STATIC, 17),
    "resnet18-frames": ("resnet18(width=4, classes=5)", FRAMES, 17),
    "resnet18-plain": ("resnet18(width=4, classes=5, residual=false)", STATIC, 17),
    "resnet19": ("resnet19(width=4, classes=5)", STATIC, 18),
    "resnet34": ("resnet34(width=4, classes=5)", STATIC, 33),
    "vggsnn": ("vggsnn(width=4, classes=5)", FRAMES, 8),
    "sew-iand": ("sew_resnet18(width=4, classes=5, connect=iand)", STATIC, 20),
    "ms": ("ms_resnet18(width=4, classes=5)", STATIC, 17),
    "spikformer": ("spikformer(width=16, classes=5, depth=1, heads=2)", STATIC, 10),
    "sdt": ("sdt(width=16, classes=5, depth=1)", STATIC, 12),
    "conv1d": ("conv1d(width=4, classes=5)", "sequence(2, 64)", 4),
}


def network(
    name: str,
    backward: list[tuple[int, ...]],
    *,
    steps: int = 3,
    neuron: str = "lif()",
) -> schema.NetworkSpec:
    backbone, given, ports = BACKBONES[name]
    # The deepest port by a negative number, as in a list.
    pairs = [(j % ports, i % ports, *delay) for j, i, *delay in backward]
    lines = [f"backward @{j} -> @{i} {{ delay = {d[0]} }}" if d else f"backward @{j} -> @{i}" for j, i, *d in pairs]
    text = TEXT.format(input=given, steps=steps, neuron=neuron, backbone=backbone, backward="\n  ".join(lines))
    spec = dsl.parse(text)
    assert len(spec.ports) == ports
    assert [(bc.source, bc.target, bc.delay) for bc in spec.backward] == [(*p, 1)[:3] for p in pairs]
    return spec


CONNECTIONS: dict[str, list[tuple[int, ...]]] = {
    "none": [],
    "self": [(1, 1), (-1, -1)],
    "longest": [(-1, 0)],
    "several-on-one": [(-1, 1), (-2, 1, 2), (1, 1, 3)],
    "crossing": [(-1, 2, 2), (-2, 0), (3, 3)],
}


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize(("backward", "training"), [("none", True), ("crossing", True), ("crossing", False)])
@pytest.mark.parametrize("name", BACKBONES)
def test_backbones(name: str, backward: str, training: bool, schedule: str) -> None:
    compare(network(name, CONNECTIONS[backward]), schedule, training=training)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("backward", CONNECTIONS)
def test_tiny_with_every_set(backward: str, training: bool, schedule: str) -> None:
    spec = network("tiny", CONNECTIONS[backward], steps=5, neuron="lif(tau=0.7, reset=soft, detach_reset=true)")
    compare(spec, schedule, training=training)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("steps", [1, 2, 6])
def test_steps(steps: int, schedule: str) -> None:
    compare(network("resnet18", [(16, 0), (8, 2, 3)], steps=steps), schedule, training=True)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_onto_a_port_without_spatial_axes(schedule: str) -> None:
    """ResNet-19's last port is a vector: a source of its own, and for every earlier port."""
    spec = network("resnet19", [(17, 17), (17, 16, 2), (17, 0)])
    assert spec.ports[17] == "lif2"
    compare(spec, schedule, training=True)
    compare(spec, schedule, training=False)


def every_set() -> Iterator[Any]:
    """Each backbone with each set, in each schedule and mode; by day in one of them, so that all pairs are met.

    `test_backbones` has each backbone in each schedule and mode, `test_tiny_with_every_set` each set.
    """
    ways = list(itertools.product(SCHEDULES, (False, True)))
    for (i, name), (j, backward) in itertools.product(enumerate(BACKBONES), enumerate(CONNECTIONS)):
        for k, (schedule, training) in enumerate(ways):
            marks = () if (i + j) % len(ways) == k else (pytest.mark.nightly,)
            mode = "train" if training else "eval"
            yield pytest.param(
                name, backward, training, schedule, marks=marks, id=f"{name}-{backward}-{mode}-{schedule}"
            )


@pytest.mark.slow
@pytest.mark.parametrize(("name", "backward", "training", "schedule"), every_set())
def test_backbones_with_every_set(name: str, backward: str, training: bool, schedule: str) -> None:
    spec = network(name, CONNECTIONS[backward], steps=4, neuron="lif(tau=0.25, threshold=0.75)")
    compare(spec, schedule, training=training, size=4)

"""What a person sees of a specification, a graph and a program in an interpreter or a notebook."""

from __future__ import annotations

import pytest

import bcgraph
from bcgraph.compiler import lower, pipelines

SPEC = bcgraph.load("specs/resnet18_cifar10.bcg")

WIDTH, LINES = 100, 4


def test_a_spec_is_one_line() -> None:
    assert repr(SPEC) == (
        "<NetworkSpec resnet18_cifar10: image(3, 32, 32), T = 4, resnet18(width=64, classes=10, residual=true), "
        "17 ports, backward: @16 -> @0, @8 -> @2, @3 -> @3 { delay = 2 }>"
    )
    assert str(SPEC) == repr(SPEC)
    assert repr(SPEC.with_backward(())).endswith("17 ports, backward: none>")


def test_many_connections_are_counted() -> None:
    many = SPEC.with_backward([(j, i) for j in range(17) for i in range(j + 1)])
    assert repr(many).endswith("@3 -> @1, 145 more>")


@pytest.mark.parametrize("schedule", ["unrolled", "folded", "step"])
def test_graphs_and_programs_fit_a_screen(schedule: str) -> None:
    graph = lower(SPEC)
    assert str(graph).startswith(
        "<TemporalGraph resnet18_cifar10: image, T = 4, 17 ports, 113 nodes (51 equation, 23 conv, 23 bn,"
    )
    assert str(graph).endswith("20 delayed edges>")
    program = pipelines.program(SPEC, schedule)
    assert str(program).startswith(f"<Program resnet18_cifar10: {schedule}, T = 4, ")
    for shown in (graph, program, SPEC):
        assert len(str(shown)) <= WIDTH * LINES


def test_a_notebook_draws_a_spec() -> None:
    picture = SPEC._repr_svg_()
    assert picture.startswith("<svg")
    assert picture != SPEC.with_backward(())._repr_svg_()

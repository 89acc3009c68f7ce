"""Each pass and each schedule on one small network, against the text kept beside this file.

`python -m tests.golden.test_golden` writes the texts anew; read the difference before keeping it.
"""

from __future__ import annotations

from pathlib import Path

import pytest

import bcgraph
from bcgraph.compiler import graph_text, lower, passes, pipelines, program_text, schedules

HERE = Path(__file__).parent
PASSES = (
    "dce",
    "sink_resize",
    "flatten_projections",
    "merge_projections",
    "fold_bn",
    "fold_sums",
    "round_weights",
    "fuse_neuron",
    "hoist",
    "pack_spikes",
    "defer_norm",
    "defer_sums",
    "fuse_conv",
    "fuse_loop",
)
# What a pass has to stand after to find anything to do.
AFTER = {
    "fuse_loop": ("flatten_projections", "fuse_neuron"),
    "fuse_conv": ("fold_bn", "fuse_neuron"),
    "merge_projections": ("dce", "sink_resize"),
    "round_weights": ("fold_bn",),
    "fold_sums": ("dce", "sink_resize", "merge_projections"),
    "defer_sums": ("dce", "sink_resize", "merge_projections"),
}
# Passes for many connections are shown on a network that has some.
NETWORK = dict.fromkeys(("merge_projections", "fold_sums", "defer_sums"), "several.bcg") | dict.fromkeys(
    ("flatten_projections", "fuse_loop"), "vectors.bcg"
)
NAMES = ("lower", *PASSES, "pipeline", "unrolled", "folded", "step")


def text(name: str) -> str:
    graph = lower(bcgraph.load(HERE / NETWORK.get(name, "small.bcg")))
    if name == "lower":
        return graph_text(graph)
    if name in PASSES:
        return graph_text(passes.run(passes.find((*AFTER.get(name, ()), name)), graph))
    graph = passes.run(passes.find(pipelines.INFERENCE), graph)
    return graph_text(graph) if name == "pipeline" else program_text(pipelines.scheduled(graph, name))


@pytest.mark.parametrize("name", NAMES)
def test_text(name: str) -> None:
    assert text(name) == (HERE / f"{name}.txt").read_text()


def test_every_pass_and_schedule_has_a_text() -> None:
    assert set(PASSES) == set(passes.PASSES)
    assert set(NAMES) >= set(schedules.SCHEDULES)


def test_a_pass_that_changes_nothing_returns_the_same_graph() -> None:
    spec = bcgraph.load(HERE / "small.bcg").with_backward([])
    graph = passes.run(passes.find(PASSES), lower(spec))
    for name in PASSES:
        assert passes.PASSES[name].run(graph) is graph, name


if __name__ == "__main__":
    for each in NAMES:
        (HERE / f"{each}.txt").write_text(text(each))

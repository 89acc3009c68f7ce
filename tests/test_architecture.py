"""docs/architecture.md shows what the compiler really makes, and names files that are there."""

import re
from pathlib import Path

import onnx

import bcgraph
from bcgraph.compiler import graph_text, lower, passes, program_text, schedules

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs/architecture.md").read_text()
SPEC = ROOT / "specs/tiny_digits_rows.bcg"


def test_named_files_exist() -> None:
    named = re.findall(r"`((?:bcgraph|compiler|specs)/[^`]*)`", PAGE)
    assert len(named) > 15
    for name in named:
        assert (ROOT / name).exists(), name


def test_shown_lines_are_real() -> None:
    spec = bcgraph.load(SPEC)
    graph = lower(spec)
    smaller = passes.run(passes.find(("sink_resize", "fuse_neuron")), graph)
    unrolled = schedules.schedule("unrolled", smaller)
    real = {
        line.strip()
        for text in (graph_text(graph), graph_text(smaller), program_text(unrolled))
        for line in text.splitlines()
    }
    shown = re.findall(r"^(%.*)$", PAGE, re.MULTILINE)
    assert len(shown) == 10
    assert set(shown) <= real
    assert "backward layer2.0.lif2 -> lif1" in SPEC.read_text()


def test_the_nodes_at_the_end_of_the_page(tmp_path: Path) -> None:
    bcgraph.export(bcgraph.load(SPEC), tmp_path / "net.onnx")
    nodes = onnx.load(tmp_path / "net.onnx").graph.node
    kinds = [node.op_type for node in nodes if node.name.startswith("backward.4_0.") and node.name.endswith("@t0")]
    assert kinds == ["Conv", "Resize"]
    (resize,) = [n for n in nodes if n.op_type == "Resize" and n.name.endswith("@t0") and "4_0" in n.name]
    found = {a.name: a.s for a in resize.attribute if a.type == onnx.AttributeProto.STRING}
    assert found["mode"] == b"nearest"
    assert found["coordinate_transformation_mode"] == b"asymmetric"
    assert found["nearest_mode"] == b"floor"

import json
import re
from pathlib import Path

from tests.cli.conftest import TINY, Command

SHOWN = """\
network   tiny_net
input     image 1x8x8, 2 steps, readout mean
backbone  tiny(width=4, classes=10, residual=true)
"""


def test_tables(bcgraph: Command, tiny: Path) -> None:
    done = bcgraph("show", "net.bcg")
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith(SHOWN)
    rows = [line.split() for line in done.out.splitlines()]
    assert ["@0", "lif1", "4x8x8"] in rows
    assert ["@1", "layer1.0.lif1", "4x8x8", "@4"] in rows
    assert ["@4", "layer2.0.lif2", "8x4x4"] in rows


def test_sizes_are_those_of_the_built_network(bcgraph: Command, tiny: Path) -> None:
    import bcgraph as package

    data = json.loads(bcgraph("show", "--json", "net.bcg").out)
    model = package.compile(package.load(tiny))
    assert data["parameters"] == sum(p.numel() for p in model.parameters())
    assert [port["name"] for port in data["ports"]] == list(package.load(tiny).ports)
    assert data["fingerprint"] == package.load(tiny).fingerprint()
    assert data["spec"]["backward"] == [{"source": 4, "target": 1, "delay": 1}]


def test_graph(process: Command, bcgraph: Command, tiny: Path) -> None:
    done = bcgraph("show", "--graph", "net.bcg")
    assert done.out.startswith("graph tiny_net (steps=2, input=image) {\n")
    assert "%backward.4_1.bn@-1" in done.out
    assert done.out == process("show", "--graph", "-", stdin=TINY.encode()).out


def test_schema_accepts_what_show_prints(bcgraph: Command, tiny: Path) -> None:
    schema = json.loads(bcgraph("schema").out)
    spec = json.loads(bcgraph("show", "--json", "net.bcg").out)["spec"]
    assert set(schema["required"]) <= set(spec) <= set(schema["properties"])


def test_a_reader_that_leaves_early_is_no_error(tiny: Path) -> None:
    import subprocess
    import sys

    process = subprocess.Popen(
        [sys.executable, "-m", "bcgraph", "schema"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait(60) == 0


def test_full_standard_output(tiny: Path) -> None:
    import subprocess
    import sys

    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "bcgraph", "show", tiny], stdout=full, stderr=subprocess.PIPE, check=False
        )
    assert done.returncode == 1
    assert done.stderr.decode() == "error[E084]: standard output cannot be written: No space left on device\n"


def test_passes_are_shown_before_and_after(process: Command, tiny: Path) -> None:
    """The lowered graph, and each pass of the pipeline with what it made of nodes and operations, and its graph."""
    from bcgraph.compiler import pipelines

    for pipeline, option in ((pipelines.TRAINING, ()), (pipelines.INFERENCE, ("--inference",))):
        done = process("show", "--passes", *option, "net.bcg")
        assert (done.code, done.err) == (0, "")
        first, *heads = [line for line in done.out.splitlines() if line.startswith("#")]
        assert [head.split(":")[0] for head in heads] == [f"# {name}" for name in pipeline]
        counts = [first, *(head for head in heads if not head.endswith("nothing to do"))]
        assert done.out.count("graph tiny_net (steps=2, input=image) {") == len(counts)
        nodes = int(first.split()[2])
        for head in counts[1:]:
            before, arrow, after = head.split()[2:5]
            assert (int(before), arrow) == (nodes, "->")
            nodes = int(after)
        operations = [int(line.split(", ")[1].split()[0].replace(",", "")) for line in counts]
        assert operations == sorted(operations, reverse=True)
        assert operations[-1] < operations[0]
        graph = done.out[done.out.rindex("graph tiny_net") :]
        assert nodes == sum(" = " in line for line in graph.splitlines())


def test_learned_scales_are_shown_wherever_a_run_is(bcgraph: Command, tmp_path: Path) -> None:
    """Of a training run that started quietly: in tables, as data, and as the width of a line."""
    import torch

    from bcgraph import compile as compile_spec
    from bcgraph import dsl, weights

    quiet = "  feedback = project(gain=0.1)\n  backbone"
    text = Path("specs/tiny_digits_rows.bcg").read_text().replace("  backbone", quiet)
    spec = dsl.parse(text).with_backward([(4, 0), (3, 3)])
    state = dict(compile_spec(spec).state_dict())
    state["backward.4_0.bn.weight"] = torch.full((16,), -0.5)
    run = tmp_path / "run"
    run.mkdir()
    (run / "spec.bcg").write_text(dsl.format_spec(spec))
    weights.save(run / "last.safetensors", state, spec=spec)
    shown = bcgraph("show", "run").out
    assert "@4 (gain 0.1, scale 0.50)" in shown
    assert "@3 (gain 0.1, scale 0.10)" in shown
    data = json.loads(bcgraph("show", "run", "--json").out)
    assert [(s["source"], s["target"], round(s["scale"], 4)) for s in data["scales"]] == [(3, 3, 0.1), (4, 0, 0.5)]
    # Without weights there is a gain, and nothing learned.
    plain = bcgraph("show", "run/spec.bcg").out
    assert "@4 (gain 0.1)" in plain
    costs = bcgraph("profile", "run", "--batches", "0").out
    assert re.search(r"@4 -> @0 +1 +0\.50 ", costs)
    widths = []
    for source in ("run", "run/spec.bcg"):
        bcgraph("draw", source, "-o", "net.svg")
        widths.append(sorted(set(re.findall(r"stroke-width=\"([0-9.]+)\"", (tmp_path / "net.svg").read_text()))))
    assert widths[0] != widths[1]

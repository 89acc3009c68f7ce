import json
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

"""What would take hours to write is refused before it is built; a step is written whatever the number of steps."""

from __future__ import annotations

from pathlib import Path

import pytest

import bcgraph
from bcgraph import dsl, runtime
from bcgraph.compiler.export import bounds
from bcgraph.errors import CompileError

CHAIN = """bcg 1
block chain() { flatten(); fc1 = linear(8); lif1 = lif(); fc2 = linear(8); lif2 = lif(); fc = linear(10) }
network net { input = image(1, 8, 8); steps = STEPS; backbone = chain(); CONNECTIONS }
"""


def network(steps: int, connections: str = "backward @1 -> @0") -> bcgraph.NetworkSpec:
    return dsl.parse(CHAIN.replace("STEPS", str(steps)).replace("CONNECTIONS", connections))


@pytest.mark.parametrize("name", ["net.onnx", "net.py", "net.pt2", "net.nir"])
def test_too_many_steps_to_write_out(tmp_path: Path, name: str) -> None:
    with pytest.raises(CompileError, match=r"8 layers and projections in 10,000 steps are more than 50,000") as caught:
        bcgraph.export(network(10_000), tmp_path / name)
    assert caught.value.code == "E054"
    assert not (tmp_path / name).exists()


def test_a_step_of_a_long_network(tmp_path: Path) -> None:
    assert bounds.shortened(network(10_000)).steps == bounds.PROVED_STEPS
    assert bounds.shortened(network(7)) == network(7)
    bcgraph.export(network(10_000), tmp_path / "net.onnx", form="step")
    assert runtime.Network(tmp_path / "net.onnx").signature.steps == 10_000


def test_too_many_states() -> None:
    connections = "; ".join(f"backward @{j} -> @{i} {{ delay = 1000 }}" for j, i in [(0, 0), (1, 0), (1, 1)])
    assert len(bcgraph.compile(network(4, connections), schedule="step").graph.nodes) > 3000
    wide = "; ".join(f"fc{i} = linear(4); lif{i} = lif()" for i in range(6))
    text = CHAIN.replace("fc1 = linear(8); lif1 = lif(); fc2 = linear(8); lif2 = lif()", wide).replace("STEPS", "4")
    all_pairs = "; ".join(f"backward @{j} -> @{i} {{ delay = 1000 }}" for j in range(6) for i in range(j + 1))
    with pytest.raises(CompileError, match=r"one step would carry [\d,]+ states, at most 5,000") as caught:
        bcgraph.compile(dsl.parse(text.replace("CONNECTIONS", all_pairs)), schedule="step")
    assert caught.value.code == "E054"

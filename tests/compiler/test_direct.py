"""A program that is called directly gives the bits of the module that is compiled from it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import bcgraph
from bcgraph.compiler import pipelines
from bcgraph.compiler.lower import lower
from bcgraph.compiler.targets.fx import nodes
from bcgraph.compiler.targets.fx.direct import Direct
from bcgraph.compiler.targets.fx.module import parameters, to_fx
from bcgraph.schema import NetworkSpec

TINY = "backbone = tiny(width=3, classes=5)"
NETWORKS = {
    "image": f"input = image(1, 8, 8); steps = 3; {TINY}; backward @4 -> @1; backward @2 -> @0 {{ delay = 2 }}",
    "sequence": f"input = sequence(2, 8, 8); steps = 3; neuron = plif(); {TINY}; backward @4 -> @1 {{ join = mul }}",
    "forward connection": f"input = image(1, 8, 8); steps = 2; {TINY}; forward @1 -> @3 {{ delay = 1 }}",
    "vectors": "input = image(1, 4, 4); steps = 4; backbone = dense(); backward @1 -> @0",
}
DENSE = """
block dense() { flatten(); fc1 = linear(8); lif1 = neuron(); fc2 = linear(8); lif2 = neuron(); fc3 = linear(5) }
"""


def samples(spec: NetworkSpec) -> Tensor:
    lead = (spec.steps, 4) if spec.input.kind == "sequence" else (4,)
    return torch.randn(*lead, *spec.input.shape, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("schedule", ["unrolled", "folded"])
@pytest.mark.parametrize(
    "optimize", [pipelines.TRAINING, pipelines.CANDIDATE, ("dce",)], ids=["training", "candidate", "plain"]
)
@pytest.mark.parametrize("name", NETWORKS)
def test_it_gives_the_bits_of_the_module(name: str, optimize: Any, schedule: str) -> None:
    agree(NETWORKS[name], optimize, schedule)


def test_norms_of_each_step() -> None:
    agree(NETWORKS["image"].replace("steps = 3", "steps = 3; norm = bn(statistics=per_step)"), ("dce",), "unrolled")


def agree(text: str, optimize: Any, schedule: str) -> None:
    spec = bcgraph.parse(f"bcg 1\n{DENSE}\nnetwork n {{ {text} }}")
    graph = pipelines.optimized(spec, optimize)
    program = pipelines.scheduled(graph, schedule)
    found: list[list[Tensor]] = []
    for made in (to_fx, Direct):
        root: nn.Module = parameters(lower(spec))
        model = made(program, root)
        x = samples(spec).requires_grad_()
        outputs = model(x)
        (output,) = outputs if isinstance(outputs, tuple) else (outputs,)
        output.square().sum().backward()
        assert x.grad is not None
        state = [*(p.grad for p in root.parameters() if p.grad is not None), *root.buffers()]
        found.append([output.detach(), x.grad, *state])
    for ours, theirs in zip(*found, strict=True):
        assert torch.equal(ours, theirs)


def test_no_value_is_kept_longer_than_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = bcgraph.parse(f"bcg 1\nnetwork n {{ {NETWORKS['image']} }}")
    program = pipelines.program(spec, "unrolled", pipelines.CANDIDATE)
    held: list[set[str]] = []
    emit = nodes._EMIT["neuron"]

    def counted(caller: Any, node: Any) -> None:
        held.append({*caller.env})
        emit(caller, node)

    monkeypatch.setitem(nodes._EMIT, "neuron", counted)  # type: ignore[arg-type]
    with torch.no_grad():
        Direct(program, parameters(lower(spec)))(samples(spec))
    places = [place for place, node in enumerate(program.nodes) if node.op == "neuron"]
    assert len(held) == len(places)
    given = {value.name for value in program.inputs}
    for place, found in zip(places, held, strict=True):
        later = {edge.value for node in program.nodes[place:] for edge in node.inputs}
        assert found <= later | given | {*program.outputs}

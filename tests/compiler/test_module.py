"""The compiled module as torch sees it: its nodes, its code, its export, its layout, its backends."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import bcgraph
from bcgraph import modulenames
from bcgraph.compiler import graph_text, lower, passes
from bcgraph.compiler.analysis.cost import cost
from bcgraph.compiler.driver import channels_last_pays
from bcgraph.compiler.targets.fx import backends, module
from bcgraph.errors import CompileError
from bcgraph.nn.functional import resize
from bcgraph.nn.neuron.neuron import Neuron
from bcgraph.nn.neuron.packed_spikes import pack

TEXT = """bcg 1
network small {
  input    = image(1, 8, 8)
  steps    = 3
  backbone = tiny(width=4, classes=10)

  backward @4 -> @0 { delay = 2 }
  backward @2 -> @2
}
"""


def model(schedule: str = "unrolled", **options: Any) -> Any:
    return bcgraph.compile(bcgraph.parse(TEXT, file="small.bcg"), schedule, **options)


def test_nodes_carry_step_port_and_place() -> None:
    nodes = {n.name: n for n in model().graph.nodes}
    spikes = nodes["layer1_0_lif1_s_t1"]
    assert spikes.meta["step"] == 1
    assert spikes.meta["port"] == 1
    assert spikes.meta["spikes"] == (1, 1, 1)
    assert str(spikes.meta["span"]).endswith("residual.bcg:" + str(spikes.meta["span"]).split(":", 1)[1])
    projection = nodes["backward_4_0_conv_t0"] if "backward_4_0_conv_t0" in nodes else nodes["backward_4_0_bn_t0"]
    assert projection.meta["span"].file == "small.bcg"
    assert projection.meta["span"].line == 7


def test_every_layer_node_says_where_it_comes_from() -> None:
    for node in model().graph.nodes:
        if node.op == "call_module":
            assert node.meta["span"] is not None, node.name
            assert node.meta["step"] is not None or node.name in ("conv1", "bn1"), node.name


def test_the_code_is_readable() -> None:
    code = model().code
    assert "conv1 = self.conv1(x)" in code
    assert "fc_t2 = self.fc(flatten_t2)" in code
    assert "O = torch.stack([fc_t0, fc_t1, fc_t2])" in code
    assert max(len(line) for line in code.splitlines()) < 300


@pytest.mark.parametrize("schedule", ["unrolled", "folded"])
def test_torch_export_needs_nothing_of_ours(schedule: str) -> None:
    module = model(schedule).eval()
    x = torch.randn(4, 1, 8, 8)
    batch = torch.export.Dim("batch", min=2, max=64)
    exported = torch.export.export(module, (x,), dynamic_shapes=({0: batch},))
    other = torch.randn(7, 1, 8, 8)
    torch.testing.assert_close(exported.module()(other), module(other))
    targets = {str(n.target) for n in exported.graph.nodes if n.op == "call_function"}
    assert all(t.startswith("aten.") or "getitem" in t or t.startswith("<built-in") for t in targets), targets


def test_torch_export_of_a_step_has_flat_states() -> None:
    step = model("step").eval()
    x = torch.randn(4, 1, 8, 8)
    states = step.initial_states(x)
    exported = torch.export.export(step, (x, *states))
    ours, theirs = step(x, *states), exported.module()(x, *states)
    assert isinstance(ours, tuple)
    assert len(ours) == 1 + len(states)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b)


def test_compiling_twice_gives_the_same_text_and_weights() -> None:
    spec = bcgraph.parse(TEXT)
    assert graph_text(lower(spec)) == graph_text(lower(bcgraph.parse(TEXT)))
    one, two = model(), model("folded")
    assert one.code == model().code
    assert list(one.state_dict()) == list(two.state_dict()) == list(model("step").state_dict())
    for (name, a), b in zip(one.state_dict().items(), two.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    assert not torch.equal(one.state_dict()["conv1.weight"], model(seed=1).state_dict()["conv1.weight"])


def test_weights_follow_from_names_alone() -> None:
    spec = bcgraph.parse(TEXT)
    with_more = bcgraph.compile(spec.with_backward([(4, 0), (3, 1), (1, 1)])).state_dict()
    for name, value in bcgraph.compile(spec.with_backward([(4, 0)])).state_dict().items():
        assert torch.equal(value, with_more[name]), name


def test_passes_lower_the_cost() -> None:
    spec = bcgraph.parse(TEXT)
    graph = lower(spec)
    costs = [cost(graph)]
    for name in ("sink_resize", "fuse_neuron", "hoist"):
        graph = passes.run(passes.find((name,)), graph)
        costs.append(cost(graph))
    lowered, sunk, fused, hoisted = costs
    assert lowered.operations - sunk.operations == 3 * 8 * 4 * (64 - 16)
    assert fused.nodes < sunk.nodes
    assert sunk.operations - hoisted.operations == 2 * 4 * 9 * 64


def test_layout_is_chosen_where_it_pays() -> None:
    wide = bcgraph.parse(TEXT.replace("width=4", "width=64"))
    assert channels_last_pays(bcgraph.compile(wide))
    assert not channels_last_pays(bcgraph.compile(wide, dtype=torch.float64))
    assert not channels_last_pays(model())
    weight = bcgraph.compile(wide).get_parameter("layer2.0.conv1.weight")
    assert weight.is_contiguous(memory_format=torch.channels_last)


def test_an_unknown_backend_is_named() -> None:
    with pytest.raises(CompileError) as caught:
        model(backend="inductr")
    assert caught.value.code == "E072"
    assert "inductor" in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("inference", [False, True])
def test_inductor_computes_what_eager_does(inference: bool) -> None:
    text = TEXT.replace("steps    = 3", "steps    = 2").replace("{ delay = 2 }", "")
    spec = bcgraph.parse(text)
    eager = bcgraph.compile(spec, inference=inference)
    compiled = bcgraph.compile(spec, inference=inference, backend="inductor")
    x = torch.randn(8, 1, 8, 8)
    with torch.set_grad_enabled(not inference):
        ours, theirs = eager(x), compiled(x)
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)
    assert list(eager.state_dict()) == list(compiled.state_dict())


def test_inductor_says_when_it_cannot_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **kwargs: Any) -> Any:
        def run(*args: Any, **kwargs: Any) -> Any:
            raise torch._dynamo.exc.TorchDynamoException("no compiler here\nand a long story")

        return run

    monkeypatch.setattr(backends.torch, "compile", refuse)
    module = model(backend="inductor")
    with pytest.raises(CompileError) as caught:
        module(torch.randn(2, 1, 8, 8))
    assert caught.value.code == "E074"
    assert "no compiler here" in str(caught.value)
    assert "long story" not in str(caught.value)


@pytest.mark.parametrize(("schedule", "inference"), [("unrolled", False), ("unrolled", True), ("step", False)])
def test_neurons_read_a_smaller_current_where_it_stands(schedule: str, inference: bool) -> None:
    nodes = list(model(schedule, inference=inference).graph.nodes)
    assert not [n for n in nodes if n.target is resize]
    name = "lif1" if schedule == "step" else "lif1@t2"
    neuron = next(n for n in nodes if isinstance(n.target, Neuron) and n.meta["bcgraph"] == name)
    assert any("backward_4_0" in read.name for read in neuron.all_input_nodes)


def test_a_neuron_gives_the_bits_of_its_spikes_to_all_that_read_them() -> None:
    nodes = list(model().graph.nodes)
    packing = [n for n in nodes if isinstance(n.target, Neuron) and n.target.packs]
    assert packing
    assert not [n for n in nodes if n.target is pack]
    assert not [n for n in model(inference=True).graph.nodes if isinstance(n.target, Neuron) and n.target.packs]


def test_names_that_modules_need_are_known_without_torch() -> None:
    """The list is that of the torch installed here."""
    assert module._TAKEN <= modulenames.TAKEN
    assert modulenames.taken("a.training.bn") == "training"
    assert modulenames.taken("trained.0.bn") is None

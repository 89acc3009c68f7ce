"""Feedback loops of vectors, which run as one node: the numbers of the reference, and what a user sees of them."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import Tensor, nn

import bcgraph
from bcgraph import schema
from bcgraph.compiler.targets.fx.loops import LOOPS
from bcgraph.errors import CompileError
from bcgraph.nn.loop.module import LoopModule
from tests.equivalence.support import compare, state

NEURONS = ("lif(reset=soft, detach_reset=true)", "plif()", "alif()", "cuba()", "klif()", "izhikevich()")

CONNECTIONS = {
    "own": "backward @0 -> @0; backward @1 -> @1",
    "far": "backward @1 -> @0",
    "all": "backward @0 -> @0; backward @1 -> @0; backward @1 -> @1",
    "late": "backward @0 -> @0; backward @1 -> @0 { delay = 3 }; backward @1 -> @1 { delay = 9 }",
    "membrane": "backward @0 -> @0 { read = v }; backward @1 -> @0 { read = u }",
    "forward": "backward @0 -> @0; forward @0 -> @1 { delay = 1 }",
}


def spec(connections: str, neuron: str = "lif()", feed: str = "sequence(6)", steps: int = 5) -> schema.NetworkSpec:
    statements = "\n".join(f"  {each.strip()}" for each in connections.split(";"))
    return bcgraph.parse(
        f"bcg 1\n\nnetwork net {{\n  input = {feed}\n  steps = {steps}\n  neuron = {neuron}\n"
        f"  backbone = rsnn(width=8, classes=4)\n{statements}\n}}\n"
    )


def loops(module: nn.Module) -> list[LoopModule]:
    return [each for each in module.modules() if isinstance(each, LoopModule)]


def values(one: schema.NetworkSpec, dtype: torch.dtype = torch.float64, samples: int = 3) -> Tensor:
    shape = (one.steps, samples, *one.input.shape) if one.input.kind == "sequence" else (samples, *one.input.shape)
    return 3 * torch.rand(shape, generator=torch.Generator().manual_seed(1), dtype=dtype)


def pair(one: schema.NetworkSpec, **options: object) -> tuple[nn.Module, nn.Module]:
    """The network with its loops fused, and step by step from nodes of single equations."""
    ours = bcgraph.compile(one, "folded", dtype=torch.float64, **options)  # type: ignore[arg-type]
    plain = bcgraph.compile(one, "unrolled", dtype=torch.float64, optimize=())
    # Learned parameters of neurons stay as they are.
    plain.load_state_dict(plain.state_dict() | state(one))
    ours.load_state_dict(plain.state_dict())
    assert loops(ours)
    return ours, plain


def gradients(module: nn.Module, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """O, and the gradients of a weighted sum of it by parameters and x."""
    x = x.clone().requires_grad_()
    module.zero_grad(set_to_none=True)
    output = module(x)
    weights = torch.randn(output.shape, generator=torch.Generator().manual_seed(2), dtype=output.dtype)
    (output * weights).sum().backward()
    found = {name: p.grad for name, p in module.named_parameters() if p.grad is not None}
    assert x.grad is not None
    return output, found | {"x": x.grad}


def same(ours: nn.Module, plain: nn.Module, x: Tensor) -> None:
    """Outputs, gradients and buffers agree."""
    (one, mine), (two, theirs) = gradients(ours, x), gradients(plain, x)
    torch.testing.assert_close(one, two, rtol=0, atol=1e-9)
    assert set(mine) == set(theirs)
    for name, gradient in theirs.items():
        torch.testing.assert_close(mine[name], gradient, rtol=1e-6, atol=1e-9 * float(gradient.abs().max()) + 1e-12)
    for (name, value), (other, wanted) in zip(ours.named_buffers(), plain.named_buffers(), strict=True):
        assert name == other
        torch.testing.assert_close(value, wanted, rtol=0, atol=1e-9)


@pytest.mark.parametrize("connections", CONNECTIONS.values(), ids=CONNECTIONS)
@pytest.mark.parametrize("training", [True, False])
def test_loops_compute_what_the_reference_does(connections: str, training: bool) -> None:
    one = spec(connections)
    assert loops(bcgraph.compile(one, "folded"))
    compare(one, "folded", training=training)


@pytest.mark.parametrize("connections", CONNECTIONS.values(), ids=CONNECTIONS)
def test_norms_are_folded_for_inference(connections: str) -> None:
    one = spec(connections)
    assert loops(bcgraph.compile(one, "folded", inference=True))
    compare(one, "folded", training=False, inference=True)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("neuron", NEURONS)
def test_any_neuron_runs_in_a_loop(neuron: str, training: bool) -> None:
    one = spec(CONNECTIONS["all"], neuron)
    ours, plain = pair(one)
    same(ours.train(training), plain.train(training), values(one))


def test_an_image_that_stays_is_given_once() -> None:
    one = spec(CONNECTIONS["all"], feed="image(1, 2, 3)")
    (loop,) = loops(bcgraph.compile(one, "folded"))
    assert loop.loop.steady
    compare(one, "folded", training=True)


def test_blocks_of_a_large_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    from bcgraph.nn.neuron import kernel

    one = spec(CONNECTIONS["all"], "plif()")
    ours, plain = pair(one)
    x = values(one, samples=7)
    monkeypatch.setattr(kernel, "BLOCK", 16)
    assert len(kernel.blocks(x[0, :, :1].expand(7, 8))) > 1
    same(ours, plain, x)
    with torch.no_grad():
        torch.testing.assert_close(ours.eval()(x), plain.eval()(x), rtol=0, atol=1e-9)


def test_what_its_ports_do_is_recorded() -> None:
    one = spec(CONNECTIONS["late"])
    ours, plain = pair(one)
    x = values(one)
    names = ("s", "u", "v", "I")
    for context in (torch.no_grad(), torch.enable_grad()):
        with context:
            mine, theirs = (bcgraph.record(m.eval(), x, values=names) for m in (ours, plain))
        for port in one.ports:
            for name in names:
                torch.testing.assert_close(mine[port][name], theirs[port][name], rtol=0, atol=1e-9)


def test_copies_and_pickles_run_on_their_own_weights() -> None:
    one = spec(CONNECTIONS["own"])
    ours, _ = pair(one)
    x = values(one)
    wanted = ours.eval()(x)
    for other in (copy.deepcopy(ours), pickle.loads(pickle.dumps(ours))):
        assert torch.equal(other(x), wanted)
        with torch.no_grad():
            for parameter in other.parameters():
                parameter.zero_()
        assert not torch.equal(other(x), wanted)
        assert torch.equal(ours(x), wanted)


def test_hooks_of_norms_run_and_those_of_products_are_refused() -> None:
    one = spec(CONNECTIONS["own"])
    ours, plain = pair(one)
    seen: list[object] = []
    handle = ours.get_submodule("backward.0_0.bn").register_forward_hook(lambda *_: seen.append(1))
    same(ours, plain, values(one))
    assert len(seen) == one.steps - 1
    handle.remove()
    with pytest.raises(CompileError, match="never be called"):
        ours.get_submodule("backward.0_0.conv").register_forward_hook(lambda *_: None)


def test_transforms_see_through_a_loop() -> None:
    one = spec(CONNECTIONS["all"])
    ours, plain = pair(one)
    x = values(one)

    def loss(module: nn.Module, parameters: dict[str, Tensor]) -> Tensor:
        output: Tensor = torch.func.functional_call(module, parameters, (x,))
        return (output**2).sum()

    for module in (ours, plain):
        module.eval()
    weights = {name: p.detach() for name, p in plain.named_parameters()}
    mine = torch.func.grad(lambda p: loss(ours, p))(weights)
    theirs = torch.func.grad(lambda p: loss(plain, p))(weights)
    for name, gradient in theirs.items():
        torch.testing.assert_close(mine[name], gradient, rtol=1e-6, atol=1e-9)


def test_a_second_derivative_is_refused() -> None:
    one = spec(CONNECTIONS["own"])
    ours, _ = pair(one)
    x = values(one).requires_grad_()
    with pytest.raises(CompileError, match="second derivative"):
        torch.autograd.grad(ours(x).sum(), x, create_graph=True)


def test_autocast_chooses_the_type_of_each_call() -> None:
    one = spec(CONNECTIONS["own"])
    plain = bcgraph.compile(one, "unrolled")
    ours = bcgraph.compile(one, "folded")
    x = values(one, torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        mine, theirs = ours(x), plain(x)
    assert mine.dtype == theirs.dtype == torch.bfloat16
    assert torch.equal(mine, theirs)


def test_one_sample_has_no_statistics() -> None:
    one = spec(CONNECTIONS["own"])
    ours, plain = pair(one)
    for module in (ours, plain):
        with pytest.raises(ValueError, match=r"more than (1|one) value"):
            module(values(one, samples=1))


def test_the_schedule_is_chosen_by_what_the_network_is_made_of() -> None:
    assert bcgraph.compile(spec(CONNECTIONS["all"])).meta["schedule"] == "folded"
    # A loop that does not fuse writes out its steps.
    refused = spec("backward @0 -> @0 { join = mul }")
    assert bcgraph.compile(refused).meta["schedule"] == "unrolled"
    assert not loops(bcgraph.compile(refused, "folded"))
    image = bcgraph.parse("bcg 1\n\nnetwork net { input = image(1, 8, 8); steps = 2; backbone = tiny(width=4) }\n")
    assert bcgraph.compile(image).meta["schedule"] == "unrolled"


def test_the_graph_of_a_thousand_steps_is_as_short_as_that_of_ten() -> None:
    short, long = (bcgraph.compile(spec(CONNECTIONS["own"], steps=steps)) for steps in (10, 1000))
    assert len(short.graph.nodes) == len(long.graph.nodes)
    assert LOOPS in long._modules

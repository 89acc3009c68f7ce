"""Compiled modules survive copies, pickles, `torch.save` and the way into another process."""

from __future__ import annotations

import copy
import io
import multiprocessing
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import bcgraph
from bcgraph.errors import CompileError

TEXT = """bcg 1
network n {
  input = image(1, 8, 8); steps = 3; backbone = tiny(width=32, classes=10)
  backward @4 -> @0 { delay = 2 }; backward @2 -> @2
}
"""

CASES: dict[str, dict[str, Any]] = {
    "unrolled": {},
    "folded": {"schedule": "folded"},
    "step": {"schedule": "step"},
    "inference": {"inference": True},
    "folded inference": {"schedule": "folded", "inference": True},
    "recompute": {"recompute": True},
    "float64": {"dtype": torch.float64},
    "single operations": {"optimize": ()},
}


def saved(model: Any) -> Any:
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


WAYS: dict[str, Callable[[Any], Any]] = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda model: pickle.loads(pickle.dumps(model)),
    "torch.save": saved,
}


def compiled(schedule: str = "unrolled", **options: Any) -> Any:
    return bcgraph.compile(bcgraph.parse(TEXT), schedule, **options)


def batch(model: Any, seed: int = 0) -> Tensor:
    dtype = next(model.parameters()).dtype
    return torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(seed)).to(dtype)


def outputs(model: Any, x: Tensor) -> tuple[Tensor, ...]:
    if model.meta["schedule"] != "step":
        return (model(x),)
    states = model.initial_states(x)
    for _ in range(3):
        output, *states = model(x, *states)
    return (output, *states)


def run(model: Any) -> list[Tensor]:
    """Outputs of two calls, gradients where there are any, and the state dict afterwards."""
    found: list[Tensor] = []
    for seed in range(2):
        results = outputs(model, batch(model, seed))
        found += [r.detach().clone() for r in results]
        if results[0].requires_grad:
            results[0].sum().backward()
    found += [p.grad.clone() for p in model.parameters() if p.grad is not None]
    return found + [v.clone() for v in model.state_dict().values()]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("case", CASES)
def test_a_copy_computes_the_same(case: str, way: str) -> None:
    model = compiled(**CASES[case])
    outputs(model, batch(model, 5))  # a call that leaves memory and statistics behind
    twin = WAYS[way](model)
    assert type(twin).__mro__[1:] == type(model).__mro__[1:]
    assert twin.code == model.code
    assert list(twin.state_dict()) == list(model.state_dict())
    for (name, one), other in zip(model.named_parameters(), twin.parameters(), strict=True):
        assert one.data_ptr() != other.data_ptr(), name
        assert one.stride() == other.stride(), name
    for one, other in zip(run(model), run(twin), strict=True):
        assert torch.equal(one, other)
    with torch.no_grad():
        for one, other in zip(outputs(model, batch(model)), outputs(twin, batch(model)), strict=True):
            assert torch.equal(one, other)


@pytest.mark.parametrize("way", WAYS)
def test_attributes_come_along(way: str) -> None:
    model = compiled().double().train()
    model.get_submodule("bn1").eval()
    model.get_parameter("conv1.weight").requires_grad_(False)
    model.get_submodule("layer2.0.bn1").weight = model.get_submodule("layer2.0.bn2").weight
    model.register_buffer("mine", torch.ones(2))
    twin = WAYS[way](WAYS[way](model))
    assert twin.training
    assert not twin.get_submodule("bn1").training
    assert twin.get_submodule("layer1").training
    assert not twin.get_parameter("conv1.weight").requires_grad
    assert twin.get_submodule("layer2.0.bn1").weight is twin.get_submodule("layer2.0.bn2").weight
    assert torch.equal(twin.mine, torch.ones(2))
    assert twin.meta["ports"] == model.meta["ports"]
    assert twin.get_parameter("fc.weight").dtype == torch.float64
    span = next(n.meta["span"] for n in twin.graph.nodes if n.op == "call_module")
    assert str(span).endswith(str(span.column))


@pytest.mark.parametrize("way", WAYS)
def test_a_copy_is_independent(way: str) -> None:
    model = compiled()
    twin = WAYS[way](model)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    run(twin)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.zero_()
    torch.testing.assert_close(dict(model.state_dict()), before, atol=0, rtol=0)
    assert all(p.grad is None for p in model.parameters())


def test_a_shallow_copy_shares_the_layers() -> None:
    model = compiled()
    twin = copy.copy(model)
    assert twin.get_submodule("conv1") is model.get_submodule("conv1")
    assert torch.equal(twin.eval()(batch(model)), model.eval()(batch(model)))


def test_inference_stays_in_eval_mode() -> None:
    twin = copy.deepcopy(compiled(inference=True))
    assert not twin.training
    with pytest.raises(CompileError):
        twin.train()


def test_hooks_come_along() -> None:
    model, seen = compiled(), Counter()
    model.register_forward_hook(seen)
    model.get_submodule("conv1").register_forward_hook(seen)
    copy.deepcopy(model)(batch(model))
    assert seen.calls == 0  # the copy counts on its own
    model(batch(model))
    assert seen.calls == 2


class Counter:
    """A hook that counts its calls."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, *_: Any) -> None:
        self.calls += 1


def test_an_edited_graph_is_copied_as_it_is() -> None:
    model = compiled().eval()
    (output,) = (n for n in model.graph.nodes if n.op == "output")
    with model.graph.inserting_before(output):
        output.args = (model.graph.call_function(torch.neg, output.args),)
    model.recompile()
    twin = copy.deepcopy(model)
    x = batch(model)
    assert torch.equal(twin(x), model(x))
    assert torch.equal(twin(x), -compiled().eval()(x))


def test_in_a_larger_module_and_in_an_average() -> None:
    model = nn.Sequential(compiled(), nn.Flatten(0, 1)).eval()
    x = batch(model)
    assert torch.equal(copy.deepcopy(model)(x), model(x))
    average = torch.optim.swa_utils.AveragedModel(model[0])
    average.update_parameters(model[0])
    assert torch.equal(average.eval()(x), model[0](x))


def call(model: Any, x: Tensor) -> tuple[Any, list[float]]:
    """What another process does."""
    with torch.no_grad():
        return model, model(x).flatten().tolist()


@pytest.mark.parametrize("inference", [False, True])
def test_another_process_takes_and_returns_one(inference: bool) -> None:
    model = compiled(inference=inference).eval()
    x = batch(model)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        back, found = pool.apply(call, (model, x))
    with torch.no_grad():
        assert found == model(x).flatten().tolist()
        assert torch.equal(back(x), model(x))


@pytest.mark.slow
def test_the_backend_comes_along() -> None:
    text = TEXT.replace("steps = 3", "steps = 2").replace("{ delay = 2 }", "")
    model = bcgraph.compile(bcgraph.parse(text), backend="inductor").eval()
    x = batch(model)
    for way in WAYS.values():
        twin = way(model)
        assert twin.meta["backend"] == "inductor"
        assert twin._compiled_call_impl is not None
        assert torch.equal(twin(x), model(x))

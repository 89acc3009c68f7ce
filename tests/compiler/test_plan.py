"""The memory of inference: planned slots, used again in a call and from call to call, and no growth with time."""

from __future__ import annotations

import copy
import threading
from typing import Any

import pytest
import torch
from torch import Tensor

import bcgraph
from bcgraph.compiler import pipelines
from bcgraph.compiler.analysis.memory import peak
from bcgraph.compiler.ir import Program
from bcgraph.compiler.targets.fx.memory_plan import plan
from bcgraph.schema import NetworkSpec

SCHEDULES = ("unrolled", "folded", "step")


def network(steps: int = 4, width: int = 4, feed: str = "image") -> NetworkSpec:
    text = f"""bcg 1
    network small {{
      input    = {feed}(1, 8, 8)
      steps    = {steps}
      backbone = tiny(width={width}, classes=10)
      backward @4 -> @0
      backward @2 -> @2 {{ delay = 2 }}
      backward @3 -> @1
    }}"""
    return bcgraph.parse(text)


def program(schedule: str, spec: NetworkSpec) -> Program:
    return pipelines.program(spec, schedule, pipelines.INFERENCE)


def model(spec: NetworkSpec, schedule: str = "unrolled", **options: Any) -> Any:
    """A network whose neurons fire; `Any`, as its submodules are found by name."""
    made = bcgraph.compile(spec, schedule, dtype=torch.float64, inference=True, **options)
    for name, value in made.state_dict().items():
        if name.endswith("running_var"):
            value.fill_(0.02)
    return made


def images(samples: int, seed: int = 0, width: int = 1) -> Tensor:
    return torch.randn((samples, width, 8, 8), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("feed", ["image", "sequence"])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_slot_holds_one_value_at_a_time(schedule: str, feed: str) -> None:
    found = program(schedule, network(5, feed=feed))
    slots = plan(found)
    values = found.values()
    holder: dict[int, str] = {}
    for node in found.nodes:
        for edge in node.inputs:
            if edge.value in slots.slots:
                assert holder[slots.slots[edge.value]] == edge.value, node.name
        holder.update({slots.slots[v.name]: v.name for v in node.outputs if v.name in slots.slots})
    for name, slot in slots.slots.items():
        count = 1
        for size in values[name].shape:
            count *= size
        assert slots.sizes[slot] == count * max(1, values[name].steps)
    assert not set(found.outputs) & set(slots.slots)


@pytest.mark.parametrize("steps", [3, 4, 8, 16])
def test_places_do_not_grow_with_time(steps: int) -> None:
    assert sorted(plan(program("unrolled", network(steps))).sizes) == sorted(
        plan(program("unrolled", network(3))).sizes
    )


def test_membranes_stay_where_they_are() -> None:
    slots = plan(program("unrolled", network(5))).slots
    for port in network().ports:
        assert len({slots[f"{port}.v@t{t}"] for t in range(4)}) == 1


@pytest.mark.parametrize("inference", [False, True], ids=["training graph", "inference"])
def test_memory_of_a_forward_pass_does_not_grow_with_time(inference: bool) -> None:
    """Beyond the outputs, `[T, N, classes]`, which are there as parts and, at the end, together."""
    x = images(16)
    outputs = 2 * len(x) * 10 * 8
    found = {}
    for steps in (4, 8, 16):
        module = bcgraph.compile(network(steps), dtype=torch.float64, inference=inference).eval()
        found[steps] = peak(module, x)
    assert all(0 <= found[t] - found[4] <= outputs * (t - 4) for t in found), found
    assert found[4] > 8 * len(x) * (3 * 4 * 64 + 2 * 8 * 16)


def test_peak_counts_what_lives_at_once() -> None:
    graph = torch.fx.symbolic_trace(lambda x: ((x + 1) * 2).view(-1)[:3] - 1)
    assert peak(graph, torch.zeros(100)) == 800


@torch.no_grad()
def test_the_next_call_takes_the_same_memory() -> None:
    module, other = model(network()), model(network(), optimize=["fold_bn"])
    x = images(8)
    module(x)
    held = module._memory.held.buffers
    for samples in (8, 3, 1):
        torch.testing.assert_close(module(x[:samples]), other(x[:samples]), atol=1e-9, rtol=0.0)
        assert all(a is b for a, b in zip(held, module._memory.held.buffers, strict=True))
    module(images(9))
    assert module._memory.held.samples == 9
    with torch.inference_mode():
        first = model(network())
        first(x)
    torch.testing.assert_close(first(x), other(x), atol=1e-9, rtol=0.0)


@torch.no_grad()
def test_outputs_are_the_callers() -> None:
    for schedule in SCHEDULES:
        module = model(network(), schedule)
        x = images(4)
        states = module.initial_states(x) if schedule == "step" else ()
        results = module(x, *states)
        results = results if schedule == "step" else (results,)
        before = [r.clone() for r in results]
        module(images(4, seed=1), *states)
        assert all(torch.equal(a, b) for a, b in zip(results, before, strict=True))
        assert all(not s.any() for s in states)


@torch.no_grad()
def test_two_calls_at_a_time() -> None:
    module = model(network(8))
    inputs = [images(6, seed) for seed in range(4)]
    wanted = [module(x) for x in inputs]
    wrong: list[int] = []

    def call(index: int) -> None:
        for _ in range(20):
            with torch.no_grad():
                if not torch.equal(module(inputs[index]), wanted[index]):
                    wrong.append(index)

    threads = [threading.Thread(target=call, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@torch.no_grad()
@pytest.mark.parametrize("schedule", ["unrolled", "folded"])
def test_a_call_in_the_middle_of_another(schedule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pool after the last neuron reads its slot; no call that comes before that may write there."""
    module = model(network(), schedule)
    first, second = images(6, 0), images(6, 1)
    wanted, other = module(first), module(second)
    pool, between = torch.nn.functional.adaptive_avg_pool2d, []

    def late(x: Tensor, size: Any) -> Tensor:
        monkeypatch.setattr(torch.nn.functional, "adaptive_avg_pool2d", pool)
        between.append(module(second))
        monkeypatch.setattr(torch.nn.functional, "adaptive_avg_pool2d", late)
        return pool(x, size)

    monkeypatch.setattr(torch.nn.functional, "adaptive_avg_pool2d", late)
    assert torch.equal(module(first), wanted)
    assert between
    assert all(torch.equal(each, other) for each in between)


def test_copies_hold_nothing_and_gradients_take_fresh_memory() -> None:
    module = model(network())
    x = images(4)
    with torch.no_grad():
        module(x)
    assert module._memory.held is not None
    assert copy.deepcopy(module)._memory.held is None
    module(x.requires_grad_()).sum().backward()
    assert x.grad is not None


@torch.no_grad()
def test_packed_weights_compute_the_same() -> None:
    """Convolutions of small sums of spikes are exact in any order; here the first layer reads numbers, so nearly."""
    spec = bcgraph.parse("bcg 1\nnetwork n { input = image(3, 16, 16); steps = 3; backbone = tiny(width=64) }")
    spec = spec.with_backward([(4, 0), (2, 2)])
    packed = bcgraph.compile(spec, inference=True)
    x = torch.randn((4, 3, 16, 16), generator=torch.Generator().manual_seed(0))
    ours = packed(x)
    assert len(packed._memory.held.weights) == 5
    with torch.backends.mkldnn.flags(enabled=False):
        theirs = packed(x)
    assert float((ours.mean(0).argmax(-1) == theirs.mean(0).argmax(-1)).float().mean()) >= 0.75
    torch.testing.assert_close(ours[0], theirs[0], atol=1e-3, rtol=1e-3)

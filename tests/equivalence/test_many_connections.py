"""Networks with many backward connections: what is merged computes what each connection alone would."""

from __future__ import annotations

import copy
import math
import pickle
from collections import Counter

import pytest
import torch

from bcgraph import schema
from bcgraph.compiler import lower, passes, pipelines
from bcgraph.compiler.ir import TemporalGraph
from bcgraph.keys import rng
from tests.equivalence.support import (
    DEVICE,
    SCHEDULES,
    assert_close,
    assert_same_buffers,
    assert_same_gradients,
    average,
    batch,
    bn,
    build,
    compare,
    conv,
    execute,
    flatten,
    lif,
    linear,
    network,
    small,
    state,
    unchanged,
)
from tests.reference import Reference

# Ports of 8x8, 8x8, 4x4, 2x2 and 2x2 values a channel, and a vector.
BODY = (
    conv("conv1", 4),
    bn("bn1"),
    lif("lif0"),
    schema.Sum(name="sum", branches=((), (conv("conv2", 4), bn("bn2"), lif("lif1")))),
    conv("conv3", 6, stride=2),
    bn("bn3"),
    lif("lif2"),
    conv("conv4", 8, stride=2),
    bn("bn4"),
    lif("lif3"),
    conv("conv5", 8),
    bn("bn5"),
    lif("lif4"),
    average("pool", 1),
    flatten(),
    linear("fc1", 10),
    bn("bn6"),
    lif("lif5"),
    linear("fc2", 4),
)
EVERY = [(s, t) for s in range(6) for t in range(s + 1)]


def many(backward: list[tuple[int, ...]], steps: int = 3, sequence: bool = False) -> schema.NetworkSpec:
    return network(BODY, shape=(2, 8, 8), steps=steps, sequence=sequence, backward=backward)


def merged(spec: schema.NetworkSpec, names: pipelines.Names = pipelines.TRAINING) -> TemporalGraph:
    return passes.run(passes.find(names), lower(spec))


SKIPS = [(s, t, d) for s in range(5) for t in range(s + 1, 6) for d in (0, 1) if (s + t + d) % 2]


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_forward_connections_inside_loops(schedule: str, training: bool) -> None:
    spec = many([]).with_connections(EVERY[::2], SKIPS)
    graph = merged(spec)
    stacked = [name for node in graph.nodes if node.op == "stack_parameters" for name in node.attrs["parameters"]]
    assert sum(name.startswith("forward.") for name in stacked) > 1, "none is merged, and the test would show nothing"
    compare(spec, schedule, training=training)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_every_connection(schedule: str, training: bool) -> None:
    for sequence in (False, True):
        for last in (False, True):
            compare(many(EVERY, sequence=sequence), schedule, training=training, last=last)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_every_connection_for_inference(schedule: str) -> None:
    for last in (False, True):
        compare(many(EVERY), schedule, training=False, inference=True, last=last)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_random_connections(schedule: str) -> None:
    """Some of all connections, with one delay or several."""
    draw = rng(0, "many", schedule)
    for case in range(12):
        chosen = draw.sample(EVERY, draw.randint(2, 15))
        delays = draw.choice([(1,), (2,), (1, 2)])
        spec = many([(s, t, draw.choice(delays)) for s, t in chosen], steps=4)
        compare(spec, schedule, training=True, seed=case)
        compare(spec, schedule, training=False, seed=case, inference=True)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_sizes_that_do_not_divide(schedule: str) -> None:
    """Ports of 7x7, 4x4 and a vector: some are enlarged before their projection."""
    spec = small(steps=3, backward=[(s, t) for s in range(4) for t in range(s + 1)])
    compare(spec, schedule, training=True)
    compare(spec, schedule, training=False, inference=True)


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_recomputing(steps: int) -> None:
    """Segments that run again update the statistics of merged norms once."""
    compare_recomputed(many(EVERY, steps=steps))


def compare_recomputed(spec: schema.NetworkSpec) -> None:
    values = state(spec)
    model = build(spec, "unrolled", values, recompute=True).train()
    reference = Reference(spec, values)
    ours, theirs = (batch(spec).requires_grad_() for _ in range(2))
    output, trace = model(ours).cpu(), reference(theirs, training=True)
    assert_close(output, trace.output, "O")
    output.square().sum().backward()
    trace.output.square().sum().backward()
    assert_same_gradients(model, reference, ours, theirs)
    assert_same_buffers(model, reference.buffers)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_norms_that_are_more_than_plain_are_called(schedule: str) -> None:
    """A hooked norm, and one that stays in evaluation mode, are called by themselves, and so are all beside them."""
    spec = many(EVERY)
    values = state(spec)
    plain, hooked = (build(spec, schedule, values).train() for _ in range(2))
    calls: list[torch.Size] = []
    hooked.get_submodule("backward.4_0.bn").register_forward_hook(lambda *args: calls.append(args[2].shape))
    x = batch(spec)
    expected, _ = execute(plain, schedule, spec, x)
    output, _ = execute(hooked, schedule, spec, x)
    assert_close(output, expected.detach(), "O")
    assert_same_buffers(hooked, dict(plain.named_buffers()))
    assert calls
    assert set(calls) == {torch.Size((3, 4, 2, 2))}


def test_one_norm_in_evaluation_mode() -> None:
    spec = many(EVERY)
    model = build(spec, "unrolled", state(spec)).train()
    frozen = model.get_submodule("backward.4_0.bn").eval()
    other = model.get_submodule("backward.4_1.bn")
    before = frozen.running_mean.clone(), other.running_mean.clone()
    model(batch(spec))
    assert torch.equal(frozen.running_mean, before[0])
    assert not torch.equal(other.running_mean, before[1])


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_copies_call_their_own_norms(schedule: str) -> None:
    spec = many(EVERY)
    model = build(spec, schedule, state(spec)).train()
    twin = pickle.loads(pickle.dumps(copy.deepcopy(model)))
    with unchanged(model):
        execute(twin, schedule, spec, batch(spec))
    execute(model, schedule, spec, batch(spec))
    assert_same_buffers(twin, dict(model.named_buffers()))


def test_what_is_merged_is_small_and_late_values_are_few() -> None:
    """One convolution a source and resolution, one sum a resolution, and one late value for each size of a target."""
    graph = merged(many(EVERY))
    counts = Counter(node.op for node in graph.nodes)
    assert counts["project"] == len({s for s, _ in EVERY})
    assert counts["norm_sum"] == len({"8x8", "4x4", "2x2", "1x1"})
    assert counts["bn"] == 6
    late = [name for name in graph.delayed() if not name.endswith(".v")]
    assert len(late) == len({"8x8", "4x4", "2x2", "vector"})


def test_states_of_a_step_are_spikes() -> None:
    """A step keeps the spikes of each port instead of a projection of them for each connection."""
    spec = many(EVERY)
    few = pipelines.program(spec, "step", pipelines.TRAINING).states
    every = pipelines.program(spec, "step", pipelines.SUPERNET).states
    assert len(few) == 2 * 6 + 1
    assert sum(math.prod(s.shape) for s in few) < sum(math.prod(s.shape) for s in every)


def test_connections_that_share_nothing_stay_as_they_are() -> None:
    for backward in ([(4, 0)], [(4, 0), (3, 1)], [(4, 0), (4, 1, 2)]):
        spec = many(backward)
        assert merged(spec) == merged(spec, pipelines.SUPERNET)


def test_loops_stay_apart() -> None:
    """Two ports with feedback of their own, of which neither waits for the other."""
    spec = many([(4, 4), (3, 3)])
    assert merged(spec) == merged(spec, pipelines.SUPERNET)


@pytest.mark.parametrize("inference", [False, True])
def test_transforms_and_tracers_follow(inference: bool) -> None:
    """`torch.func` and torch's compiler take the plain equations and give the same outputs and gradients."""
    spec = many([(4, 0), (4, 1), (3, 0), (2, 2), (4, 4), (5, 0)])
    model = build(spec, "unrolled", state(spec), inference=inference).eval()
    x = batch(spec).to(DEVICE)
    expected = model(x)
    expected.square().sum().backward()
    parameters = dict(model.named_parameters())

    def loss(values: dict[str, torch.Tensor]) -> torch.Tensor:
        return torch.func.functional_call(model, values, (x,)).square().sum()

    for name, value in torch.func.grad(loss)(parameters).items():
        found = parameters[name].grad
        assert torch.allclose(value, torch.zeros_like(value) if found is None else found, rtol=1e-6, atol=1e-9), name
    with torch.no_grad():
        several = torch.vmap(model)(torch.stack([x, x + 0.1]))
        assert_close(several[0], expected.detach().cpu(), "vmap")
        traced = torch.compile(model, backend="aot_eager", fullgraph=True)
        assert_close(traced(x), expected.detach().cpu(), "traced")

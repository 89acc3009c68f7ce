"""Traps that other libraries fell into: hidden state, statistics that scoring disturbs, names that collide."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from bcgraph import schema
from bcgraph.errors import BcgraphError, DataError
from bcgraph.nn.determinism import reproducible
from tests import neurons
from tests.equivalence.support import (
    DEVICE,
    SCHEDULES,
    assert_close,
    assert_lively,
    batch,
    bn,
    build,
    chain,
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
from tests.reference import Reference, state_shapes

BACKWARD = [(2, 0), (3, 1, 2)]
WHOLE = [s for s in SCHEDULES if s != "step"]


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_calls_leave_nothing_behind(schedule: str) -> None:
    spec = small(backward=BACKWARD)
    model = build(spec, schedule, state(spec)).eval()
    x, other = batch(spec, 3), batch(spec, 5, seed=1)
    with unchanged(model):
        first, _ = execute(model, schedule, spec, x)
        execute(model, schedule, spec, other)
        again, _ = execute(model, schedule, spec, x)
    assert torch.equal(first, again)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_two_backward_passes(schedule: str) -> None:
    """The second pass does not reach into the graph of the first."""
    spec = small(backward=BACKWARD)
    model = build(spec, schedule, state(spec)).eval()
    x = batch(spec)
    gradients = []
    for _ in range(2):
        model.zero_grad(set_to_none=True)
        output, _ = execute(model, schedule, spec, x)
        with reproducible():
            output.square().sum().backward()
        gradients.append({n: p.grad.clone() for n, p in model.named_parameters()})
    assert all(torch.equal(gradients[0][n], g) for n, g in gradients[1].items())
    assert any(bool(g.any()) for g in gradients[0].values())


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_one_graph_can_be_differentiated_twice(training: bool, schedule: str) -> None:
    spec = small(backward=BACKWARD)
    model = build(spec, schedule, state(spec)).train(training)
    x = batch(spec).requires_grad_()
    output, _ = execute(model, schedule, spec, x)
    with reproducible():
        (first,) = torch.autograd.grad(output.square().sum(), x, retain_graph=True)
        (second,) = torch.autograd.grad(output.square().sum(), x)
    assert torch.equal(first, second)
    assert first.any()


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_input_is_not_written_to(schedule: str) -> None:
    spec = small(backward=BACKWARD)
    model = build(spec, schedule, state(spec))
    x = batch(spec)
    kept = x.clone()
    for grad in (True, False):
        with torch.set_grad_enabled(grad):
            execute(model, schedule, spec, x)
        assert torch.equal(x, kept)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_state_is_parameters_and_running_statistics_alone(schedule: str) -> None:
    spec = small(backward=[*BACKWARD, (0, 0, 9)])
    model = build(spec, schedule, state(spec))
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    assert shapes == state_shapes(spec)
    buffers = {name.rsplit(".", 1)[-1] for name, _ in model.named_buffers()}
    assert buffers == {"running_mean", "running_var", "num_batches_tracked"}


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("statistics", ["shared", "per_step"])
def test_scoring_leaves_running_statistics_alone(statistics: Any, schedule: str) -> None:
    """Batch statistics for a while, from either mode; the modules' modes are back behind it, and after an error too."""
    from bcgraph.compiler.targets.fx import module

    spec = small(steps=4, backward=BACKWARD, norm=schema.Norm(statistics=statistics))
    values = state(spec)
    model = build(spec, schedule, values)
    x = batch(spec)
    wanted = Reference(spec, values)(x, training=True, update=False)
    assert_lively(wanted)
    for training in (True, False):
        model.train(training)
        modes = {name: module.training for name, module in model.named_modules()}
        with unchanged(model), module.batch_statistics(model):
            output, _ = execute(model, schedule, spec, x)
        assert_close(output, wanted.output.detach(), "O")
        assert modes == {name: module.training for name, module in model.named_modules()}
        with unchanged(model), pytest.raises(RuntimeError), module.batch_statistics(model):
            execute(model, schedule, spec, torch.cat([x, x], dim=-3))
        assert modes == {name: module.training for name, module in model.named_modules()}


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_gradients_flow_within_batch_statistics(schedule: str) -> None:
    """The E-score's Jacobian: through batch statistics, in eval mode, without the running ones."""
    from bcgraph.compiler.targets.fx import module

    spec = small(steps=3, backward=BACKWARD)
    values = state(spec)
    model = build(spec, schedule, values).eval()
    ours, theirs = batch(spec, 5).requires_grad_(), batch(spec, 5).requires_grad_()
    with module.batch_statistics(model):
        output, _ = execute(model, schedule, spec, ours)
    (found,) = torch.autograd.grad(output.mean(0).sum(), ours)
    (wanted,) = torch.autograd.grad(Reference(spec, values)(theirs, training=True).output.mean(0).sum(), theirs)
    assert float((found - wanted).abs().max()) <= 1e-6 * float(wanted.abs().max())


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_copy_is_a_module_of_its_own(schedule: str) -> None:
    spec = small(backward=BACKWARD)
    model = build(spec, schedule, state(spec)).eval()
    x = batch(spec)
    before, _ = execute(model, schedule, spec, x)
    twin = copy.deepcopy(model)
    assert torch.equal(execute(twin, schedule, spec, x)[0], before)
    with torch.no_grad():
        for tensor in twin.state_dict().values():
            tensor.zero_()
    assert torch.equal(execute(model, schedule, spec, x)[0], before)
    assert not torch.equal(execute(twin, schedule, spec, x)[0], before)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("sequence", [False, True], ids=["static", "sequence"])
def test_channels_last(sequence: bool, training: bool, schedule: str) -> None:
    compare(small(steps=4, sequence=sequence, backward=BACKWARD), schedule, training=training, last=True)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_strided_input(schedule: str) -> None:
    spec = small(backward=BACKWARD)
    values = state(spec)
    x = batch(spec)
    strided = x.flip(-1).contiguous().flip(-1).transpose(-1, -2).contiguous().transpose(-1, -2)
    assert not strided.is_contiguous()
    assert not strided.is_contiguous(memory_format=torch.channels_last)
    output, _ = execute(build(spec, schedule, values).train(), schedule, spec, strided)
    assert_close(output, Reference(spec, values)(x, training=True).output.detach(), "O")


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("size", [1, 40, 500])
def test_neurons_in_blocks(size: int, schedule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neurons are computed in blocks of the batch; small networks fill only one, so blocks are made small here."""
    monkeypatch.setattr("bcgraph.nn.neuron.kernel.BLOCK", size)
    monkeypatch.setattr("bcgraph.nn.conv.folded.PIECE", size)
    for neuron in (neurons.lif(), neurons.lif(reset="soft", tau=0.7), neurons.lif(detach_reset=True)):
        spec = small(steps=3, neuron=neuron, backward=BACKWARD)
        compare(spec, schedule, training=True, size=5)
        compare(spec, schedule, training=False, size=5, last=True)
        compare(spec, schedule, training=False, size=5, last=True, inference=True)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_convolutions_of_spikes(schedule: str) -> None:
    """Whatever a convolution of spikes keeps of them: of odd sizes, with groups, stride and dilation, several readers,
    behind what leaves spikes spikes, and beside what does not."""
    body = [
        conv("conv1", 3),
        bn("bn1"),
        lif("lif1"),
        schema.Sum(
            name="readers",
            branches=(
                (conv("a", 6, kernel=3, dilation=2, padding=2, groups=3, bias=True),),
                (schema.Concat(name="twice", branches=((), ())), conv("b", 6, kernel=1)),
                (
                    schema.Pool(name="max", kind="maxpool", kernel=3, stride=1, padding=1),
                    conv("c", 6, kernel=5),
                ),
                (schema.Sum(name="double", branches=((), ())), conv("d", 6, kernel=3)),
            ),
        ),
        bn("bn2"),
        lif("lif2"),
        conv("e", 5, stride=3),
        bn("bn3"),
        lif("lif3"),
        flatten(),
        linear("fc", 3),
    ]
    for last in (False, True):
        spec = network(body, shape=(2, 5, 7), steps=3, backward=[(2, 0), (1, 1, 2), (2, 1)])
        compare(spec, schedule, training=True, last=last)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("sequence", [False, True], ids=["static", "sequence"])
def test_training_in_mixed_precision(sequence: bool, schedule: str) -> None:
    """Autocast to bfloat16 runs forward and backward, and gives each parameter a finite gradient of its own dtype."""
    from bcgraph.compiler import compile as compile_spec

    spec = small(sequence=sequence, backward=BACKWARD)
    model = compile_spec(spec, schedule=schedule, device=DEVICE)
    model.load_state_dict(state(spec))
    x = batch(spec, 4).float().to(DEVICE)
    for training in (True, False):
        model.train(training).zero_grad()
        with torch.autocast(DEVICE.type, torch.bfloat16):
            output = chain(model, spec, x) if schedule == "step" else model(x)
        output.float().square().sum().backward()
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.dtype == torch.float32
            assert bool(parameter.grad.isfinite().all()), name


@pytest.mark.parametrize("schedule", WHOLE)
@pytest.mark.parametrize("seed", range(4))
def test_single_precision_flips_few_spikes(seed: int, schedule: str) -> None:
    """At most 5 % of the samples of a small network in eval mode hold a spike that differs from float64."""
    from bcgraph.compiler import compile as compile_spec
    from bcgraph.compiler.targets.fx import module

    spec = small(steps=4, backward=BACKWARD)
    values = state(spec, seed)
    x = batch(spec, 128, seed)
    x = x.float().double()
    model = compile_spec(spec, schedule=schedule, dtype=torch.float32)
    single = {n: v.float().double() if v.is_floating_point() else v for n, v in values.items()}
    model.load_state_dict(single)
    with torch.no_grad():
        output, spikes = module.spikes(model.eval(), x.float())
        wanted = Reference(spec, single)(x)
    assert_lively(wanted)
    assert output.dtype == torch.float32
    differs = torch.zeros(128, dtype=torch.bool)
    for key, value in wanted.spikes.items():
        differs |= (spikes[key].double() != value).flatten(1).any(1)
    assert differs.float().mean() <= 0.05
    same = ~differs
    assert torch.allclose(output.double()[:, same], wanted.output[:, same], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_weights_depend_on_seed_and_name_alone(schedule: str) -> None:
    from bcgraph.compiler import compile as compile_spec

    few, many = small(backward=[(2, 0)]), small(backward=[(3, 3), (2, 0, 3), (1, 0)], steps=2)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = compile_spec(few, schedule=schedule, seed=3).state_dict()
    assert torch.equal(before, torch.get_rng_state()), "no hidden generator is used"
    torch.manual_seed(2)
    second = compile_spec(many, schedule=schedule, seed=3).state_dict()
    assert set(first) < set(second)
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    other = compile_spec(few, schedule=schedule, seed=4).state_dict()
    drawn = [n for n in first if n.endswith(("conv.weight", "conv1.weight", "conv2.weight", "fc1.weight"))]
    assert len(drawn) >= 5
    assert all(not torch.equal(first[name], other[name]) for name in drawn)
    assert len({float(first[name].flatten()[0]) for name in drawn}) == len(drawn), "each name draws its own"


def test_schedules_begin_with_the_same_weights() -> None:
    from bcgraph.compiler import compile as compile_spec

    spec = small(backward=BACKWARD)
    states = [compile_spec(spec, schedule=s, seed=5).state_dict() for s in SCHEDULES]
    for one in states[1:]:
        assert list(one) == list(states[0])
        assert all(torch.equal(value, states[0][name]) for name, value in one.items())


# What programs, generated functions and their arguments are called.
NAMES = ["x", "x_t", "O", "T", "exists", "frames", "output", "torch", "operator", "self", "weight", "bias", "lif"]
# What torch modules call their own parts, and what Python keeps for itself.
TAKEN = [
    "backward",
    "class",
    "code",
    "forward",
    "graph",
    "initial_states",
    "lambda",
    "meta",
    "named_modules",
    "parameters",
    "register_buffer",
    "train",
    "training",
]


def bodies(name: str) -> list[list[Any]]:
    """Networks with a user's name on a layer with weights, on a block, and on a port."""
    return [
        [conv("conv1", 3), lif("lif1"), flatten(), linear(name, 4), lif("lif2"), linear("fc", 3)],
        [conv(f"{name}.conv1", 3), bn(f"{name}.{name}"), lif(f"{name}.lif1"), flatten(), linear(f"{name}.fc", 3)],
        [conv("conv1", 3), lif(name), flatten(), linear("fc", 3)],
    ]


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("name", NAMES)
def test_names_a_user_may_give(name: str, schedule: str) -> None:
    for body in bodies(name):
        compare(network(body, shape=(2, 4, 4), steps=2, backward=[(0, 0)]), schedule, training=True)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("name", TAKEN)
def test_names_that_are_taken(name: str, schedule: str) -> None:
    """They work, or they are refused as the user's to change: never a traceback, never another network."""
    for body in bodies(name):
        spec = network(body, shape=(2, 4, 4), steps=2, backward=[(0, 0)])
        refusal = refused(spec, schedule)
        if refusal is None:
            compare(spec, schedule, training=True)
        else:
            assert f"`{name}" in refusal


def refused(spec: schema.NetworkSpec, schedule: str) -> str | None:
    try:
        build(spec, schedule, state(spec))
    except BcgraphError as error:
        return str(error)
    return None


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_names_that_differ_in_punctuation_only(schedule: str) -> None:
    body = [conv("a.b_c", 3), bn("a_b.c"), lif("a_b_c"), conv("a_b_c_s", 3), lif("a.b.c"), flatten(), linear("fc", 3)]
    spec = network(body, shape=(2, 4, 4), steps=2, backward=[(1, 0), (0, 0, 2), (1, 1)])
    compare(spec, schedule, training=True)


@pytest.mark.parametrize("schedule", WHOLE)
def test_a_sequence_of_another_length_is_refused(schedule: str) -> None:
    spec = small(steps=3, sequence=True)
    model = build(spec, schedule, state(spec))
    for wrong in (batch(spec)[:2], batch(spec)[0], torch.cat([batch(spec)] * 2)):
        with pytest.raises(DataError) as caught:
            model(wrong)
        assert caught.value.code == "E090"


def test_unknown_schedules_and_passes_are_named() -> None:
    from bcgraph.compiler import compile as compile_spec

    with pytest.raises(BcgraphError) as caught:
        compile_spec(small(), schedule="unroled")
    assert caught.value.code == "E072"
    assert "unrolled" in str(caught.value)
    with pytest.raises(BcgraphError) as caught:
        compile_spec(small(), optimize=["fuse_neurone"])
    assert caught.value.code == "E072"
    assert "fuse_neuron" in str(caught.value)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_each_step_drops_values_of_its_own(schedule: str) -> None:
    """The same spikes at each step of a static input, each time behind another mask."""
    neuron = neurons.lif(tau=0.0, threshold=1e-3)
    drop = schema.Dropout(name="drop", probability=0.5)
    x = torch.ones(2, 1, 8, 8, dtype=torch.float64)
    for body, kept in (([lif("lif1", neuron), drop, flatten()], 2.0), ([drop, lif("lif1", neuron), flatten()], 1.0)):
        spec = network(body, shape=(1, 8, 8), steps=4)
        model = build(spec, schedule, {}).train()
        output, _ = execute(model, schedule, spec, x)
        assert set(output.unique().tolist()) == {0.0, kept}
        assert all(not torch.equal(output[t], output[0]) for t in range(1, 4))
        assert torch.equal(execute(model.eval(), schedule, spec, x)[0], torch.ones(4, 2, 64, dtype=torch.float64))


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_spikes_straight_into_a_neuron(schedule: str) -> None:
    """Ports without anything between them: sums of whole spikes, where membranes tie with the threshold exactly."""
    body = [
        conv("conv", 3),
        lif("a"),
        lif("b"),
        schema.Sum(name="sum", branches=((), (lif("c", neurons.lif(threshold=0.5)),))),
        lif("d", neurons.lif(reset="soft")),
        flatten(),
        linear("fc", 3),
    ]
    spec = network(body, shape=(2, 5, 5), steps=5, backward=[(3, 0), (2, 1, 2)])
    compare(spec, schedule, training=False)
    compare(network(body, shape=(2, 5, 5), steps=5), schedule, training=True)


@pytest.mark.parametrize("schedule", WHOLE)
def test_spikes_are_binary_and_in_order(schedule: str) -> None:
    spec = small(steps=3, backward=BACKWARD)
    model = build(spec, schedule, state(spec)).eval()
    output, spikes = execute(model, schedule, spec, batch(spec))
    assert spikes is not None
    assert list(spikes) == sorted(spikes)
    assert list(spikes) == [(p, t) for p in range(4) for t in range(3)]
    assert all(bool(((s == 0) | (s == 1)).all()) for s in spikes.values())
    assert torch.equal(output, model(batch(spec)).cpu())


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_dead_network_is_zero_and_not_wrong(schedule: str) -> None:
    """No port fires: O is the bias, and gradients are finite."""
    neuron = neurons.lif(threshold=1e6)
    spec = small(steps=3, neuron=neuron, backward=BACKWARD)
    values = state(spec)
    trace = compare(spec, schedule, training=True, lively=False)
    assert trace.rate() == 0
    model = build(spec, schedule, values).eval()
    output, _ = execute(model, schedule, spec, batch(spec))
    assert torch.equal(output, values["fc2.bias"].expand(3, 3, 4))


def test_step_form_of_a_copy_still_knows_its_states() -> None:
    spec = small(backward=BACKWARD)
    step = build(spec, "step", state(spec)).eval()
    x: Tensor = batch(spec)
    assert torch.equal(chain(copy.deepcopy(step), spec, x), chain(step, spec, x))

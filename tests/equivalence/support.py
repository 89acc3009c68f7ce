"""Networks, values and comparisons that the equivalence tests share."""

from __future__ import annotations

import math
import os
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from dataclasses import replace as replace_fields
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from bcgraph import schema
from tests import neurons
from tests.reference import Reference, Trace, state_shapes

# Every schedule that must compute the same numbers, in the same order of events.
SCHEDULES = ["unrolled", "folded", "step"]

DEVICE = torch.device(os.environ.get("BCGRAPH_TEST_DEVICE", "cpu"))
"""Where what is compiled runs. Values, the reference and what is compared with it are on the CPU."""

OUTPUT = 1e-9
GRADIENT = 1e-6


# --- Networks built by hand -------------------------------------------------------------------------------


def conv(name: str, channels: int, kernel: int = 3, **settings: Any) -> schema.Conv:
    return schema.Conv(name=name, channels=channels, kernel=kernel, **{"padding": kernel // 2} | settings)


def bn(name: str, norm: schema.Norm | None = None) -> schema.BatchNorm:
    return schema.BatchNorm(name=name, norm=norm or schema.Norm())


def lif(name: str, neuron: schema.Neuron | None = None) -> schema.NeuronLayer:
    return schema.NeuronLayer(name=name, neuron=neuron or neurons.lif())


def linear(name: str, features: int, bias: bool = True) -> schema.Linear:
    return schema.Linear(name=name, features=features, bias=bias)


def flatten(name: str = "flatten") -> schema.Flatten:
    return schema.Flatten(name=name)


def pool(name: str, size: int = 2, kind: Any = "avgpool") -> schema.Pool:
    return schema.Pool(name=name, kind=kind, kernel=size, stride=size)


def average(name: str = "avgpool", size: int = 1) -> schema.AdaptivePool:
    return schema.AdaptivePool(name=name, kind="adaptive_avgpool", size=size)


def network(
    body: Sequence[Any],
    *,
    shape: tuple[int, int, int] = (2, 6, 6),
    sequence: bool = False,
    steps: int = 3,
    backward: Sequence[tuple[int, ...]] = (),
    norm: schema.Norm | None = None,
) -> schema.NetworkSpec:
    given = schema.SequenceInput(*shape) if sequence else schema.ImageInput(*shape)
    backbone = schema.Backbone.build(schema.Call("handmade"), "", tuple(body))
    spec = schema.NetworkSpec(name="net", input=given, steps=steps, norm=norm or schema.Norm(), backbone=backbone)
    return spec.with_backward(backward)


def replace(spec: schema.NetworkSpec, **fields: Any) -> schema.NetworkSpec:
    return schema.NetworkSpec(**(dict(spec.__dict__) | fields))


def small(
    *,
    steps: int = 3,
    sequence: bool = False,
    neuron: schema.Neuron | None = None,
    norm: schema.Norm | None = None,
    backward: Sequence[tuple[int, ...]] = (),
) -> schema.NetworkSpec:
    """Three convolutional ports of 7x7, 7x7 and 4x4 with a residual between them, and a vector port: 0 to 3."""
    body = [
        conv("conv1", 4),
        bn("bn1", norm),
        lif("lif1", neuron),
        schema.Sum(
            name="sum",
            branches=(
                (
                    conv("block.conv1", 4),
                    bn("block.bn1", norm),
                    lif("block.lif1", neuron),
                    conv("block.conv2", 6, stride=2),
                    bn("block.bn2", norm),
                ),
                (conv("block.downsample.0", 6, kernel=1, stride=2), bn("block.downsample.1", norm)),
            ),
        ),
        lif("block.lif2", neuron),
        flatten(),
        linear("fc1", 12),
        lif("lif2", neuron),
        linear("fc2", 4),
    ]
    return network(body, shape=(2, 7, 7), sequence=sequence, steps=steps, backward=backward, norm=norm)


# --- Values -----------------------------------------------------------------------------------------------


def generator(*key: object) -> torch.Generator:
    return torch.Generator().manual_seed(zlib.crc32(repr(key).encode()))


def state(spec: schema.NetworkSpec, seed: int = 0) -> dict[str, Tensor]:
    """Values for every parameter and buffer under which all of a network's rules show and its ports fire."""
    return {name: _value(name, shape, generator(seed, name)) for name, shape in state_shapes(spec).items()}


def _value(name: str, shape: tuple[int, ...], g: torch.Generator) -> Tensor:
    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(shape, generator=g, dtype=torch.float64)

    kind = name.rsplit(".", 1)[-1]
    if kind == "num_batches_tracked":
        return torch.full(shape, 5, dtype=torch.int64)
    if kind == "running_var":
        return uniform(0.2, 1.2)
    if kind == "running_mean":
        return uniform(-0.4, 0.4)
    if kind == "bias":
        return uniform(-0.3, 0.6)
    if len(shape) == 1:  # the scale of a batch norm
        return uniform(0.6, 1.6)
    return torch.randn(shape, generator=g, dtype=torch.float64) * (4 / math.prod(shape[1:])) ** 0.5


def batch(spec: schema.NetworkSpec, size: int = 3, seed: int = 0) -> Tensor:
    given = spec.input
    axes = (size, *given.shape)
    if isinstance(given, schema.SequenceInput):
        axes = (spec.steps, *axes)
    return torch.randn(axes, generator=generator(seed, "x"), dtype=torch.float64)


# --- Running what is compiled -----------------------------------------------------------------------------


def build(spec: schema.NetworkSpec, schedule: str, values: Mapping[str, Tensor], **options: Any) -> Any:
    """The compiled network in float64, with `values` loaded and every name accounted for."""
    from bcgraph.compiler import compile as compile_spec

    model = compile_spec(spec, schedule=schedule, dtype=torch.float64, **{"device": DEVICE} | options)
    model.load_state_dict(dict(values), strict=True)
    if DEVICE.type != "cpu":
        model.register_forward_pre_hook(_on_device)
    return model


def _on_device(_: nn.Module, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(one.to(DEVICE) for one in given)


def chain(step: Any, spec: schema.NetworkSpec, x: Tensor, steps: int | None = None) -> Tensor:
    """O of the step form called once for each step, each time with the states of the last."""
    frames = x if isinstance(spec.input, schema.SequenceInput) else [x] * (steps or spec.steps)
    states = step.initial_states(frames[0])
    outputs = []
    for frame in frames:
        output, *states = step(frame, *states)
        outputs.append(output)
    return torch.stack(outputs).cpu()


def execute(
    model: Any, schedule: str, spec: schema.NetworkSpec, x: Tensor
) -> tuple[Tensor, dict[tuple[int, int], Tensor] | None]:
    """O and the spikes; the step form shows no spikes."""
    from bcgraph.compiler.targets.fx import module

    if schedule == "step":
        return chain(model, spec, x), None
    output, spikes = module.spikes(model, x.to(DEVICE))
    return output.cpu(), {place: s.cpu() for place, s in spikes.items()}


# --- Comparing --------------------------------------------------------------------------------------------


def compare(
    spec: schema.NetworkSpec,
    schedule: str,
    *,
    training: bool,
    size: int = 3,
    seed: int = 0,
    lively: bool = True,
    last: bool = False,
    values: Mapping[str, Tensor] | None = None,
    judge: Callable[[schema.NetworkSpec, Mapping[str, Tensor]], Reference] = Reference,
    **options: Any,
) -> Trace:
    """Two passes forward and backward through the reference and a compiled network; everything must agree.

    `last` lays weights and inputs channels-last; `values` are used instead of those of `state`, and `judge` instead of
    the reference of LIF networks.
    """
    values = state(spec, seed) if values is None else values
    model = build(spec, schedule, values, **options)
    # What is compiled for inference is in eval mode, and stays there.
    model = model if options.get("inference") else model.train(training)
    if last:
        model = model.to(memory_format=torch.channels_last)
    for judged in _both_turns(spec, Values(values), size, seed, training, last, judge):
        agrees(model, judged, schedule, spec, training=training)
        if lively:
            assert_lively(judged.trace)
    return judged.trace


@dataclass(frozen=True, eq=False)
class Judged:
    """What the reference makes of `x`: its trace, the gradients of a fixed cotangent, and its buffers after that."""

    x: Tensor
    trace: Trace
    gradients: Mapping[str, Tensor] | None
    buffers: Mapping[str, Tensor]


class Values(dict[str, Tensor]):
    """Values of parameters and buffers that are equal by content, so that what follows from them is known again."""

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(tuple((name, value.shape) for name, value in sorted(self.items())))

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Values)
            and self.keys() == other.keys()
            and all(torch.equal(value, other[name]) for name, value in self.items())
        )


@lru_cache(maxsize=2)
def _both_turns(
    spec: schema.NetworkSpec,
    values: Values,
    size: int,
    seed: int,
    training: bool,
    last: bool,
    judge: Callable[[schema.NetworkSpec, Mapping[str, Tensor]], Reference],
) -> tuple[Judged, ...]:
    """Two passes through the reference. Kept for the other schedules of the same network, which come next."""
    reference = judge(spec, values)
    found = []
    for turn in range(2):
        x = batch(spec, size, seed + turn)
        if last and x.dim() == 4:
            x = x.to(memory_format=torch.channels_last)
        found.append(judged_by(reference, x, training=training))
    return tuple(found)


def judged_by(reference: Reference, x: Tensor, *, training: bool) -> Judged:
    """A pass through the reference, forward and backward."""
    given = x.clone().requires_grad_()
    trace = reference(given, training=training)
    reference.zero_grad()
    gradients = None
    if trace.output.requires_grad:
        (trace.output * cotangent(trace.output)).sum().backward()
        mine = {"x": torch.zeros_like(given) if given.grad is None else given.grad}
        gradients = {name: value.clone() for name, value in (reference.gradients() | mine).items()}
    spikes = {place: s.detach() for place, s in trace.spikes.items()}
    buffers = {name: value.clone() for name, value in reference.buffers.items()}
    return Judged(x, replace_fields(trace, output=trace.output.detach(), spikes=spikes), gradients, buffers)


def cotangent(output: Tensor) -> Tensor:
    return torch.randn(output.shape, generator=generator("cotangent"), dtype=torch.float64)


def compare_pass(model: Any, reference: Reference, schedule: str, x: Tensor, *, training: bool) -> Trace:
    judged = judged_by(reference, x, training=training)
    agrees(model, judged, schedule, reference.spec, training=training)
    return judged.trace


def agrees(model: Any, judged: Judged, schedule: str, spec: schema.NetworkSpec, *, training: bool) -> None:
    """A pass of a compiled network, forward and backward, is that of the reference."""
    ours, trace = judged.x.clone().requires_grad_(), judged.trace
    output, spikes = execute(model, schedule, spec, ours)
    assert_close(output, trace.output, "O")
    if spikes is not None:
        assert_same_spikes(spikes, trace.spikes)

    model.zero_grad(set_to_none=True)
    if judged.gradients is not None:
        (output * cotangent(output)).sum().backward()
        assert_these_gradients(model, ours, judged.gradients)
    assert_same_buffers(model, judged.buffers)
    if not training:
        compare_without_gradients(model, schedule, trace, spec, judged.x)


@torch.no_grad()
def compare_without_gradients(model: Any, schedule: str, trace: Trace, spec: schema.NetworkSpec, x: Tensor) -> None:
    """Other kernels run where no gradient is asked for, and an inference module uses its memory again."""
    output, spikes = execute(model, schedule, spec, x)
    assert_close(output, trace.output, "O without gradients")
    if spikes is not None:
        assert_same_spikes(spikes, trace.spikes)
        assert_close(model(x), trace.output, "O of the module itself")


def assert_lively(trace: Trace) -> None:
    """A comparison of silent or of saturated networks proves nothing."""
    assert 0.01 < trace.rate() < 0.99, trace.rates()


def assert_close(ours: Tensor, theirs: Tensor, what: str) -> None:
    assert ours.dtype == torch.float64, what
    assert ours.shape == theirs.shape, (what, ours.shape, theirs.shape)
    worst = float((ours.cpu() - theirs.cpu()).detach().abs().max()) if ours.numel() else 0.0
    assert worst <= OUTPUT, (what, worst)


def assert_same_spikes(ours: Mapping[tuple[int, int], Tensor], theirs: Mapping[tuple[int, int], Tensor]) -> None:
    assert set(ours) == set(theirs)
    for key in sorted(theirs):
        assert ours[key].shape == theirs[key].shape, key
        where = f"port {key[0]} at step {key[1]}"
        if torch.equal(theirs[key], theirs[key].round()):
            assert torch.equal(ours[key].to(torch.float64), theirs[key]), where
        else:
            assert_close(ours[key], theirs[key], where)  # what a neuron without spikes sends


def assert_same_gradients(model: nn.Module, reference: Reference, ours: Tensor, theirs: Tensor) -> None:
    mine = {"x": torch.zeros_like(theirs) if theirs.grad is None else theirs.grad}
    assert_these_gradients(model, ours, reference.gradients() | mine)


def assert_these_gradients(model: nn.Module, ours: Tensor, wanted: Mapping[str, Tensor]) -> None:
    found = {n: (torch.zeros_like(p) if p.grad is None else p.grad).cpu() for n, p in model.named_parameters()} | {
        "x": torch.zeros_like(ours) if ours.grad is None else ours.grad
    }
    assert set(found) == set(wanted)
    # What is zero on paper (a bias in front of a batch norm) is rounding on both sides: it has no relative error.
    floor = 1e-12 * max(float(g.abs().max()) for g in wanted.values())
    for name, gradient in wanted.items():
        assert found[name].shape == gradient.shape, name
        worst = float((found[name] - gradient).abs().max())
        assert worst <= GRADIENT * float(gradient.abs().max()) + floor, (name, worst)


def assert_same_buffers(model: nn.Module, wanted: Mapping[str, Tensor]) -> None:
    found = {name: value.cpu() for name, value in model.named_buffers()}
    assert set(wanted) <= set(found)
    for name, value in wanted.items():
        assert found[name].shape == value.shape, name
        if value.is_floating_point():
            assert_close(found[name], value, name)
        else:
            assert torch.equal(found[name], value.cpu()), (name, found[name], value)


@contextmanager
def unchanged(model: nn.Module) -> Iterator[None]:
    """Nothing in the state of `model` changes inside."""
    before = {name: value.clone() for name, value in model.state_dict().items()}
    yield
    after = model.state_dict()
    assert set(before) == set(after)
    for name, value in before.items():
        assert torch.equal(value, after[name]), name

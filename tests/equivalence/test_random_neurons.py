"""Neurons that nobody has seen: definitions at random, against a plain loop that is drawn with them.

Each expression is drawn as text and as a function of torch at once, so that the reference shares nothing with the
language, the equations or the kernels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

import bcgraph

Values = dict[str, Tensor]
Meaning = Callable[[Values], Tensor]

STEPS, CHANNELS = 4, 3


@dataclass(frozen=True)
class Expression:
    """A text and what it means."""

    text: str
    meaning: Meaning


@dataclass(frozen=True)
class Definition:
    """A neuron: its text, states, learned parameters with first values, equations in order, and its threshold."""

    text: str
    learned: tuple[tuple[str, float, bool], ...]
    states: tuple[str, ...]
    equations: tuple[tuple[str, Meaning], ...]


class Spike(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return (x > 0).double()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return gradients[0] * (1 - x.abs()).clamp(min=0)


UNARY: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh({})": torch.tanh,
    "sigmoid({})": torch.sigmoid,
    "softplus({})": lambda a: torch.log(1 + torch.exp(a)),
    "exp(-abs({}))": lambda a: torch.exp(-a.abs()),
    "sqrt(1 + ({}) ** 2)": lambda a: torch.sqrt(1 + a * a),
    "log(2 + abs({}))": lambda a: torch.log(2 + a.abs()),
    "relu({})": lambda a: a * (a > 0),
    "-({})": lambda a: -a,
    "clamp({}, -1, 2)": lambda a: a.clamp(-1, 2),
    "detach({})": lambda a: a.detach(),
}
BINARY: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "({} + {})": lambda a, b: a + b,
    "({} - {})": lambda a, b: a - b,
    "({} * tanh({}))": lambda a, b: a * torch.tanh(b),
    "({} / (1 + abs({})))": lambda a, b: a / (1 + b.abs()),
    "max({}, {})": lambda a, b: torch.where(a >= b, a, b),
    "min({}, {})": lambda a, b: torch.where(a <= b, a, b),
    "({0} if {0} > {1} else 0.5 * {1})": lambda a, b: torch.where(a > b, a, 0.5 * b),
}


def expressions(names: list[str]) -> st.SearchStrategy[Expression]:
    numbers = st.sampled_from([-0.5, 0.25, 0.5, 1.0, 1.5])
    leaves = st.sampled_from(names).map(lambda n: Expression(n, lambda v, n=n: v[n])) | numbers.map(  # type: ignore[misc]
        lambda x: Expression(repr(x), lambda v, x=x: torch.tensor(x, dtype=torch.float64))  # type: ignore[misc]
    )

    def grow(inner: st.SearchStrategy[Expression]) -> st.SearchStrategy[Expression]:
        unary = st.tuples(st.sampled_from(list(UNARY)), inner).map(
            lambda drawn: Expression(drawn[0].format(drawn[1].text), _one(UNARY[drawn[0]], drawn[1].meaning))
        )
        binary = st.tuples(st.sampled_from(list(BINARY)), inner, inner).map(
            lambda drawn: Expression(
                drawn[0].format(drawn[1].text, drawn[2].text),
                _two(BINARY[drawn[0]], drawn[1].meaning, drawn[2].meaning),
            )
        )
        return unary | binary

    return st.recursive(leaves, grow, max_leaves=5)


def _one(function: Callable[[Tensor], Tensor], a: Meaning) -> Meaning:
    return lambda v: function(a(v))


def _two(function: Callable[[Tensor, Tensor], Tensor], a: Meaning, b: Meaning) -> Meaning:
    return lambda v: function(a(v), b(v))


@st.composite
def definitions(draw: st.DrawFn) -> Definition:
    states = tuple(f"q{i}" for i in range(draw(st.integers(1, 2))))
    learned = tuple(
        (f"w{i}", draw(st.sampled_from([0.3, 0.8, -0.4])), draw(st.booleans())) for i in range(draw(st.integers(0, 2)))
    )
    known = ["I", *states, *(name for name, _, _ in learned)]
    lines = [f"  learn{'[channels]' if by else ''} {name} = {first!r}" for name, first, by in learned]
    lines += [f"  state {name} = 0" for name in states]
    equations: list[tuple[str, Meaning]] = []
    extra = draw(expressions(known))
    lines.append(f"  u = 0.5 * {states[0]} + I + 0.5 * ({extra.text})")
    equations.append(("u", lambda v: 0.5 * v[states[0]] + v["I"] + 0.5 * extra.meaning(v)))
    level = draw(expressions([*known, "u"]))
    lines.append(f"  level = 0.6 + 0.2 * tanh({level.text})")
    equations.append(("level", lambda v: 0.6 + 0.2 * torch.tanh(level.meaning(v))))
    lines.append("  s = spike(u - level, triangle())")
    equations.append(("s", lambda v: Spike.apply(v["u"] - v["level"])))  # type: ignore[no-any-return]
    known += ["u", "level", "s"]
    for name in states:
        after = draw(expressions(known))
        # A soft reset of what else would be drawn, kept small so that no value grows without bound.
        lines.append(f"  {name} = tanh({after.text}) - 0.3 * s")
        equations.append((name, lambda v, after=after: torch.tanh(after.meaning(v)) - 0.3 * v["s"]))  # type: ignore[misc]
    text = "neuron drawn() {\n" + "\n".join(lines) + "\n}\n"
    return Definition(text, learned, states, tuple(equations))


NETWORK = """bcg 1

{definition}
block net() {{
  conv1 = conv({channels}); bn1 = bn(); n1 = neuron()
  conv2 = conv({channels}); bn2 = bn(); n2 = neuron()
  flatten(); fc = linear(3)
}}
network drawn_net {{ input = image(2, 4, 4); steps = {steps}; neuron = drawn(); backbone = net() }}
"""


class Plain(nn.Module):
    """The same network as a loop over steps."""

    def __init__(self, definition: Definition, state: dict[str, Tensor]) -> None:
        super().__init__()
        self.definition = definition
        self.values = state

    def neuron(self, name: str, current: Tensor, before: Values) -> tuple[Tensor, Values]:
        values: Values = {"I": current}
        for learned, _, by_channel in self.definition.learned:
            value = self.values.get(f"{name}.{learned}")
            # A parameter that decides nothing is none of the network's.
            value = torch.zeros((), dtype=torch.float64) if value is None else value
            values[learned] = value.view(-1, 1, 1) if by_channel and value.dim() else value
        values |= {state: before.get(state, torch.zeros_like(current)) for state in self.definition.states}
        for assigned, meaning in self.definition.equations:
            values[assigned] = meaning(values) + torch.zeros_like(current)
        return values["s"], {state: values[state] for state in self.definition.states}

    def forward(self, x: Tensor) -> Tensor:
        v = self.values
        memory: dict[str, Values] = {"n1": {}, "n2": {}}
        outputs = []
        for _ in range(STEPS):
            y = x
            for i in ("1", "2"):
                y = F.conv2d(y, v[f"conv{i}.weight"], padding=1)
                y = F.batch_norm(y, None, None, v[f"bn{i}.weight"], v[f"bn{i}.bias"], True, eps=1e-5)
                y, memory[f"n{i}"] = self.neuron(f"n{i}", y, memory[f"n{i}"])
            outputs.append(F.linear(y.flatten(1), v["fc.weight"], v["fc.bias"]))
        return torch.stack(outputs)


def built(definition: Definition) -> tuple[bcgraph.NetworkSpec, dict[str, Tensor], Tensor]:
    spec = bcgraph.parse(NETWORK.format(definition=definition.text, channels=CHANNELS, steps=STEPS))
    assert bcgraph.parse(bcgraph.format(spec)) == spec
    state = bcgraph.compile(spec, dtype=torch.float64).state_dict()
    x = torch.randn(3, 2, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return spec, state, x


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(definitions())
def test_every_schedule_computes_what_the_loop_does(definition: Definition) -> None:
    spec, state, x = built(definition)
    trained = {k: v.clone().requires_grad_() for k, v in state.items() if v.is_floating_point() and "running" not in k}
    theirs = x.clone().requires_grad_()
    wanted = Plain(definition, {**state, **trained})(theirs)
    weights = torch.randn(wanted.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    names = list(trained)
    gradients = torch.autograd.grad((wanted * weights).sum(), [theirs, *trained.values()], allow_unused=True)
    for schedule, options in (("unrolled", {}), ("folded", {}), ("unrolled", {"optimize": ()})):
        model = bcgraph.compile(spec, schedule, dtype=torch.float64, **options).train()
        model.load_state_dict(state)
        ours = x.clone().requires_grad_()
        found = model(ours)
        torch.testing.assert_close(found, wanted, atol=1e-9, rtol=0, msg=definition.text)
        parameters = dict(model.named_parameters())
        mine = torch.autograd.grad(
            (found * weights).sum(), [ours, *(parameters[name] for name in names)], allow_unused=True
        )
        for name, a, b in zip(("x", *names), mine, gradients, strict=True):
            a, b = (torch.zeros(()) if g is None else g for g in (a, b))
            scale = max(1e-3, float(b.abs().max()))
            assert float((a - b).abs().max()) <= 1e-6 * scale, (schedule, name, definition.text)


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(definitions())
def test_steps_one_by_one_and_in_inference(definition: Definition) -> None:
    spec, state, x = built(definition)
    model = bcgraph.compile(spec, dtype=torch.float64).eval()
    model.load_state_dict(state)
    step = bcgraph.compile(spec, "step", dtype=torch.float64).eval()
    step.load_state_dict(state)
    with torch.no_grad():
        wanted = model(x)
        states = step.initial_states(x)
        for t in range(STEPS):
            output, *states = step(x, *states)
            torch.testing.assert_close(output, wanted[t], atol=1e-9, rtol=0, msg=definition.text)
        frozen = bcgraph.compile(spec, "folded", dtype=torch.float64, inference=True)
        frozen.load_state_dict(state)
        torch.testing.assert_close(frozen(x), wanted, atol=1e-7, rtol=0, msg=definition.text)


# Where no spike has come yet a state is exactly 0, and these bend there or have a derivative of their own.
AT_ZERO = [
    "softplus(q0)",
    "abs(q0)",
    "quantize(q0, 0, 2)",
    "relu(q0)",
    "max(q0, 0)",
    "min(q0, 0)",
    "clamp(q0, 0, 1)",
    "sqrt(1 + q0 ** 2)",
]


@pytest.mark.parametrize("expression", AT_ZERO)
def test_single_equations_and_kernels_have_one_derivative_at_zero(expression: str) -> None:
    text = (
        "neuron drawn() {\n"
        "  state q0 = 0\n"
        f"  u = I + 0.5 * ({expression})\n"
        "  s = spike(u - 0.6, triangle())\n"
        "  q0 = tanh(q0) - 0.3 * s\n"
        "}\n"
    )
    spec = bcgraph.parse(NETWORK.format(definition=text, channels=CHANNELS, steps=STEPS))
    x = torch.randn(3, 2, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = []
    for options in ({}, {"optimize": ()}):
        model = bcgraph.compile(spec, dtype=torch.float64, **options).train()
        given = x.clone().requires_grad_()
        found.append(torch.autograd.grad(model(given).square().sum(), given)[0])
    assert float((found[0] - found[1]).abs().max()) <= 1e-9 * float(found[0].abs().max())


@pytest.mark.parametrize("schedule", ["unrolled", "folded"])
def test_a_state_that_is_a_divisor_is_zero_at_first(schedule: str) -> None:
    text = (
        "neuron drawn() {\n"
        "  state q0 = 0\n"
        "  u = I / q0 if q0 > 0 else I\n"
        "  s = spike(u - 0.6, triangle())\n"
        "  q0 = 1 + s\n"
        "}\n"
    )
    spec = bcgraph.parse(NETWORK.format(definition=text, channels=CHANNELS, steps=STEPS))
    model = bcgraph.compile(spec, schedule, dtype=torch.float64).train()
    x = torch.randn(3, 2, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    equations: tuple[tuple[str, Meaning], ...] = (
        ("u", lambda v: torch.where(v["q0"] > 0, v["I"] / v["q0"].clamp(min=1), v["I"])),
        ("s", lambda v: (v["u"] > 0.6).double()),
        ("q0", lambda v: 1 + v["s"]),
    )
    wanted = Plain(Definition(text, (), ("q0",), equations), model.state_dict())(x)
    torch.testing.assert_close(model(x), wanted, atol=1e-9, rtol=0)
    with torch.no_grad():
        torch.testing.assert_close(model(x), wanted, atol=1e-9, rtol=0)


# What learned parameters alone decide at the first step, where the state is missing.
UNIFORM = ["relu(q0 + w)", "max(q0 + w, 0.1)", "w if q0 + w > 0.1 else 0.3", "0.7 if w > 0.1 and q0 < 1 else w"]


@pytest.mark.parametrize("by", ["", "[channels]"])
@pytest.mark.parametrize("expression", UNIFORM)
def test_what_learned_parameters_alone_decide(expression: str, by: str) -> None:
    text = (
        "neuron drawn() {\n"
        f"  learn{by} w = 0.3\n"
        "  state q0 = 0\n"
        f"  u = I + 0.5 * ({expression})\n"
        "  s = spike(u - 0.6, triangle())\n"
        f"  q0 = 0.5 * ({expression}) + 0.3 * tanh(q0)\n"
        "}\n"
    )
    spec = bcgraph.parse(NETWORK.format(definition=text, channels=CHANNELS, steps=STEPS))
    x = torch.randn(3, 2, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = []
    for schedule, options in (("unrolled", {"optimize": ()}), ("unrolled", {}), ("folded", {})):
        model = bcgraph.compile(spec, schedule, dtype=torch.float64, **options).train()
        given = x.clone().requires_grad_()
        output = model(given)
        learned = [p for name, p in model.named_parameters() if name.endswith(".w")]
        gradients = torch.autograd.grad(output.square().sum(), [given, *learned])
        found.append((output.detach(), *gradients))
    for other in found[1:]:
        for ours, plain in zip(other, found[0], strict=True):
            torch.testing.assert_close(ours, plain, atol=1e-9, rtol=1e-6)


@pytest.mark.slow
@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(definitions(), st.sampled_from(["unrolled", "step", "scan"]))
def test_onnx(tmp_path_factory: pytest.TempPathFactory, definition: Definition, form: str) -> None:
    spec, state, x = built(definition)
    path: Path = tmp_path_factory.mktemp("onnx") / "net.onnx"
    like = bcgraph.compile(spec).state_dict()
    single = {k: v.to(like[k].dtype) for k, v in state.items()}
    # Written only where onnxruntime computes what torch does, spikes compared one by one.
    bcgraph.export(spec, path, state_dict=single, form=form, inputs=x.float())
    if form == "unrolled":
        (found,) = onnxruntime.InferenceSession(path.read_bytes()).run(None, {"x": x.float().numpy()})
        model = bcgraph.compile(spec).eval()
        model.load_state_dict(single)
        with torch.no_grad():
            wanted = model(x.float()).numpy()
        # A membrane within rounding of its threshold may fire in one of them alone.
        same = np.abs(found - wanted).max(axis=(0, 2)) < 1e-3
        assert same.mean() >= 0.5

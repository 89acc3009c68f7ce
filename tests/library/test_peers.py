"""Neurons, surrogates and norms against the packages that people come from, step by step on the same currents.

SpikingJelly and snnTorch are not dependencies: `pip install --no-deps spikingjelly snntorch` and `pip install loguru
tqdm`. Without them these tests are skipped. SpikingJelly fires at its threshold, bcgraph above it; no current here
makes such a tie.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import bcgraph
from tests.equivalence.support import GRADIENT, OUTPUT, generator

STEPS, SAMPLES, WIDTH = 6, 4, 8
Peer = Callable[[Tensor], Tensor]


def ours(call: str, definitions: str = "") -> Any:
    """A network that sends the spikes of one layer of neurons, `[T, N, 1, 1, 8]` to `[T, N, 8]`."""
    spec = bcgraph.parse(
        f"bcg 1\n{definitions}\nblock body() {{ n = {call}; flatten(); fc = linear({WIDTH}, bias=false) }}\n"
        f"network n {{ input = sequence(1, 1, {WIDTH}); steps = {STEPS}; backbone = body() }}\n"
    )
    model = bcgraph.compile(spec, dtype=torch.float64)
    model.load_state_dict({"fc.weight": torch.eye(WIDTH, dtype=torch.float64)}, strict=False)
    return model


def currents() -> Tensor:
    shape = (STEPS, SAMPLES, WIDTH)
    return torch.randn(shape, generator=generator("peers"), dtype=torch.float64) * 1.5 + 0.4


def agree(
    call: str,
    theirs: Peer,
    learned: tuple[tuple[str, Tensor], ...] = (),
    definitions: str = "",
) -> None:
    """Equal spikes, and equal gradients of currents and of learned parameters."""
    model = ours(call, definitions)
    x, y = (currents().requires_grad_() for _ in range(2))
    sent, expected = model(x[:, :, None, None]), theirs(y)
    assert 0.03 < float((expected != 0).double().mean()) < 0.95
    assert float((sent - expected).abs().max()) <= OUTPUT
    weights = torch.randn(sent.shape, generator=generator("cotangent"), dtype=torch.float64)
    (sent * weights).sum().backward()
    (expected * weights).sum().backward()
    pairs = [(x, y), *((model.get_parameter(name), theirs) for name, theirs in learned)]
    for mine, other in pairs:
        assert mine.grad is not None
        assert other.grad is not None
        assert float(other.grad.abs().max()) > 1e-3
        worst = float((mine.grad.reshape(other.shape) - other.grad).abs().max())
        assert worst <= GRADIENT * float(other.grad.abs().max())


# --- SpikingJelly -----------------------------------------------------------------------------------------


def jelly(name: str, surrogate: str = "ATan", alpha: float = 2.0, **settings: Any) -> Any:
    """A node of SpikingJelly for all steps at once, in float64."""
    neuron = pytest.importorskip("spikingjelly.activation_based.neuron")
    kinds = pytest.importorskip("spikingjelly.activation_based.surrogate")
    if surrogate:
        settings["surrogate_function"] = getattr(kinds, surrogate)(alpha=alpha)
    return getattr(neuron, name)(step_mode="m", **settings).double()


JELLY = {
    "if_(surrogate=atan())": ("IFNode", {}),
    "if_(reset=soft, surrogate=atan())": ("IFNode", {"v_reset": None}),
    "lif(tau=0.75, surrogate=atan())": ("LIFNode", {"tau": 4.0, "decay_input": False}),
    "lif(tau=0.5, detach_reset=true, surrogate=atan())": ("LIFNode", {"decay_input": False, "detach_reset": True}),
    "ilif()": ("ILIFNode", {"surrogate": ""}),
}


@pytest.mark.parametrize("call", JELLY)
def test_neurons_of_spikingjelly(call: str) -> None:
    name, settings = JELLY[call]
    agree(call, jelly(name, **settings))


@pytest.mark.parametrize(("reset", "value"), [("hard", 0.0), ("soft", None)])
def test_a_current_that_decays_too(reset: str, value: float | None) -> None:
    """With decay_input a current counts 1/tau, so the same spikes come at tau times the threshold."""
    x = currents()
    with torch.no_grad():
        expected = jelly("LIFNode", tau=2.0, v_reset=value)(x)
        assert torch.equal(ours(f"lif(tau=0.5, threshold=2, reset={reset})")(x[:, :, None, None]), expected)


@pytest.mark.parametrize("reset", ["hard", "soft"])
def test_plif_of_spikingjelly(reset: str) -> None:
    node = jelly("ParametricLIFNode", init_tau=1.5, v_reset=0.0 if reset == "hard" else None, v_threshold=0.6)
    agree(f"plif(tau=1.5, threshold=0.6, reset={reset})", node, (("n.w", node.w),))


@pytest.mark.parametrize("reset", ["hard", "soft"])
def test_klif_of_spikingjelly(reset: str) -> None:
    node = jelly("KLIFNode", tau=1.5, v_reset=0.0 if reset == "hard" else None, v_threshold=0.6)
    agree(f"klif(tau=1.5, threshold=0.6, reset={reset})", node, (("n.k", node.k),))


@pytest.mark.parametrize(
    ("call", "name", "alpha"),
    [
        ("atan(alpha=3)", "ATan", 3.0),
        ("sigmoid(alpha=4)", "Sigmoid", 4.0),
        ("piecewise_quadratic(alpha=0.8)", "PiecewiseQuadratic", 0.8),
        ("triangle(width=1.25)", "PiecewiseQuadratic", 0.8),
        ("erf(alpha=1.5)", "Erf", 1.5),
        ("rectangle(width=2)", "Rect", 0.5),
        ("fast_sigmoid(slope=1)", "SuperSpike", 1.0),
    ],
)
def test_surrogates_of_spikingjelly(call: str, name: str, alpha: float) -> None:
    agree(f"if_(surrogate={call})", jelly("IFNode", name, alpha))


# --- snnTorch ---------------------------------------------------------------------------------------------


def snn(name: str, surrogate: str, strength: dict[str, float], **settings: Any) -> Peer:
    """A neuron of snnTorch as a function of all steps."""
    package = pytest.importorskip("snntorch")
    kinds = pytest.importorskip("snntorch.surrogate")
    layer = getattr(package, name)(spike_grad=getattr(kinds, surrogate)(**strength), **settings).double()

    def run(x: Tensor) -> Tensor:
        states: list[Tensor] = [torch.zeros_like(x[0])] * (2 if name == "Synaptic" else 1)
        sent = []
        for frame in x:
            spikes, *states = layer(frame, *states)
            sent.append(spikes)
        return torch.stack(sent)

    return run


@pytest.mark.parametrize("detached", [True, False])
@pytest.mark.parametrize(
    ("surrogate", "theirs", "strength"),
    [
        ("atan(alpha=2)", "atan", {"alpha": 2.0}),
        ("fast_sigmoid(slope=25)", "fast_sigmoid", {"slope": 25}),
        ("sigmoid(alpha=5)", "sigmoid", {"slope": 5}),
    ],
)
def test_leaky_of_snntorch(surrogate: str, theirs: str, strength: dict[str, float], detached: bool) -> None:
    """Reset to zero. By default the reset comes a step later, which is the same, and carries no gradient."""
    peer = snn("Leaky", theirs, strength, beta=0.8, reset_mechanism="zero", reset_delay=detached)
    agree(f"lif(tau=0.8, detach_reset={str(detached).lower()}, surrogate={surrogate})", peer)


SUBTRACT = """neuron subtract(alpha=0.0, beta=0.8, threshold=1.0, surrogate=atan()) {
  state i = 0
  state v = 0
  state before = 0
  i = alpha * i + I
  v = beta * v + i - threshold * before
  s = spike(v - threshold, surrogate)
  before = detach(s)
}"""


def test_subtraction_a_step_later() -> None:
    """snnTorch's default takes the whole threshold off after the decay: another neuron than a soft reset here."""
    peer = snn("Leaky", "atan", {"alpha": 2.0}, beta=0.8)
    agree("subtract()", peer, definitions=SUBTRACT)
    peer = snn("Synaptic", "atan", {"alpha": 2.0}, alpha=0.6, beta=0.8)
    agree("subtract(alpha=0.6)", peer, definitions=SUBTRACT)

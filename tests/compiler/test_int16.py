"""Weights of 16 bits in modules for inference: what is rounded, and that the rounded network is computed exactly."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, fx

import bcgraph
from bcgraph import dsl
from bcgraph.compiler.targets.fx.observer import spikes
from bcgraph.errors import CompileError
from bcgraph.nn.conv import int16
from bcgraph.schema import NetworkSpec
from tests.reference import Reference

LARGEST = 127 * 255 + 127
TEXT = """
bcg 1

network small {
  input    = image(2, 6, 6)
  steps    = 3
  backbone = tiny(width=16, classes=5)

  backward @4 -> @0
  backward @1 -> @1 { delay = 2 }
}
"""
SCHEDULES = ("unrolled", "folded")
kernels = pytest.mark.skipif(not int16.kernels_are_exact(), reason="this processor has no exact kernels for 8 bits")


@pytest.fixture(scope="module")
def spec() -> NetworkSpec:
    return dsl.parse(TEXT)


@pytest.fixture(scope="module")
def x() -> Tensor:
    return torch.rand((6, 2, 6, 6), generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def values(spec: NetworkSpec, x: Tensor) -> dict[str, Tensor]:
    """Weights with norms that have seen data."""
    model = bcgraph.compile(spec, seed=1)
    for _ in range(50):
        model(x)
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def rounded(values: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights of all convolutions but the first, which reads an image, as whole numbers of 16 bits times scales."""
    found = {}
    for name, value in values.items():
        found[name] = value.double() if value.is_floating_point() else value
        if value.dim() == 4 and name != "conv1.weight":
            scale = value.double().abs().amax((1, 2, 3), keepdim=True) / LARGEST
            found[name] = torch.round(value.double() / scale) * scale
    return found


def module(
    spec: NetworkSpec, schedule: str, values: dict[str, Tensor], dtype: torch.dtype = torch.float32
) -> fx.GraphModule:
    model = bcgraph.compile(spec, schedule, inference=True, weights="int16", dtype=dtype)
    model.load_state_dict(values)
    return model


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_it_is_the_network_with_rounded_weights(
    spec: NetworkSpec, x: Tensor, values: dict[str, Tensor], schedule: str
) -> None:
    trace = Reference(spec, rounded(values))(x.double())
    with torch.no_grad():
        outputs, fired = spikes(module(spec, schedule, values, torch.float64), x.double())
        plain = bcgraph.compile(spec, inference=True, dtype=torch.float64)
        plain.load_state_dict(values)
        other = plain(x.double())
    torch.testing.assert_close(outputs, trace.output, rtol=0, atol=1e-9)
    assert trace.rates()[4] > 0.05
    assert all(torch.equal(fired[key].double(), value) for key, value in trace.spikes.items())
    assert float((other - outputs).abs().max()) > 1e-7, "the rounding shows"


@kernels
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_kernels_for_whole_numbers_are_exact(
    spec: NetworkSpec, x: Tensor, values: dict[str, Tensor], schedule: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[int] = []
    convolve = int16.Int16Weight.__call__

    def counted(self: int16.Int16Weight, given: Tensor) -> Tensor:
        called.append(self.packed is not None)
        return convolve(self, given)

    monkeypatch.setattr(int16.Int16Weight, "__call__", counted)
    model = module(spec, schedule, values)
    with torch.no_grad():
        together = model(x)
        assert called
        assert all(called)
        apart = torch.cat([model(x[k : k + 2]) for k in (0, 2, 4)], 1)
        trace = Reference(spec, rounded(values), torch.float32)(x)
    assert torch.equal(together, apart), "sums of whole numbers do not depend on the size of a batch"
    torch.testing.assert_close(together, trace.output, rtol=0, atol=1e-5)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_new_weights_take_effect_at_once(
    spec: NetworkSpec, x: Tensor, values: dict[str, Tensor], schedule: str
) -> None:
    """Also those that no counter of torch tells about, and norms."""
    model = module(spec, schedule, values)
    changed = dict(values)
    with torch.no_grad():
        before = model(x)
        for name in ("layer1.0.conv1.weight", "layer2.0.bn1.running_mean"):
            changed[name] = changed[name] + 0.5 * torch.roll(values[name], 1, 0)
            model.state_dict()[name].data.copy_(changed[name])
            now = model(x)
            assert torch.equal(now, module(spec, schedule, changed)(x))
            assert not torch.equal(now, before)
            before = now


def test_gradients_pass_the_rounding(spec: NetworkSpec, x: Tensor, values: dict[str, Tensor]) -> None:
    model = module(spec, "unrolled", values)
    with torch.no_grad():
        expected = model(x)
    found = model(x)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    found.square().sum().backward()
    change = model.get_parameter("layer1.0.conv1.weight").grad
    assert change is not None
    assert float(change.abs().sum()) > 0


def test_weights_that_do_not_fit_the_kernels_stay() -> None:
    weight = torch.randn((2, 1, 3, 3), generator=torch.Generator().manual_seed(0))
    ones, zeros = torch.ones(2), torch.zeros(2)
    from bcgraph.nn.conv.folded import fold_norm, fold_norm_int16

    given = (weight, None, ones, zeros, zeros, ones, 0.0, (1, 1, 1, 2), (2, 4, 4))
    grouped, _ = fold_norm_int16(*given)
    plain, _ = fold_norm(*given)
    assert isinstance(grouped, Tensor)
    assert torch.equal(grouped, plain)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"weights": "int8", "inference": True}, "there are no weights `int8`"),
        ({"weights": "int16"}, "a pipeline for inference"),
        ({"weights": "int16", "inference": True, "optimize": ["dce"]}, "a pipeline for inference"),
    ],
)
def test_what_does_not_fit_together_is_refused(spec: NetworkSpec, settings: dict[str, object], message: str) -> None:
    with pytest.raises(CompileError, match=message) as caught:
        bcgraph.compile(spec, **settings)
    assert caught.value.code == "E072"

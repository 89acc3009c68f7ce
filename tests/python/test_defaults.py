"""torch's global defaults do not reach what is compiled: weights, dtypes and devices are those of the seed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import bcgraph
from bcgraph.compiler.targets.fx.record import record
from bcgraph.nn.conv import int16 as int16_conv
from bcgraph.nn.conv import onednn
from bcgraph.nn.conv.int16 import Int16Weight
from bcgraph.nn.conv.winograd import TiledWeight

TEXT = """bcg 1
network n {{
  input = image(1, 8, 8); steps = 3; backbone = tiny(width=32, classes=10); norm = bn(statistics={statistics})
  backward @4 -> @0; backward @2 -> @2
}}
"""

CASES: dict[str, dict[str, Any]] = {
    "unrolled": {},
    "folded": {"schedule": "folded"},
    "inference": {"inference": True},
    "folded inference": {"schedule": "folded", "inference": True},
    "recompute": {"recompute": True},
    "step": {"schedule": "step"},
}


@contextmanager
def defaults(dtype: torch.dtype, device: str) -> Iterator[None]:
    before = torch.get_default_dtype(), torch.get_default_device()
    torch.set_default_dtype(dtype)
    torch.set_default_device(device)
    try:
        yield
    finally:
        torch.set_default_dtype(before[0])
        torch.set_default_device(before[1])


def run(x: Tensor, statistics: str, options: dict[str, Any]) -> list[Tensor]:
    """A new module's state dict, its outputs, gradients and statistics of a call."""
    model: Any = bcgraph.compile(bcgraph.parse(TEXT.format(statistics=statistics)), **options)
    found = [value.clone() for value in model.state_dict().values()]
    if options.get("schedule") == "step":
        states = model.initial_states(x)
        return [*found, *states, *model(x, *states), *model.state_dict().values()]
    output = model(x)
    if not options.get("inference"):
        output.sum().backward()
        found += [p.grad for p in model.parameters()]
    with torch.no_grad():
        found += [output.detach().clone(), model(x).clone()]
        if not options.get("recompute"):
            found += [v for port in record(model, x, values=("s", "u", "v", "I")).values() for v in port.values()]
    return found + list(model.state_dict().values())


@pytest.mark.parametrize("statistics", ["shared", "per_step"])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(
    ("dtype", "device"), [(torch.float64, "cpu"), (torch.float32, "meta"), (torch.float16, "meta")]
)
def test_defaults_change_nothing(dtype: torch.dtype, device: str, case: str, statistics: str) -> None:
    if statistics == "per_step" and ("inference" in case or case == "step"):
        return
    x = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    expected = run(x, statistics, CASES[case])
    for check in (onednn.can_pack, onednn.bfloat16_is_fast):
        check.cache_clear()
    with defaults(dtype, device):
        found = run(x, statistics, CASES[case])
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.device.type == "cpu"
        assert ours.dtype == theirs.dtype
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize(("dtype", "device"), [(torch.float64, "cpu"), (torch.float32, "meta")])
def test_kernels_for_fixed_weights(dtype: torch.dtype, device: str) -> None:
    g = torch.Generator().manual_seed(0)
    weight, bias = torch.randn(128, 128, 3, 3, generator=g), torch.randn(128, generator=g)
    s = (torch.rand(2, 128, 8, 8, generator=g) < 0.3).float().to(memory_format=torch.channels_last)
    settings: int16_conv.Settings = ((1, 1), (1, 1), (1, 1), 1)

    def both() -> tuple[Tensor, Tensor]:
        int16_conv.kernels_are_exact.cache_clear()
        return Int16Weight.of(weight, settings, (8, 8), None, bias)(s), TiledWeight(weight)(s, bias)

    expected = both()
    with defaults(dtype, device):
        found = both()
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.equal(ours, theirs)


MODES: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
}


@pytest.mark.parametrize("mode", MODES)
def test_modes_do_not_reach_scores_nor_files(mode: str, tmp_path: Path) -> None:
    spec = bcgraph.parse(TEXT.format(statistics="shared"))
    x = torch.randn(8, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    y = torch.arange(8) % 2

    def measured(name: str) -> list[Any]:
        model = bcgraph.compile(spec)
        bcgraph.export(spec, tmp_path / name, state_dict=model.state_dict())
        exported = bcgraph.runtime.Network(tmp_path / name)(x.numpy()).tolist()
        assert not next(model.parameters()).is_inference()
        return [bcgraph.scores.n_score(model, x), bcgraph.scores.e_score(model, x, y), exported]

    expected = measured("a.onnx")
    with MODES[mode]():
        assert measured("b.onnx") == expected


def of_scores_and_files(folder: Path, endings: Sequence[str] = ("onnx", "py", "c", "nir")) -> list[Any]:
    """Scores and outputs of a network, the text of its files, and of what is imported."""
    spec = bcgraph.parse(TEXT.format(statistics="shared"))
    g = torch.Generator("cpu").manual_seed(0)
    x = torch.randn(8, 1, 8, 8, generator=g, dtype=torch.float32, device="cpu")
    y = torch.arange(8, device="cpu") % 2
    options: dict[str, Any] = {"dtype": torch.float32, "device": "cpu"}
    theirs = nn.Sequential(nn.Conv2d(1, 4, 3, **options), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3, **options))
    model = bcgraph.compile(spec)
    for ending in endings:
        bcgraph.export(spec, folder / f"net.{ending}", allow_loss=ending == "nir")
    exported = bcgraph.runtime.Network(folder / "net.onnx")(x.numpy()).tolist()
    scores = [bcgraph.scores.n_score(model, x), bcgraph.scores.e_score(model, x, y)]
    texts = [(folder / f"net.{ending}").read_bytes() for ending in ("onnx", "py")]
    return [*scores, exported, *texts, bcgraph.from_torch(theirs, x).text, bcgraph.from_nir(folder / "net.nir").text]


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    return of_scores_and_files(tmp_path_factory.mktemp("usual"))


@pytest.mark.parametrize(("dtype", "device"), [(torch.float64, "cpu"), (torch.float32, "meta")])
def test_defaults_do_not_reach_scores_nor_files(
    dtype: torch.dtype, device: str, usual: list[Any], tmp_path: Path
) -> None:
    with defaults(dtype, device):
        assert of_scores_and_files(tmp_path) == usual


def test_neither_half_precision_nor_swapped_parameters_reach_any_file(
    usual: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.__future__, "_swap_module_params_on_conversion", True)
    with defaults(torch.float16, "cpu"):
        assert of_scores_and_files(tmp_path, ("onnx", "py", "c", "nir", "pt2")) == usual
    assert torch.__future__.get_swap_module_params_on_conversion()


@pytest.mark.parametrize("options", [{}, {"weights": "int16"}, {"schedule": "folded"}, {"schedule": "step"}])
def test_modules_for_inference_run_under_autocast(options: dict[str, Any]) -> None:
    spec = bcgraph.parse(TEXT.format(statistics="shared"))
    model = bcgraph.compile(spec, inference=True, **options)
    x = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    states = model.initial_states(x) if "schedule" in options and options["schedule"] == "step" else []
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        output, *after = found if isinstance(found := model(x, *states), tuple) else (found,)
    assert torch.isfinite(output).all()
    assert not after or sum(state.dtype == torch.float32 for state in after) == 5  # the membranes

"""Weights files: whole, of the right network, with the names said where they do not fit, and never unpickled."""

from __future__ import annotations

import json
import math
import pickle
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torchvision
from safetensors.torch import load, load_file, save, save_file
from torch import nn

import bcgraph
from bcgraph import dsl, weights
from bcgraph.compiler import compile as compile_network
from bcgraph.errors import RunError, WeightsError
from tests.training.nets import plain


def network(width: int = 4) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, width, 3), nn.BatchNorm2d(width), nn.Flatten(), nn.Linear(width, 3))


def test_round_trip(tmp_path: Path) -> None:
    spec, model = plain(), network()
    weights.save(tmp_path / "w.safetensors", model.state_dict(), spec=spec, metadata={"epoch": "3"})
    loaded = weights.load(tmp_path / "w.safetensors", spec=spec)
    assert loaded.keys() == model.state_dict().keys()
    for name, value in model.state_dict().items():
        assert torch.equal(loaded[name], value)
        assert loaded[name].dtype == value.dtype
    assert weights.metadata(tmp_path / "w.safetensors") == {"epoch": "3"}
    # Any other program reads it too.
    assert load_file(tmp_path / "w.safetensors").keys() == loaded.keys()


def test_equal_weights_give_equal_files(tmp_path: Path) -> None:
    program = (
        "import sys, torch; from bcgraph import weights; from tests.training.nets import plain\n"
        "tensors = {'b': torch.ones(3), 'a': torch.zeros(2, 2).to(memory_format=torch.preserve_format)}\n"
        "weights.save(sys.argv[1], tensors, spec=plain(), metadata={'x': '1', 'y': '2', 'z': '3'})\n"
    )
    contents = set()
    for run in range(3):
        place = tmp_path / f"{run}.safetensors"
        subprocess.run([sys.executable, "-c", program, str(place)], check=True, timeout=120)
        contents.add(place.read_bytes())
    assert len(contents) == 1


def test_tensors_that_share_memory_or_are_not_contiguous(tmp_path: Path) -> None:
    base = torch.arange(24.0).reshape(2, 3, 2, 2)
    tensors = {"a": base, "b": base, "c": base.to(memory_format=torch.channels_last), "d": base[:, 1]}
    weights.save(tmp_path / "w", tensors, spec=plain())
    loaded = weights.load(tmp_path / "w")
    for name, value in tensors.items():
        assert torch.equal(loaded[name], value)


def test_another_network_is_refused_with_the_difference(tmp_path: Path) -> None:
    spec = plain(steps=3)
    weights.save(tmp_path / "w", {"a": torch.zeros(1)}, spec=spec)
    other = plain(steps=5).with_backward([(1, 0), (1, 1, 2)])
    with pytest.raises(WeightsError) as caught:
        weights.load(tmp_path / "w", spec=other)
    assert caught.value.code == "E083"
    text = str(caught.value)
    assert spec.fingerprint()[:12] in text
    assert other.fingerprint()[:12] in text
    assert "steps: 3 in the file, 5 here" in text
    assert "backward: none in the file, @1 -> @0, @1 -> @1 delay 2 here" in text
    with pytest.raises(WeightsError, match="differ in a setting"):
        weights.load(tmp_path / "w", spec=plain(steps=3, tau=0.25))
    assert weights.load(tmp_path / "w").keys() == {"a"}


def test_a_file_from_elsewhere_is_left_to_apply(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "w")
    assert weights.load(tmp_path / "w", spec=plain()).keys() == {"a"}
    assert weights.metadata(tmp_path / "w") == {}


@pytest.mark.parametrize(
    ("metadata", "code"),
    [("[", "E082"), ("[" * 100_000, "E082"), ('{"fingerprint": {"a": 1}}', "E083"), ("[]", None), ("3", None)],
)
def test_foreign_metadata(tmp_path: Path, metadata: str, code: str | None) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "w", {"bcgraph": metadata})
    if code is None:
        assert weights.load(tmp_path / "w", spec=plain()).keys() == {"a"}
        return
    with pytest.raises(WeightsError) as caught:
        weights.load(tmp_path / "w", spec=plain())
    assert caught.value.code == code


def test_missing_file(tmp_path: Path) -> None:
    (tmp_path / "best.safetensors").write_bytes(b"")
    with pytest.raises(WeightsError) as caught:
        weights.load(tmp_path / "bets.safetensors")
    assert caught.value.code == "E082"
    assert "does not exist" in str(caught.value)
    assert "did you mean `best.safetensors`?" in str(caught.value)
    with pytest.raises(WeightsError, match="is a directory"):
        weights.load(tmp_path)
    with pytest.raises(WeightsError, match="does not exist"):
        weights.load("/nowhere/at/all")


def test_cut_off_file(tmp_path: Path) -> None:
    weights.save(tmp_path / "w", network().state_dict(), spec=plain())
    whole = (tmp_path / "w").read_bytes()
    for size in (0, 4, 20, len(whole) // 2, len(whole) - 1):
        (tmp_path / "w").write_bytes(whole[:size])
        with pytest.raises(WeightsError) as caught:
            weights.load(tmp_path / "w")
        assert caught.value.code == "E082"


class Bomb:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return (Path.touch, (self.mark,))


@pytest.mark.parametrize("kind", ["pickle", "torch"])
def test_pickles_are_refused_unread(tmp_path: Path, kind: str) -> None:
    if kind == "pickle":
        (tmp_path / "w.pth").write_bytes(pickle.dumps(Bomb(tmp_path / "exploded")))
    else:
        torch.save({"a": torch.zeros(1), "b": Bomb(tmp_path / "exploded")}, tmp_path / "w.pth")
    with pytest.raises(WeightsError) as caught:
        weights.load(tmp_path / "w.pth")
    assert caught.value.code == "E082"
    assert "pickle" in str(caught.value)
    assert not (tmp_path / "exploded").exists()


def test_apply_copies_and_converts() -> None:
    model, source = network().double(), network()
    with torch.no_grad():
        source[0].weight.fill_(0.5)  # type: ignore[operator, union-attr]
    fit = weights.apply(model, source.state_dict())
    assert fit
    assert fit.lines() == ()
    assert torch.equal(model.state_dict()["0.weight"], torch.full((4, 1, 3, 3), 0.5, dtype=torch.float64))


def test_apply_lists_what_does_not_fit_and_changes_nothing() -> None:
    model, state = network(), network(5).state_dict()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state["3.weigth"] = state.pop("3.weight")
    with pytest.raises(WeightsError) as caught:
        weights.apply(model, state)
    assert caught.value.code == "E083"
    assert caught.value.diagnostics[0].notes == (
        "missing in the file: 3.weight",
        "not in the network: 3.weigth",
        "of another shape: 0.weight (5x1x3x3 for 4x1x3x3), 0.bias (5 for 4), 1.weight (5 for 4), 1.bias (5 for 4), "
        "1.running_mean (5 for 4), 1.running_var (5 for 4)",
    )
    assert caught.value.hint == "did you mean `3.weight`?"
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_long_lists_are_cut() -> None:
    with pytest.raises(WeightsError) as caught:
        weights.apply(network(), {})
    assert caught.value.diagnostics[0].notes[0].endswith("and 1 more")


def test_partial_apply_takes_what_fits() -> None:
    model, state = network(), network().state_dict()
    state["0.weight"] = torch.full((4, 1, 3, 3), 2.0)
    state["3.weight"] = torch.zeros(3, 9)
    state["other"] = torch.zeros(1)
    fit = weights.apply(model, state, partial=True)
    assert not fit
    assert fit.misshaped == ("3.weight (3x9 for 3x4)",)
    assert fit.unexpected == ("other",)
    assert torch.equal(model.state_dict()["0.weight"], state["0.weight"])


def test_unwritable_place(tmp_path: Path) -> None:
    with pytest.raises(RunError) as caught:
        weights.save("/proc/w.safetensors", {"a": torch.zeros(1)}, spec=plain())
    assert caught.value.code == "E084"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where torchvision looks for resnet18's weights: the path of the file, which is not there."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    return tmp_path / "hub" / "checkpoints" / "resnet18-f37072fd.pth"


def test_torchvisions_weights_fit_by_name(hub: Path) -> None:
    torch.manual_seed(1)
    source = torchvision.models.resnet18().state_dict()
    torch.save(source, hub)
    spec = dsl.parse("bcg 1\nnetwork n { input = image(3, 32, 32); steps = 2; backbone = resnet18(width=64) }")
    model = compile_network(spec.with_backward([(3, 1)]))
    fit = weights.apply(model, weights.published("resnet18"), partial=True)
    assert fit.misshaped == (
        "conv1.weight (64x3x7x7 for 64x3x3x3)",
        "fc.weight (1000x512 for 10x512)",
        "fc.bias (1000 for 10)",
    )
    assert fit.unexpected == ()
    assert all(name.startswith("backward.3_1.") for name in fit.missing)
    own = model.state_dict()
    same = [name for name in source if source[name].shape == own[name].shape]
    assert len(same) == len(source) - 3
    assert all(torch.equal(own[name], source[name]) for name in same)


@pytest.mark.parametrize("content", [b"", b"rubbish", "cut", "bomb"])
def test_damaged_published_weights(hub: Path, content: bytes | str) -> None:
    torch.save({"a": torch.zeros(100), "b": Bomb(hub.parent / "exploded") if content == "bomb" else 0}, hub)
    if content != "bomb":
        hub.write_bytes(hub.read_bytes()[:-50] if isinstance(content, str) else content)
    with pytest.raises(WeightsError) as caught:
        weights.published("resnet18")
    assert caught.value.code == "E082"
    assert "resnet18-f37072fd.pth" in str(caught.value.hint)
    assert not (hub.parent / "exploded").exists()


def test_unknown_published_weights() -> None:
    with pytest.raises(WeightsError, match="did you mean `resnet18`"):
        weights.published("resnet81")


@pytest.mark.parametrize(
    ("name", "value"),
    [("conv1.weight", math.nan), ("bn1.running_mean", math.inf), ("bn1.running_var", -1.0), ("fc.bias", -math.inf)],
)
def test_values_that_no_network_has_are_refused(name: str, value: float) -> None:
    model = bcgraph.compile(bcgraph.load("specs/digits.bcg"))
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    state = {key: tensor.clone() for key, tensor in before.items()}
    state[name].view(-1)[0] = value
    for partial in (False, True):
        with pytest.raises(WeightsError, match=re.escape(name)) as caught:
            weights.apply(model, state, partial=partial)
        assert caught.value.code == "E083"
    assert all(torch.equal(model.state_dict()[key], tensor) for key, tensor in before.items())


def test_a_file_is_the_librarys_to_the_byte() -> None:
    """Ours needs a third of the memory; files of earlier versions were the library's."""
    dtypes = (
        *(torch.bool, torch.uint8, torch.int8, torch.float8_e5m2, torch.float8_e4m3fn, torch.int16, torch.uint16),
        *(torch.float16, torch.bfloat16, torch.int32, torch.uint32, torch.float32, torch.complex64, torch.float64),
        *(torch.int64, torch.uint64),
    )
    tensors = {f"{chr(122 - k)}.w": torch.arange(3 + k).to(dtype) for k, dtype in enumerate(dtypes)}
    tensors |= {"scalar": torch.tensor(1.5), "empty": torch.zeros(0, 3), 'a "quoted"\n\x01\\/ ü': torch.zeros(2)}
    described = {"name": 'ü "n" \x01', "steps": 3}
    entry = json.dumps(described, sort_keys=True)
    assert weights.serialized(tensors, described) == save(tensors, {"bcgraph": entry})
    assert weights.serialized(tensors) == save(tensors)
    assert weights.serialized({}) == save({})


def test_views_and_tied_weights_are_written_as_they_are() -> None:
    base = torch.arange(6.0).view(2, 3)
    found = load(bytes(weights.serialized({"t": base.t(), "tied": base, "part": base[1:]})))
    assert torch.equal(found["t"], base.t())
    assert torch.equal(found["tied"], base)
    assert torch.equal(found["part"], base[1:])

"""JapaneseVowels as aeon ships it: from a folder, a wheel, an installed package; and files that are not whole."""

from __future__ import annotations

import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from bcgraph import data
from bcgraph.data.readers import vowels
from bcgraph.errors import DataError
from bcgraph.schema import DataSpec, InputSpec, SequenceInput, SignalInput
from tests import needs

FLAT = SequenceInput(12)


def write(folder: Path) -> dict[str, np.ndarray]:
    """Both files in their format and number, with drawn values; returns these."""
    folder.mkdir(parents=True, exist_ok=True)
    draw = np.random.default_rng(0)
    made = {}
    for part, (file, count) in vowels.FILES.items():
        values = draw.normal(3, 2, (count, 12, 25)).round(6)
        made[part] = values
        lines = ["#A comment", "@problemName JapaneseVowels", "@classLabel true 1 2 3 4 5 6 7 8 9", "@data"]
        for number, utterance in enumerate(values):
            series = ":".join(",".join(str(v) for v in row) for row in utterance)
            lines.append(f"{series}:{number % 9 + 1}")
        (folder / file).write_text("\n".join(lines) + "\n")
    return made


def load(root: Path, form: InputSpec = FLAT, steps: int = 25) -> data.Splits:
    return data.load(DataSpec(name="japanese_vowels", root=str(root)), form, steps)


@pytest.mark.parametrize("form", [FLAT, SequenceInput(1, 12), SequenceInput(1, 1, 12)])
def test_values_are_standardized_by_the_training_part(tmp_path: Path, form: InputSpec) -> None:
    made = write(tmp_path / "JapaneseVowels")
    splits = load(tmp_path, form)
    assert (len(splits.train), len(splits.test)) == (270, 370)
    x, y = splits.test.take([0, 9, 10])
    assert x.shape == (25, 3, *form.shape)
    assert y.tolist() == [0, 0, 1]
    mean, std = made["train"].mean((0, 2)), made["train"].std((0, 2))
    expected = (made["test"][9].T - mean) / std
    assert np.allclose(x[:, 1].reshape(25, 12).numpy(), expected, atol=1e-5)
    signal = load(tmp_path, SignalInput(12, 25), 4).test.take([9])[0]
    assert np.allclose(signal[0].T.numpy(), expected, atol=1e-5)


def test_from_a_wheel_and_from_an_installed_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "site" / vowels.INSIDE)
    (tmp_path / "site/aeon/__init__.py").write_text("raise ImportError('it must not be imported')")
    with zipfile.ZipFile(tmp_path / "aeon.whl", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in (tmp_path / "site" / vowels.INSIDE).iterdir():
            archive.write(path, path.relative_to(tmp_path / "site"))
    monkeypatch.delitem(sys.modules, "aeon", raising=False)
    monkeypatch.setattr(sys, "path", [str(tmp_path / "site"), *sys.path])
    expected = load(tmp_path / "site").test.inputs
    assert torch.equal(load(tmp_path / "aeon.whl").test.inputs, expected)
    assert torch.equal(load(tmp_path / "nothing").test.inputs, expected)


def refused(root: Path, *says: str) -> None:
    with pytest.raises(DataError) as caught:
        load(root)
    assert caught.value.code == "E081"
    for text in says:
        assert text in str(caught.value)


def test_missing_or_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vowels, "find_spec", lambda _: None)
    refused(tmp_path, "`JapaneseVowels_eq_TRAIN.ts` is missing", "--no-deps aeon", str(tmp_path))
    write(tmp_path)
    path = tmp_path / "JapaneseVowels_eq_TEST.ts"
    whole = path.read_text().splitlines()
    for line, says in (
        (whole[5][:-40], "line 6"),
        (whole[5].replace(",", ",x", 1), "line 6 holds something else than numbers"),
        (whole[5].replace(whole[5].split(",")[0], "nan", 1), "line 6 is not 12 series of 25 numbers"),
        (whole[5][:-1] + "0", "a speaker from 1 to 9"),
    ):
        path.write_text("\n".join([*whole[:5], line, *whole[6:]]))
        refused(tmp_path, "`JapaneseVowels_eq_TEST.ts` is damaged", says)
    path.write_text("\n".join(whole[:-1]))
    refused(tmp_path, "it holds 369 of 370 utterances")
    path.write_bytes(b"\xff\xfe")
    refused(tmp_path, "it is no text")
    archive = tmp_path / "aeon.whl"
    archive.write_bytes(b"no archive")
    refused(archive, "neither a wheel nor a zip archive")
    with zipfile.ZipFile(archive, "w") as other:
        other.writestr("a.txt", "")
    refused(archive, "there is no `JapaneseVowels_eq_TRAIN.ts` in `aeon.whl`")


def test_the_published_files(tmp_path: Path) -> None:
    if find_spec("aeon") is None:
        needs.missing("aeon, which ships JapaneseVowels, is not installed")
    splits = load(tmp_path)
    assert splits.train.labels.bincount().tolist() == [30] * 9
    assert splits.test.labels.bincount().tolist() == [31, 35, 88, 44, 29, 24, 40, 50, 29]
    assert "aeon" not in sys.modules

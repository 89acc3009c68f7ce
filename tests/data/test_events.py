"""CIFAR10-DVS from AEDAT 4 files made by the test: frames, split, and what is missing or damaged."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from bcgraph import data
from bcgraph.data.readers import cifar10dvs as events
from bcgraph.data.readers import frames as kept_frames
from bcgraph.errors import DataError
from bcgraph.schema import DataSpec, ImageInput, InputSpec, SequenceInput
from tests.data.event_files import write

FORM = SequenceInput(2, 128, 128)


def needs_reader() -> None:
    pytest.importorskip("tonic", reason="the extra `tonic` is not installed")
    pytest.importorskip("aedat", reason="the extra `tonic` is not installed")


def load(root: Path, form: InputSpec = FORM, steps: int = 2) -> data.Splits:
    return data.load(DataSpec(name="cifar10dvs", root=str(root)), form, steps)


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three recordings of each class, the second for the test; number n of class c begins with n+1 events at (c, n)."""
    monkeypatch.setattr(events, "PER_CLASS", 3)
    monkeypatch.setattr(events, "_split", lambda: {"test": {name: [1] for name in events.CLASSES}})
    for label, name in enumerate(events.CLASSES):
        for n in range(3):
            first = [(10, label, n, 1)] * (n + 1)
            second = [(20, 127, 0, 0)] * (n + 1)
            # 9 sorts before 10 as a number, and behind it as a word.
            write(tmp_path / events.FOLDER / name / f"cifar10_{name}_{9 + n}.aedat4", first + second)
    return tmp_path


def refused(root: Path, *says: str, code: str = "E081", form: InputSpec = FORM) -> None:
    with pytest.raises(DataError) as caught:
        load(root, form)
    assert caught.value.code == code
    assert len(caught.value.diagnostics) == 1
    for text in says:
        assert text in str(caught.value)


def test_split_is_fixed() -> None:
    kept = events._split()
    assert kept["test"] == events.make_split(kept["seed"])
    for name in events.CLASSES:
        positions = kept["test"][name]
        assert len(set(positions)) == 100
        assert set(positions) <= set(range(1000))


def test_frames_count_events_by_step_polarity_and_place(made: Path) -> None:
    needs_reader()
    splits = load(made)
    assert len(splits.train) == 20
    assert splits.test.labels.tolist() == list(range(10))
    x = splits.test.inputs
    assert x.shape == (2, 10, 2, 128, 128)
    expected = torch.zeros(2, 10, 2, 128, 128)
    for label in range(10):
        expected[0, label, 1, 1, label] = 2
        expected[1, label, 0, 0, 127] = 2
    assert torch.equal(x, expected)
    x, y = splits.train.take(range(20))
    assert y.tolist() == [n // 2 for n in range(20)]
    assert x.sum((0, 2, 3, 4)).tolist() == [2.0, 6.0] * 10


def test_frames_are_made_once(made: Path) -> None:
    needs_reader()
    first = load(made).test.inputs
    for recording in (made / events.FOLDER).rglob("*.aedat4"):
        recording.unlink()
    assert torch.equal(load(made).test.inputs, first)
    kept = next((made / events.FOLDER).glob("frames*.npy"))
    kept.write_bytes(kept.read_bytes()[:1000])
    refused(made, "0 of 3 recordings (.aedat4) of class `airplane`")


def test_frames_are_resized(made: Path) -> None:
    needs_reader()
    x = load(made, SequenceInput(2, 48, 48), steps=2).test.inputs
    assert x.shape == (2, 10, 2, 48, 48)
    # An antialiased resize keeps the mean, apart from the rim.
    inner = x[0, 5, 1].sum() * (128 / 48) ** 2
    assert inner.item() == pytest.approx(2, rel=0.25)


def test_a_damaged_recording_is_named_and_leaves_no_frames(made: Path) -> None:
    needs_reader()
    recording = made / events.FOLDER / "dog" / "cifar10_dog_10.aedat4"
    whole = recording.read_bytes()
    for content in (b"", b"rubbish", whole[:-30], whole[:200]):
        recording.write_bytes(content)
        refused(made, str(recording), "cannot be read")
    write(recording, [(1, 1, 1, 1)])
    refused(made, "it has 1 events")
    assert not list((made / events.FOLDER).glob("*.npy"))
    assert not list((made / events.FOLDER).glob(".*"))


def test_missing(made: Path, tmp_path: Path) -> None:
    refused(tmp_path / "no", "the folder `CIFAR10DVS` is missing", str(tmp_path / "no"), "download https", "unpack")
    (made / events.FOLDER / "cat" / "cifar10_cat_9.aedat4").unlink()
    refused(made, "2 of 3 recordings (.aedat4) of class `cat`", str(made / events.FOLDER / "cat"))
    (made / events.FOLDER / "cat" / "cifar10_cat_9.aedat").touch()
    refused(made, "2 of 3 recordings (.aedat4) of class `cat`, and .aedat files, which are of an older format")
    refused(made, "sequence(2, 48, 48)", form=ImageInput(3, 48, 48))


def test_without_the_reader(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_frames, "find_spec", lambda _: None)
    refused(made, "needs `tonic`", "bcgraph[tonic]", code="E092")


def test_kept_frames_need_no_reader(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_frames, "find_spec", lambda _: None)
    frames = np.arange(30 * 2 * 2 * 4, dtype=np.float16).reshape(30, 2, 2, 2, 2)
    np.save(made / events.FOLDER / "frames_v1_T2_2x2.npy", frames)
    splits = load(made, SequenceInput(2, 2, 2))
    expected = torch.from_numpy(frames[1::3]).float().transpose(0, 1)
    assert torch.equal(splits.test.inputs, expected)
    assert not torch.equal(splits.train.take(range(20), key=1)[0], splits.train.take(range(20))[0])


@pytest.mark.parametrize("order", [[3, 1, 0, 2], [2, 3, 0, 1]])
def test_events_out_of_order_give_the_frames_of_their_times(tmp_path: Path, order: list[int]) -> None:
    needs_reader()
    recorded = [(10, 1, 2, 1), (20, 3, 4, 0), (30, 5, 6, 1), (40, 7, 8, 0)]
    write(tmp_path / "sorted.aedat4", recorded)
    write(tmp_path / "mixed.aedat4", [recorded[i] for i in order])
    expected = events.frames_of(tmp_path / "sorted.aedat4", 2, (128, 128))
    assert expected[0].sum() == expected[1].sum() == 2
    np.testing.assert_array_equal(events.frames_of(tmp_path / "mixed.aedat4", 2, (128, 128)), expected)


@pytest.mark.parametrize("event", [(50, 128, 0, 1), (50, 0, 200, 1)])
def test_an_event_outside_of_the_sensor_is_refused(tmp_path: Path, event: tuple[int, int, int, int]) -> None:
    needs_reader()
    write(tmp_path / "a.aedat4", [(10, 1, 2, 1), event])
    with pytest.raises(DataError, match="outside of the sensor") as caught:
        events.frames_of(tmp_path / "a.aedat4", 2, (128, 128))
    assert caught.value.code == "E081"


def test_a_reader_that_panics_names_the_recording(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    class PanicException(BaseException):
        """As the reader's library raises it: no Exception."""

    def panicking(path: str) -> None:
        os.write(2, b"thread '<unnamed>' panicked")
        raise PanicException("range end index 796026320 out of range")

    needs_reader()
    monkeypatch.setattr("tonic.io.read_aedat4", panicking)
    with pytest.raises(DataError, match="cannot be read: range end"):
        events.frames_of(tmp_path / "a.aedat4", 2, (128, 128))
    assert not capfd.readouterr().err
    os.write(2, b"heard")
    assert capfd.readouterr().err == "heard"


def test_counts_beyond_sixteen_bits(tmp_path: Path) -> None:
    recorded = np.zeros(2 * 40_000 + 1, dtype=[(name, np.int64) for name in "txyp"])
    recorded["x"][:3] = 1
    frames = kept_frames.counted(recorded, (4, 4), 2, (4, 4))
    assert frames[0, 0, 0, 0] == np.float16(39_997)
    assert frames[1, 0, 0, 0] == 40_000
    assert frames.sum(dtype=np.float64) == 80_000 - 3 + 3 + (np.float64(np.float16(39_997)) - 39_997)
    assert np.isfinite(kept_frames.counted(np.repeat(recorded, 4), (4, 4), 2, (4, 4))).all()

"""Gestures, N-MNIST and N-Caltech101 from small files of their format: frames, splits, and what is missing."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from bcgraph import data, files
from bcgraph.data.readers import cameras, frames
from bcgraph.errors import DataError
from bcgraph.schema import DataSpec, SequenceInput

pytest.importorskip("tonic", reason="the extra `tonic` is not installed")

Event = tuple[int, int, int, int]  # x, y, polarity, time


def gesture(path: Path, events: list[Event]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, np.array(events, dtype=np.float32))


def binary(path: Path, events: list[Event]) -> None:
    """Five bytes an event: x, y, then polarity and 23 bits of microseconds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = b""
    for x, y, p, t in events:
        content += bytes([x, y, p << 7 | t >> 16, t >> 8 & 255, t & 255])
    path.write_bytes(content)


def events(label: int) -> list[Event]:
    """Two events a step for two steps, out of order."""
    return [(label, 1, 1, 30), (label, 1, 1, 40), (2, label, 0, 10), (2, label, 0, 20)]


def load(name: str, root: Path, size: tuple[int, int], steps: int = 2) -> data.Splits:
    return data.load(DataSpec(name=name, root=str(root)), SequenceInput(2, *size), steps)


def expected(labels: list[int], size: tuple[int, int]) -> torch.Tensor:
    found = torch.zeros(2, len(labels), 2, *size)
    for row, label in enumerate(labels):
        found[0, row, 0, label, 2] = 2
        found[1, row, 1, 1, label] = 2
    return found


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(cameras, "DIGITS", (10, 20, 10))
    monkeypatch.setattr(cameras, "CALTECH", (3, 12))
    for label in range(11):
        gesture(tmp_path / f"DVSGesture/ibmGestureTrain/user01_fluorescent/{label}.npy", events(label))
        gesture(tmp_path / f"DVSGesture/ibmGestureTest/user24_led/{label}.npy", events(label))
    for label in range(10):
        for number in range(2):
            binary(tmp_path / f"NMNIST/Train/{label}/0000{number}.bin", events(label))
        binary(tmp_path / f"NMNIST/Test/{label}/00009.bin", events(label))
    for label, name in enumerate(("ant", "bass", "camera")):
        for number in range(4):
            binary(tmp_path / f"NCALTECH101/Caltech101/{name}/image_000{number}.bin", events(label))
    return tmp_path


def test_gestures(made: Path) -> None:
    splits = load("dvs_gesture", made, (128, 128))
    assert splits.test.labels.tolist() == list(range(11))
    assert splits.classes[0] == "hand clapping"
    assert torch.equal(splits.test.inputs, expected(list(range(11)), (128, 128)))
    assert load("dvs_gesture", made, (32, 32)).train.inputs.shape == (2, 11, 2, 32, 32)
    assert not torch.equal(splits.train.take([3], key=1)[0], splits.train.take([3])[0])


def test_n_mnist(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    splits = load("n_mnist", made, (34, 34))
    assert splits.train.labels.tolist() == [n // 2 for n in range(20)]
    assert torch.equal(splits.test.inputs, expected(list(range(10)), (34, 34)))
    # Kept frames need no reader.
    monkeypatch.setattr(frames, "find_spec", lambda _: None)
    assert torch.equal(load("n_mnist", made, (34, 34)).test.inputs, expected(list(range(10)), (34, 34)))
    with pytest.raises(DataError, match="needs `tonic`") as caught:
        load("n_mnist", made, (34, 34), steps=1)
    assert caught.value.code == "E092"


def test_n_caltech101(made: Path) -> None:
    splits = load("n_caltech101", made, (180, 240))
    assert splits.classes == ("ant", "bass", "camera")
    assert (len(splits.train), len(splits.test)) == (9, 3)
    assert torch.equal(splits.test.inputs, expected([0, 1, 2], (180, 240)))
    assert cameras.tenth("ant", 40) == cameras.tenth("ant", 40) == sorted(set(cameras.tenth("ant", 40)))
    assert len(cameras.tenth("ant", 40)) == 4
    assert cameras.tenth("ant", 40) != cameras.tenth("bass", 40)


def refused(name: str, root: Path, size: tuple[int, int], *says: str) -> None:
    with pytest.raises(DataError) as caught:
        load(name, root, size)
    assert caught.value.code == "E081"
    for text in says:
        assert text in str(caught.value)


def test_missing(made: Path, tmp_path: Path) -> None:
    for name, says in (
        ("dvs_gesture", "`ibmGestureTrain` is missing"),
        ("n_mnist", "0 of 20 recordings"),
        ("n_caltech101", "folders of 0 of 3 classes"),
    ):
        refused(name, tmp_path / "no", (34, 34), says, str(tmp_path / "no"), "download https")
    (made / "DVSGesture/ibmGestureTest/user24_led/3.npy").unlink()
    refused("dvs_gesture", made, (128, 128), "no recordings of class 3, right arm clockwise")
    gesture(made / "DVSGesture/ibmGestureTest/user24_led/12.npy", events(1))
    refused("dvs_gesture", made, (128, 128), "`12.npy` has no label from 0 to 10")
    (made / "NMNIST/Test/4/00009.bin").unlink()
    refused("n_mnist", made, (34, 34), "9 of 10 recordings")
    (made / "NCALTECH101/Caltech101/ant/image_0002.bin").unlink()
    refused("n_caltech101", made, (180, 240), "11 of 12 recordings")


def test_a_file_that_is_cut_off_or_not_of_the_sensor_is_named_and_leaves_no_frames(made: Path) -> None:
    path = made / "NMNIST/Train/4/00001.bin"
    for content, says in (
        (path.read_bytes()[:-2], "it ends within an event"),
        (b"", "it has 0 events"),
        (bytes([34, 0, 0, 0, 1]) * 3, "outside of the sensor of 34x34"),
    ):
        path.write_bytes(content)
        refused("n_mnist", made, (34, 34), str(path), says)
    path = made / "DVSGesture/ibmGestureTrain/user01_fluorescent/7.npy"
    for rows, says in (
        (np.zeros((4, 3)), "it is no list of x, y, polarity and time"),
        (np.full((4, 4), np.nan), "it is no list"),
        (np.array([(1, 1, 2, 3)] * 4), "neither 0 nor 1"),
        (np.array([{}, {}]), "cannot be read"),
        (np.array([("1", "1", "1", "3")] * 4), "it is no list"),
        (np.array([(1, 1, 1, 3)] * 4, dtype=complex), "it is no list"),
        (np.array([(3.7, 1, 1, 3)] * 4), "between two of its pixels"),
        (np.array([(1, 1, 0.5, 3)] * 4), "between two of its pixels"),
        (np.array([(1, 1e300, 1, 3)] * 4), "outside of the sensor"),
    ):
        np.save(path, rows, allow_pickle=True)
        refused("dvs_gesture", made, (128, 128), str(path), says)
    path.write_bytes(b"rubbish")
    refused("dvs_gesture", made, (128, 128), str(path))
    assert not list(made.rglob("*_v1_*"))


@pytest.mark.parametrize("times", [[0.75, 0.5, 0.25, 0.0], [1e300, 3, 2, 1]])
def test_times_keep_their_order_whatever_their_size(tmp_path: Path, times: list[float]) -> None:
    rows = np.array([(x, 0, 1, t) for x, t in enumerate(times)])
    np.save(tmp_path / "1.npy", rows)
    found = cameras.GESTURE.frames(tmp_path / "1.npy", 4, (128, 128))
    assert [int(np.flatnonzero(frame[1, 0])[0]) for frame in found] == [3, 2, 1, 0]


def test_frames_that_a_killed_process_was_making_are_swept(made: Path) -> None:
    left = made / f"DVSGesture/.test_v1_T2_128x128{files.TEMPORARY}0123.npy"
    for _ in ("they are made", "another process has made them"):
        left.write_bytes(b"half")
        os.utime(left, (0, 0))
        load("dvs_gesture", made, (128, 128))
        kept = sorted(p.name for p in left.parent.glob("*.npy"))
        assert kept == ["test_v1_T2_128x128.npy", "train_v1_T2_128x128.npy"]
        assert not left.exists()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("kind", ["<f2", ">f4", "<f8", ">i2", "<u8"])
def test_events_are_read_in_every_type_of_numbers(tmp_path: Path, kind: str) -> None:
    rows = np.array([[3, 5, 1, 2], [4, 6, 0, 1], [127, 0, 1, 9]])
    np.save(tmp_path / "a.npy", np.asfortranarray(rows.astype(kind)))
    found = cameras.GESTURE.frames(tmp_path / "a.npy", 1, (128, 128))
    assert found.sum() == 3
    assert found[0, 1, 5, 3] == found[0, 0, 6, 4] == found[0, 1, 0, 127] == 1

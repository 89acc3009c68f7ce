"""Arrays from `.npz` and `.npy` files: layouts, parts, types, what is refused, and what is never loaded whole."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bcgraph import data
from bcgraph.errors import DataError
from bcgraph.schema import DataSpec, ImageInput, InputSpec, SequenceInput, SignalInput, VectorInput

DRAW = np.random.default_rng(0)
LABELS = np.arange(20) % 4


def load(root: Path, form: InputSpec, steps: int = 3, **settings: Any) -> data.Splits:
    return data.load(DataSpec(name="arrays", root=str(root), **settings), form, steps)


@pytest.mark.parametrize("saved", ["npz", "compressed", "npy"])
def test_parts_by_their_names(tmp_path: Path, saved: str) -> None:
    given = {
        "x_train": DRAW.random((20, 2, 4, 5)),
        "y_train": LABELS,
        "x_test": DRAW.random((8, 2, 4, 5)).astype(np.float32),
        "y_test": np.arange(8)[:, None] % 4,
        "classes": np.array(["a", "b", "c", "d"]),
    }
    if saved == "npy":
        root = tmp_path
        for name, values in given.items():
            np.save(root / f"{name}.npy", values)
    else:
        root = tmp_path / "x.npz"
        (np.savez if saved == "npz" else np.savez_compressed)(root, **given)  # type: ignore[operator]
    splits = load(root, ImageInput(2, 4, 5))
    assert splits.classes == ("a", "b", "c", "d")
    assert torch.equal(splits.train.inputs, torch.from_numpy(given["x_train"]).float())
    assert torch.equal(splits.test.take([3, 1])[0], torch.from_numpy(given["x_test"])[[3, 1]])
    assert splits.test.labels.tolist() == [0, 1, 2, 3] * 2


@pytest.mark.parametrize(
    ("form", "shape"),
    [
        (ImageInput(1, 4, 5), (20, 1, 4, 5)),
        (ImageInput(1, 4, 5), (20, 4, 5)),
        (ImageInput(1, 1, 5), (20, 1, 5)),
        (SignalInput(2, 6), (20, 2, 6)),
        (SignalInput(1, 6), (20, 6)),
        (VectorInput(1), (20, 1)),
        (VectorInput(6), (20, 6)),
        (SequenceInput(2, 4, 5), (20, 3, 2, 4, 5)),
        (SequenceInput(1, 4, 5), (20, 3, 4, 5)),
        (SequenceInput(1, 6), (20, 3, 6)),
        (SequenceInput(6), (20, 3, 6)),
        (SequenceInput(1), (20, 3, 1)),
    ],
)
def test_layouts_and_a_held_out_share(tmp_path: Path, form: InputSpec, shape: tuple[int, ...]) -> None:
    x = np.asfortranarray(DRAW.random(shape).astype(np.float32))
    np.savez(tmp_path / "x.npz", x=x, y=LABELS)
    splits = load(tmp_path / "x.npz", form)
    assert (len(splits.train), len(splits.test)) == (16, 4)
    assert splits.test.labels.bincount().tolist() == [1] * 4
    whole = torch.from_numpy(x.reshape(20, *((3,) if form.kind == "sequence" else ()), *form.shape))
    held = load(tmp_path / "x.npz", form, held_out=0.6).test
    assert held.labels.bincount().tolist() == [3] * 4
    expected = whole[held.source.test.samples.members]  # type: ignore[attr-defined]
    assert torch.equal(held.inputs, expected.transpose(0, 1) if form.kind == "sequence" else expected)


@pytest.mark.parametrize(("dtype", "scale"), [(np.uint8, 255.0), (np.bool_, 1.0), (np.float16, 1.0)])
def test_types(tmp_path: Path, dtype: type[np.generic], scale: float) -> None:
    x = DRAW.integers(0, 2, (20, 6)).astype(dtype)
    np.savez(tmp_path / "x.npz", x=x, y=LABELS.astype(np.uint8))
    train = load(tmp_path / "x.npz", VectorInput(6)).train
    expected = x[train.part.samples.members].astype(np.float32) / scale  # type: ignore[attr-defined]
    assert np.allclose(train.inputs.numpy(), expected, atol=1e-7)


def changed(values: np.ndarray, place: Any, value: Any) -> np.ndarray:
    found = values.copy()
    found[place] = value
    return found


X = DRAW.random((20, 6))


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"x": X}, "there is no array `y`"),
        ({"z": X}, "there is no array `x`"),
        ({"x_train": X, "y_train": LABELS}, "there is no array `x_test`"),
        ({"x": X[:19], "y": LABELS}, "`x` has 19 samples, but `y` has 20 labels"),
        ({"x": X[:, :5], "y": LABELS}, "`x` has the shape [20, 5], but the network takes ['N', 6]"),
        ({"x": np.float64(1), "y": LABELS}, "`x` has the shape []"),
        ({"x": changed(X, (7, 2), np.nan), "y": LABELS}, "sample 7 of `x` has values that are not finite"),
        ({"x": changed(X, (19, 0), np.inf), "y": LABELS}, "sample 19 of `x` has values that are not finite"),
        ({"x": X.astype(complex), "y": LABELS}, "`x` has values of the type complex128"),
        ({"x": X.astype(np.int64), "y": LABELS}, "`x` has values of the type int64"),
        ({"x": X.astype(object), "y": LABELS}, "`x` holds Python objects, which are not unpickled"),
        ({"x": X, "y": LABELS.astype(object)}, "`y` holds Python objects"),
        ({"x": X, "y": LABELS.astype(float)}, "type float64"),
        ({"x": X, "y": changed(LABELS, 3, -1)}, "`y` has the label -1 at 3"),
        ({"x": X, "y": changed(LABELS, 3, 10**12)}, "`y` has the label 1000000000000 at 3, with 20 samples"),
        ({"x": X, "y": LABELS, "classes": np.array(["a", "b", "c"])}, "`y` has the label 3 at 3, with 3 `classes`"),
        ({"x": X, "y": LABELS, "classes": np.arange(4)}, "`classes` is no list of texts"),
        ({"x": X[:0], "y": LABELS[:0]}, "one of its parts is empty"),
    ],
)
@pytest.mark.parametrize("folder", [False, True])
def test_refused(tmp_path: Path, given: dict[str, np.ndarray], says: str, folder: bool) -> None:
    root = tmp_path if folder else tmp_path / "x.npz"
    if folder:
        for name, values in given.items():
            np.save(tmp_path / f"{name}.npy", values, allow_pickle=True)
    else:
        np.savez(root, **given)  # type: ignore[arg-type]
    refused(root, "there is no array `x`" if folder and "z" in given else says)


def refused(root: Path, says: str, form: InputSpec | None = None) -> DataError:
    with pytest.raises(DataError) as caught:
        load(root, form or VectorInput(6))
    assert caught.value.code == "E081"
    assert says in str(caught.value)
    return caught.value


def test_channels_that_stand_last_are_told(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=DRAW.random((20, 4, 5, 3)), y=LABELS)
    assert "moveaxis" in str(refused(tmp_path / "x.npz", "[20, 4, 5, 3]", ImageInput(3, 4, 5)))


def test_files_that_are_no_arrays(tmp_path: Path) -> None:
    refused(tmp_path / "no.npz", "neither a file nor a folder")
    (tmp_path / "x.npz").write_bytes(b"no archive")
    refused(tmp_path / "x.npz", "`x.npz` is no .npz file")
    np.savez(tmp_path / "x.npz", x=X, y=LABELS)
    whole = (tmp_path / "x.npz").read_bytes()
    (tmp_path / "x.npz").write_bytes(whole[:-30])
    refused(tmp_path / "x.npz", "`x.npz` is no .npz file")
    np.save(tmp_path / "y.npy", LABELS)
    np.save(tmp_path / "x.npy", X)
    (tmp_path / "x.npy").write_bytes((tmp_path / "x.npy").read_bytes()[:-8])
    refused(tmp_path, "`x` cannot be read")
    (tmp_path / "x.npy").write_bytes(b"\x93NUMPY rubbish")
    refused(tmp_path, "`x` cannot be read")


def test_an_array_larger_than_memory_is_mapped(tmp_path: Path) -> None:
    # 4 GiB of zeros that take no room on the disk, in a process that may not have as much.
    shape = (2**16, 1, 256, 256)
    np.lib.format.open_memmap(tmp_path / "x.npy", "w+", np.uint8, shape).flush()
    np.save(tmp_path / "y.npy", np.arange(shape[0]) % 10)
    program = f"""
from pathlib import Path
from bcgraph.data.catalog import read
from bcgraph.schema import DataSpec, ImageInput
import numpy as np
source = read(DataSpec(name="arrays", root={str(tmp_path)!r}), ImageInput(1, 256, 256), 4)
taken = source.train.samples.take(np.array([0, 40_000]))
assert taken.shape == (2, 1, 256, 256)
print(next(line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True)
    # In KiB, since the process began: what `getrusage` tells may be of the process that started it.
    assert int(done.stdout) * 1024 < 2**30


def test_numbers_that_only_a_larger_type_can_hold_are_not_finite(tmp_path: Path) -> None:
    x = changed(DRAW.random((20, 2, 4, 5)), (7, 0, 0, 0), 1e39)
    np.savez(tmp_path / "x.npz", x=x, y=LABELS)
    refused(tmp_path / "x.npz", "sample 7 of `x` has values that are not finite", ImageInput(2, 4, 5))


def test_durations_are_no_labels(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=DRAW.random((20, 6)), y=LABELS.astype("m8[s]"))
    refused(tmp_path / "x.npz", "timedelta64", VectorInput(6))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"(20, 6)", b"(-2, 6)"),
        (b"(20, 6)", b"(99, 6)"),
        (b"(20, 6)", b"((((((("),
        (b"{'descr'", b"(((((((("),
        (b"'<f8'", b"(1,1)"),
        (b"\x93NUMPY\x01", b"\x93NUMPY\x07"),
    ],
)
def test_headers_that_lie(tmp_path: Path, old: bytes, new: bytes) -> None:
    np.save(tmp_path / "x.npy", DRAW.random((20, 6)))
    np.save(tmp_path / "y.npy", LABELS)
    good = (tmp_path / "x.npy").read_bytes()
    assert old in good
    (tmp_path / "x.npy").write_bytes(good.replace(old, new, 1))
    refused(tmp_path, "`x` cannot be read", VectorInput(6))
    with zipfile.ZipFile(tmp_path / "x.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(tmp_path / "x.npy", "x.npy")
        archive.write(tmp_path / "y.npy", "y.npy")
    refused(tmp_path / "x.npz", "`x` cannot be read", VectorInput(6))


@pytest.mark.parametrize("place", ["values", "password", "version"])
def test_damaged_archives(tmp_path: Path, place: str) -> None:
    root = tmp_path / "x.npz"
    np.savez(root, x=DRAW.random((1000, 6)), y=np.arange(1000) % 4)
    content = bytearray(root.read_bytes())
    listed = content.index(b"PK\x01\x02")
    if place == "values":
        content[40_000] ^= 1
    elif place == "password":
        content[6] |= 1
        content[listed + 8] |= 1
    else:
        content[listed + 6] = 109
    root.write_bytes(content)
    refused(root, "checksum differs" if place == "values" else "", VectorInput(6))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.npz")
    refused(tmp_path / "x.npz", "neither a file nor a folder", VectorInput(6))

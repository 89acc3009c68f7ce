"""Folders of images: Tiny-ImageNet in its own layout, and any folder of classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from bcgraph import data
from bcgraph.data.readers import folders
from bcgraph.errors import BcgraphWarning, DataError
from bcgraph.schema import DataSpec, ImageInput, InputSpec, SequenceInput

WNIDS = ("n02", "n01")


def picture(path: Path, value: int, size: tuple[int, int] = (64, 64)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (value, value, value)).save(path)


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """Two classes of three images each, and four test images."""
    root = tmp_path / folders.TINY
    for number, wnid in enumerate(WNIDS):
        for n in range(3):
            picture(root / "train" / wnid / "images" / f"{wnid}_{n}.JPEG", 100 * number + 10 * n)
        (root / "train" / wnid / f"{wnid}_boxes.txt").write_text("x\t0\t0\t1\t1\n")
    lines = []
    for n in range(4):
        picture(root / "val" / "images" / f"val_{n}.JPEG", 200 + n)
        lines.append(f"val_{n}.JPEG\t{WNIDS[n % 2]}\t0\t0\t62\t62\n")
    (root / "val" / "val_annotations.txt").write_text("".join(lines))
    (root / "wnids.txt").write_text("\n".join(WNIDS) + "\n")
    return tmp_path


def load(name: str, root: Path, form: InputSpec | None = None) -> data.Splits:
    return data.load(DataSpec(name=name, root=str(root)), form or ImageInput(3, 64, 64), 4)


def refused(name: str, root: Path, *says: str, form: InputSpec | None = None) -> None:
    with pytest.raises(DataError) as caught:
        load(name, root, form)
    assert caught.value.code == "E081"
    assert len(caught.value.diagnostics) == 1
    for text in says:
        assert text in str(caught.value)


def gray(x: torch.Tensor, splits: data.Splits) -> list[int]:
    """The pixel value of plain images, undoing the normalization."""
    return [round(float(v) * 255) for v in x[:, 0].mean((1, 2)) * splits.std[0] + splits.mean[0]]


def test_tiny_imagenet(tiny: Path) -> None:
    splits = load("tiny_imagenet", tiny)
    assert splits.classes == ("n01", "n02")
    assert splits.train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert splits.test.labels.tolist() == [1, 0, 1, 0]
    x, _ = splits.train.take(range(6))
    assert x.shape == (6, 3, 64, 64)
    assert gray(x, splits) == [100, 110, 120, 0, 10, 20]
    assert gray(splits.test.inputs, splits) == [200, 201, 202, 203]


def test_images_are_resized_to_the_network(tiny: Path) -> None:
    splits = load("tiny_imagenet", tiny, ImageInput(3, 32, 32))
    assert splits.test.inputs.shape == (4, 3, 32, 32)
    assert gray(splits.test.inputs, splits) == [200, 201, 202, 203]


def test_tiny_imagenet_missing_or_incomplete(tiny: Path) -> None:
    root = tiny / folders.TINY
    refused("tiny_imagenet", tiny / "no", "wnids.txt", str(tiny / "no"), "download http", "unpack")
    refused("tiny_imagenet", tiny, "image(1, 64, 64)", form=ImageInput(1, 64, 64))
    (root / "train" / "n01" / "images" / "n01_2.JPEG").unlink()
    refused("tiny_imagenet", tiny, "class `n01` has 2 training images where others have 3")
    for left in (root / "train" / "n01" / "images").iterdir():
        left.unlink()
    refused("tiny_imagenet", tiny, "the training images of class `n01` are missing")


def test_tiny_imagenet_with_a_list_of_classes_that_is_cut_off(tiny: Path) -> None:
    wnids = tiny / folders.TINY / "wnids.txt"
    for content, says in (
        (b"", "its list of classes, is empty"),
        (b"n01\n", "the class `n02` is not in `wnids.txt`"),
        (b"n01\nn0", "the class `n02` is not in `wnids.txt`"),
        (b"n01\nn02\nn01\n", "`wnids.txt` names `n01` twice"),
        (b"\xff\xfe\x00", "`wnids.txt` is damaged: it is no text"),
    ):
        wnids.write_bytes(content)
        refused("tiny_imagenet", tiny, says, str(tiny / folders.TINY), "download http")


def test_tiny_imagenet_without_labels(tiny: Path) -> None:
    table = tiny / folders.TINY / "val" / "val_annotations.txt"
    lines = table.read_text()
    table.write_text(lines + "val_9.JPEG\tn01\t0\t0\t1\t1\n")
    refused("tiny_imagenet", tiny, "the test image `val_9.JPEG` is missing")
    table.write_text(lines + "val_0.JPEG\tn99\n")
    refused("tiny_imagenet", tiny, "line 5 of `val_annotations.txt` is damaged")
    table.write_text(lines + "val_0.JPEG\tn01\t0\t0\t1\t1\n")
    refused("tiny_imagenet", tiny, "`val_annotations.txt` names `val_0.JPEG` twice")
    table.write_text("\n".join(lines.splitlines()[:3]) + "\n")
    refused("tiny_imagenet", tiny, "has labels of 3 test images, but there are 4")
    table.write_bytes(b"val_0.JPEG\tn\xff")
    refused("tiny_imagenet", tiny, "`val_annotations.txt` is damaged: it is no text")
    table.write_text("")
    refused("tiny_imagenet", tiny, "is empty")
    table.unlink()
    refused("tiny_imagenet", tiny, "`val_annotations.txt`")


@pytest.mark.parametrize("damage", ["cut", "text", "empty"])
def test_a_damaged_image_is_named(tiny: Path, damage: str) -> None:
    image = tiny / folders.TINY / "val" / "images" / "val_2.JPEG"
    content = image.read_bytes()
    image.write_bytes({"cut": content[: len(content) // 2], "text": b"no image", "empty": b""}[damage])
    test = load("tiny_imagenet", tiny).test
    with pytest.raises(DataError) as caught:
        list(test.batches(4))
    assert caught.value.code == "E081"
    assert str(image) in str(caught.value)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for part in ("train", "test"):
        for number, name in enumerate(("cat", "dog", "owl")):
            if (part, name) != ("test", "owl"):
                picture(tmp_path / part / name / "a.png", 50 * number, (20, 10))
                picture(tmp_path / part / name / "B.JPG", 50 * number, (9, 9))
                (tmp_path / part / name / "notes.txt").write_text("not an image")
    return tmp_path


@pytest.mark.parametrize("channels", [1, 3])
def test_folder(folder: Path, channels: int) -> None:
    splits = load("folder", folder, ImageInput(channels, 8, 12))
    assert splits.classes == ("cat", "dog", "owl")
    assert splits.train.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert splits.test.labels.tolist() == [0, 0, 1, 1]
    x, _ = splits.train.take(range(6))
    assert x.shape == (6, channels, 8, 12)
    assert gray(x, splits) == [0, 0, 50, 50, 100, 100]


def test_folder_may_call_its_test_part_val(folder: Path) -> None:
    (folder / "test").rename(folder / "val")
    assert len(load("folder", folder).test) == 4


def test_folder_missing_or_wrong(folder: Path) -> None:
    refused("folder", folder / "no", "no folder `train`", str(folder / "no" / "train"), "train/CLASS/IMAGE")
    refused(
        "folder",
        folder,
        "image(3, 8, 8) or image(1, 8, 8), but the network takes image(2, 8, 8)",
        form=ImageInput(2, 8, 8),
    )
    refused("folder", folder, "image(3, 8, 8)", form=SequenceInput(3, 8, 8))
    picture(folder / "test" / "fish" / "a.png", 0)
    refused("folder", folder, "the class `fish` is not in the training part")
    (folder / "test").rename(folder / "other")
    refused("folder", folder, "no folder `test`, nor `val`")
    (folder / "test" / "cat").mkdir(parents=True)
    refused("folder", folder, "there are no images")


def test_a_class_that_nothing_is_trained_on_is_refused(folder: Path) -> None:
    for path in (folder / "train" / "dog").iterdir():
        path.rename(path.with_suffix(".heic"))
    refused("folder", folder, "there are no images of the class `dog`", "images end in .avif, .bmp")
    picture(folder / "train" / "dog" / "inner" / "a.png", 0)
    refused("folder", folder, "there are no images of the class `dog`")


def test_images_of_kinds_that_are_not_read_are_counted(folder: Path) -> None:
    for part in ("train", "test"):
        (folder / part / "cat" / "c.HEIC").touch()
        (folder / part / "cat" / "._d.jp2").touch()
    with pytest.warns(BcgraphWarning, match=r"^2 images are left out, .* such as `.*c\.HEIC`$"):
        assert len(load("folder", folder).train) == 6


@pytest.mark.parametrize("suffix", [".avif", ".jfif", ".jpe", ".pbm", ".pnm"])
def test_rarer_names_of_images(folder: Path, suffix: str) -> None:
    kind = "JPEG" if suffix in (".jfif", ".jpe") else None
    Image.new("1" if suffix == ".pbm" else "RGB", (20, 10), 1).save(folder / f"test/cat/c{suffix}", format=kind)
    splits = load("folder", folder)
    assert len(splits.test) == 5
    splits.test.take(range(5))


def test_a_disk_that_cannot_be_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: Path) -> None:
        raise PermissionError(13, "Permission denied", str(folder / "train"))

    monkeypatch.setattr(folders, "listed", fail)
    refused("folder", folder, "`folder` cannot be read: permission denied", str(folder / "train"), "check that you may")


def test_folder_without_classes(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    (tmp_path / "test").mkdir()
    refused("folder", tmp_path, "no folder of a class")


def test_rows_and_columns_are_not_mixed_up(tmp_path: Path) -> None:
    pixels = np.zeros((4, 6, 3), dtype=np.uint8)
    pixels[1, 5] = (255, 128, 0)
    for part in ("train", "test"):
        (tmp_path / part / "a").mkdir(parents=True)
        Image.fromarray(pixels).save(tmp_path / part / "a" / "a.png")
    splits = load("folder", tmp_path, ImageInput(3, 4, 6))
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (splits.mean, splits.std))
    shown = (splits.test.inputs[0] * std + mean) * 255
    assert torch.allclose(shown, torch.from_numpy(pixels).permute(2, 0, 1).float(), atol=1e-3)


def test_an_empty_batch_has_the_shape_of_a_batch(folder: Path) -> None:
    x, y = load("folder", folder, ImageInput(3, 8, 12)).train.take([])
    assert x.shape == (0, 3, 8, 12)
    assert len(y) == 0

"""Data sets that are folders of image files: Tiny-ImageNet in its own layout, and any folder of classes."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bcgraph.data.augment import images
from bcgraph.data.readers.images import MODES, SUFFIXES, UNREAD, ImageFiles, absent, listed
from bcgraph.data.sources import DataSet, Part, Request
from bcgraph.errors import BcgraphWarning, DataError

TINY = "tiny-imagenet-200"
TINY_URL = "http://cs231n.stanford.edu/tiny-imagenet-200.zip"
TINY_MEAN, TINY_STD = (0.4802, 0.4481, 0.3975), (0.2770, 0.2691, 0.2821)

# Of ImageNet, by channel, and for gray images those of its luminance.
FOLDER = {3: ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)), 1: ((0.449,), (0.226,))}


def load_tiny_imagenet(request: Request) -> DataSet:
    """`tiny_imagenet`: 100,000 images of 200 classes; its validation images are the test part (paper Appendix B).

    Images are 64x64, and resized when the network takes another size. Raises DataError (E081).
    """
    folder = request.root / TINY
    how = f"download {TINY_URL} and unpack it in `{request.root}`, or set `root` to where it is"
    if not (folder / "wnids.txt").is_file():
        raise absent("tiny_imagenet", folder, "`wnids.txt`, its list of classes, is missing", how)
    classes = tuple(sorted(_text(folder / "wnids.txt", how).split()))
    if not classes:
        raise absent("tiny_imagenet", folder / "wnids.txt", "`wnids.txt`, its list of classes, is empty", how)
    _once(classes, folder / "wnids.txt", how)
    unlisted = sorted(set(_classes(folder / "train")) - set(classes)) if (folder / "train").is_dir() else []
    if unlisted:
        problem = f"the class `{unlisted[0]}` is not in `wnids.txt`, its list of classes"
        raise absent("tiny_imagenet", folder / "train", problem, how)
    train: list[Path] = []
    counts: list[int] = []
    for name in classes:
        place = folder / "train" / name / "images"
        found = listed(place) if place.is_dir() else ()
        if not found:
            raise absent("tiny_imagenet", place, f"the training images of class `{name}` are missing", how)
        train += found
        counts.append(len(found))
    # Published are 500 of each class: unequal numbers mean that unpacking was cut short.
    for name, count in zip(classes, counts, strict=True):
        if count != max(counts):
            problem = f"class `{name}` has {count} training images where others have {max(counts)}"
            raise absent("tiny_imagenet", folder / "train", problem, how)
    test, labels = _annotated(folder / "val", classes, how)
    size = request.size
    return DataSet(
        name="tiny_imagenet",
        train=Part(ImageFiles(tuple(train), 3, size), np.repeat(np.arange(len(classes)), counts).astype(np.int64)),
        test=Part(ImageFiles(test, 3, size), np.array(labels, dtype=np.int64)),
        classes=classes,
        mean=TINY_MEAN,
        std=TINY_STD,
        augment=images(size[0]),
    )


def _annotated(folder: Path, classes: tuple[str, ...], how: str) -> tuple[tuple[Path, ...], list[int]]:
    """The validation images and their labels, from `val_annotations.txt`: a file name and a class on each line."""
    table = folder / "val_annotations.txt"
    if not table.is_file():
        raise absent("tiny_imagenet", table, "`val_annotations.txt`, the labels of its test part, is missing", how)
    present = {p.name for p in listed(folder / "images")} if (folder / "images").is_dir() else set()
    numbers = {name: number for number, name in enumerate(classes)}
    paths, labels = [], []
    for number, line in enumerate(_text(table, how).splitlines(), start=1):
        parts = line.split("\t")
        if len(parts) < 2 or parts[1] not in numbers:
            raise absent("tiny_imagenet", table, f"line {number} of `val_annotations.txt` is damaged", how)
        if parts[0] not in present:
            raise absent("tiny_imagenet", folder / "images", f"the test image `{parts[0]}` is missing", how)
        paths.append(folder / "images" / parts[0])
        labels.append(numbers[parts[1]])
    if not paths:
        raise absent("tiny_imagenet", table, "`val_annotations.txt` is empty", how)
    _once([path.name for path in paths], table, how)
    # A list that was cut off between two lines.
    if set(paths) != {folder / "images" / name for name in present}:
        problem = f"`val_annotations.txt` has labels of {len(set(paths))} test images, but there are {len(present)}"
        raise absent("tiny_imagenet", table, problem, how)
    return tuple(paths), labels


def _once(names: Sequence[str], place: Path, how: str) -> None:
    """Raise DataError (E081) for a name that a list has twice: one image would have two labels."""
    twice = next((name for name, count in Counter(names).items() if count > 1), None)
    if twice is not None:
        raise absent("tiny_imagenet", place, f"`{place.name}` names `{twice}` twice", how)


def _text(path: Path, how: str) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise absent("tiny_imagenet", path, f"`{path.name}` is damaged: it is no text", how) from error


def load_folder(request: Request) -> DataSet:
    """`folder`: images in `root/train/CLASS/` and `root/test/CLASS/` (or `val`), resized to the network's input.

    Classes are the folders' names in alphabetical order, labels their positions. Raises DataError (E081).
    """
    channels = request.shape[0]
    if channels not in MODES:
        raise DataError(
            "E081", f"images have 1 or 3 channels, but the network takes {channels}", hint="write `image(3, ...)`"
        )
    how = "it needs `train/CLASS/IMAGE` and `test/CLASS/IMAGE` below its `root`"
    train = request.root / "train"
    test = next((request.root / name for name in ("test", "val") if (request.root / name).is_dir()), None)
    if not train.is_dir():
        raise absent("folder", train, "there is no folder `train`", how)
    if test is None:
        raise absent("folder", request.root, "there is no folder `test`, nor `val`", how)
    classes = _classes(train)
    if not classes:
        raise absent("folder", train, "there is no folder of a class", how)
    foreign = sorted(set(_classes(test)) - set(classes))
    if foreign:
        raise absent("folder", test, f"the class `{foreign[0]}` is not in the training part", how)
    found = _listed(train, classes)
    bare = next((name for name, paths in zip(classes, found, strict=True) if not paths), None)
    if bare is not None:
        problem = f"there are no images of the class `{bare}`"
        raise absent("folder", train / bare, problem, f"{how}; images end in {', '.join(SUFFIXES)}")
    _note_unread([part / name for part in (train, test) for name in classes])
    mean, std = FOLDER[channels]
    return DataSet(
        name="folder",
        train=_labeled(train, found, request, how),
        test=_labeled(test, _listed(test, classes), request, how),
        classes=classes,
        mean=mean,
        std=std,
        augment=images(request.shape[1]),
    )


def _note_unread(folders: Sequence[Path]) -> None:
    """Say which images in the folders of classes are left out."""
    inside = [path for folder in folders if folder.is_dir() for path in folder.iterdir()]
    unread = sorted(path for path in inside if path.suffix.lower() in UNREAD and not path.name.startswith("."))
    if unread:
        text = f"{len(unread):,} images are left out, of kinds that are not read, such as `{unread[0]}`"
        warnings.warn(BcgraphWarning(text), stacklevel=2)


def _classes(folder: Path) -> tuple[str, ...]:
    return tuple(sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")))


def _listed(folder: Path, classes: Sequence[str]) -> list[tuple[Path, ...]]:
    """The images of each class in a part."""
    return [listed(folder / name) if (folder / name).is_dir() else () for name in classes]


def _labeled(folder: Path, found: Sequence[tuple[Path, ...]], request: Request, how: str) -> Part:
    """The part in `folder`, from the images of each class."""
    paths = [path for some in found for path in some]
    labels = [label for label, some in enumerate(found) for _ in some]
    if not paths:
        raise absent("folder", folder, "there are no images", how)
    samples = ImageFiles(tuple(paths), request.shape[0], request.size)
    return Part(samples, np.array(labels, dtype=np.int64))

"""CIFAR-10 and CIFAR-100, read by torchvision from the archives' own files.

Those files are pickles. Each is compared with the checksum that its publisher gives before anything is unpickled, and
a file that differs is refused: nothing but the published bytes is ever unpickled.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bcgraph.data.augment import images
from bcgraph.data.readers.download import download
from bcgraph.data.readers.images import absent
from bcgraph.data.sources import DataSet, Held, Part, Request

if TYPE_CHECKING:
    from torchvision.datasets import CIFAR10

# Mean and standard deviation of all training pixels, by channel.
STATISTICS_10 = ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))
STATISTICS_100 = ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762))


def load_cifar10(request: Request) -> DataSet:
    """`cifar10`: 50,000 and 10,000 images of 10 classes. Raises DataError (E081)."""
    from torchvision.datasets import CIFAR10  # imports torch

    return _load("cifar10", CIFAR10, request, *STATISTICS_10)


def load_cifar100(request: Request) -> DataSet:
    """`cifar100`: 50,000 and 10,000 images of 100 classes. Raises DataError (E081)."""
    from torchvision.datasets import CIFAR100

    return _load("cifar100", CIFAR100, request, *STATISTICS_100)


def _load(
    name: str, reader: type[CIFAR10], request: Request, mean: tuple[float, ...], std: tuple[float, ...]
) -> DataSet:
    if request.data.download and not (request.root / reader.base_folder).is_dir():
        download(name, request.root, lambda: reader(request.root, download=True))
    _check_files(name, reader, request.root)
    train, test = reader(request.root, train=True), reader(request.root, train=False)
    return DataSet(
        name=name,
        train=_part(train),
        test=_part(test),
        classes=tuple(train.classes),
        mean=mean,
        std=std,
        augment=images(32),
    )


def _part(read: Any) -> Part:
    pixels = np.ascontiguousarray(read.data.transpose(0, 3, 1, 2))
    return Part(Held(pixels, 1 / 255), np.asarray(read.targets, dtype=np.int64))


def _check_files(name: str, reader: type[CIFAR10], root: Path) -> None:
    """torchvision checks too, but says neither which file is at fault nor what to do."""
    from torchvision.datasets.utils import check_integrity

    folder = root / reader.base_folder
    how = f"write `download = true`, or download {reader.url} and unpack it in `{root}`, or set `root` to where it is"
    needed = [*reader.train_list, *reader.test_list, [reader.meta["filename"], reader.meta["md5"]]]
    missing = [file for file, _ in needed if not (folder / file).is_file()]
    if len(missing) == len(needed):
        raise absent(name, folder, f"the folder `{reader.base_folder}` is missing or empty", how)
    if missing:
        raise absent(name, folder, f"the file `{missing[0]}` is missing", how)
    for file, checksum in needed:
        if not check_integrity(folder / file, checksum):
            raise absent(
                name, folder, f"the file `{file}` is damaged: its checksum differs from the published one", how
            )

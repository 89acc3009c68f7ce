"""SVHN, house numbers from street views, read by torchvision from MATLAB files, which hold no code."""

from __future__ import annotations

from functools import partial

import numpy as np

from bcgraph.data.readers.download import download
from bcgraph.data.readers.images import absent
from bcgraph.data.sources import DataSet, Held, Part, Request

MEAN, STD = (0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970)


def load_svhn(request: Request) -> DataSet:
    """`svhn`: 73,257 and 26,032 images of 10 classes. Raises DataError (E081)."""
    from torchvision.datasets import SVHN
    from torchvision.datasets.utils import check_integrity

    parts = []
    for split in ("train", "test"):
        url, file, checksum = SVHN.split_list[split]
        path = request.root / file
        if not path.is_file() and request.data.download:
            download("svhn", request.root, partial(SVHN, request.root, split=split, download=True))
        how = f"write `download = true`, or download {url} to `{request.root}`"
        if not path.is_file():
            raise absent("svhn", path, f"the file `{file}` is missing", how)
        if not check_integrity(path, checksum):
            raise absent(
                "svhn", path, f"the file `{file}` is damaged: its checksum differs from the published one", how
            )
        found = SVHN(request.root, split=split)
        parts.append(Part(Held(np.ascontiguousarray(found.data), 1 / 255), np.asarray(found.labels, dtype=np.int64)))
    return DataSet("svhn", parts[0], parts[1], tuple("0123456789"), MEAN, STD)

"""JapaneseVowels: two vowels of nine speakers as 12 coefficients of linear prediction (Kudo, Toyama, Shimbo 1999).

The files are those that the package aeon ships, stretched to 25 steps: text, a line an utterance. They are read from a
folder, from the wheel itself, or from where aeon is installed, which is not imported.
"""

from __future__ import annotations

import zipfile
import zlib
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bcgraph.data.readers.images import absent
from bcgraph.data.sources import DataSet, Held, Part, Request
from bcgraph.errors import DataError

NAME = "japanese_vowels"
FOLDER = "JapaneseVowels"
INSIDE = f"aeon/datasets/data/{FOLDER}"
FILES = {"train": (f"{FOLDER}_eq_TRAIN.ts", 270), "test": (f"{FOLDER}_eq_TEST.ts", 370)}
COEFFICIENTS, STEPS, SPEAKERS = 12, 25, 9
LIMIT = 64 * 1024 * 1024
HOW = (
    "`pip install --no-deps aeon` brings it, or `pip download --no-deps aeon` and set `root` to the wheel, "
    "or to a folder with its .ts files"
)


def load_japanese_vowels(request: Request) -> DataSet:
    """`japanese_vowels`: 270 and 370 utterances of 9 speakers, 12 values a step for 25 steps, or a signal `[12, 25]`.

    Each coefficient is standardized by its mean and deviation in the training part. Raises DataError (E081).
    """
    (train, labels), (test, test_labels) = (_read(request.root, *FILES[part]) for part in ("train", "test"))
    mean, std = train.mean(axis=(0, 1)), train.std(axis=(0, 1))
    first, second = (
        Part(Held(_shaped(((values - mean) / std).astype(np.float32), request)), found)
        for values, found in ((train, labels), (test, test_labels))
    )
    channels = request.shape[0]
    speakers = tuple(f"speaker {n}" for n in range(1, SPEAKERS + 1))
    return DataSet(NAME, first, second, speakers, (0.0,) * channels, (1.0,) * channels)


def _shaped(values: NDArray[np.float32], request: Request) -> NDArray[np.float32]:
    """Utterances `[N, 25, 12]` in the shape of a network."""
    if request.sequence:
        return values.reshape(-1, STEPS, *request.shape)
    return np.ascontiguousarray(values.swapaxes(1, 2))


def _read(root: Path, file: str, count: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The utterances `[N, 25, 12]` of a file, and their speakers from 0."""
    place, content = _content(root, file)

    def wrong(problem: str) -> DataError:
        return absent(NAME, place, f"the file `{file}` is damaged: {problem}", HOW)

    try:
        lines = content.decode().splitlines()
    except UnicodeDecodeError as error:
        raise wrong("it is no text") from error
    values, speakers = [], []
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line[0] in "#@":
            continue
        *series, speaker = line.strip().split(":")
        try:
            rows = np.array([[float(value) for value in row.split(",")] for row in series])
            speakers.append(int(speaker) - 1)
        except ValueError as error:
            raise wrong(f"line {number} holds something else than numbers") from error
        if rows.shape != (COEFFICIENTS, STEPS) or not np.isfinite(rows).all() or not 0 <= speakers[-1] < SPEAKERS:
            raise wrong(f"line {number} is not {COEFFICIENTS} series of {STEPS} numbers and a speaker from 1 to 9")
        values.append(rows.T)
    if len(values) != count:
        raise wrong(f"it holds {len(values)} of {count} utterances")
    return np.stack(values), np.array(speakers, dtype=np.int64)


def _content(root: Path, file: str) -> tuple[Path, bytes]:
    """A file's bytes and where it is: in an archive, a folder, or with an installed aeon."""
    if root.is_file():
        try:
            with zipfile.ZipFile(root) as archive:
                member = next((m for m in archive.infolist() if m.filename.rpartition("/")[2] == file), None)
                if member is not None and member.file_size <= LIMIT:
                    return root, archive.read(member)
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
            raise absent(NAME, root, f"`{root.name}` is neither a wheel nor a zip archive: {error}", HOW) from error
        raise absent(NAME, root, f"there is no `{file}` in `{root.name}`", HOW)
    places = [root, root / FOLDER, root / INSIDE, *_installed()]
    for place in places:
        path = place / file
        if path.is_file():
            if path.stat().st_size > LIMIT:
                raise absent(NAME, path, f"the file `{file}` is larger than {LIMIT:,} bytes", HOW)
            return path, path.read_bytes()
    raise absent(NAME, root, f"the file `{file}` is missing", HOW, [f"nor in `{place}`" for place in places[3:]])


def _installed() -> list[Path]:
    """The folder of the data in an installed aeon, found without importing it."""
    found = find_spec("aeon")
    if found is None or found.origin is None:
        return []
    return [Path(found.origin).parent.parent / INSIDE]

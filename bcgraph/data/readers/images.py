"""Image files, decoded when they are asked for, and the checks that image data sets share."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.Image import DecompressionBombError
from PIL.TiffImagePlugin import TiffImageFile

from bcgraph.data.sources import Floats, Integers
from bcgraph.errors import DataError

SUFFIXES = (
    ".avif", ".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff",
    ".webp",
)  # fmt: skip
UNREAD = (
    ".arw", ".cr2", ".cr3", ".dng", ".eps", ".exr", ".hdr", ".heic", ".heif", ".ico", ".j2k", ".jp2", ".jxl", ".nef",
    ".psd", ".raw", ".svg", ".tga",
)  # fmt: skip
"""How images end that are not read."""

MODES = {1: "L", 3: "RGB"}
_SIXTEEN = 2**16 - 1
# Formats without whole numbers of more than 16 bits, of which Pillow makes such numbers all the same.
_SCALED_TO_SIXTEEN = ("PNG", "PPM")
# What a TIFF file says of its pixels (TIFF 6.0, sections 3, 4 and 19).
_BITS, _PACKING, _MEANING, _ORDER, _FORMATS = 258, 259, 262, 284, 339
_UNPACKED, _WHITE_IS_ZERO, _CHANNEL_BY_CHANNEL, _SIGNED = 1, 0, 2, 2


@dataclass(frozen=True, eq=False)
class ImageFiles:
    """Images in files, as `[C, H, W]` with values from 0 to 1, resized where they are not of `size` (height, width).

    Pixels of at most 16 bits are scaled by the range of their type. An orientation flag is obeyed, as viewers do; alpha
    is ignored, and so are all pictures of a file but the first. Whole numbers of more than 16 bits, signed ones and
    floating-point numbers have no known range and are refused, whatever the values of an image are.
    """

    paths: tuple[Path, ...]
    channels: int
    size: tuple[int, int]

    def __len__(self) -> int:
        return len(self.paths)

    def take(self, indices: Integers) -> Floats:
        """The images at `indices`. Raises DataError (E081) for a file that cannot be decoded."""
        if len(indices) == 0:
            return np.zeros((0, self.channels, *self.size), dtype=np.float32)
        # Decoding releases the interpreter, so threads help.
        with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
            return np.stack(list(pool.map(self._decode, (self.paths[int(i)] for i in indices))))

    def _decode(self, path: Path) -> Floats:
        try:
            # Opened here: of a path Pillow maps plain TIFF files into memory, where it mixes up those that are turned.
            with path.open("rb") as file, Image.open(file) as image:
                ImageOps.exif_transpose(image, in_place=True)
                pixels = _eight_bits(image, MODES[self.channels])
                if pixels.size != self.size[::-1]:
                    pixels = pixels.resize(self.size[::-1], Image.Resampling.BILINEAR)
                array = np.asarray(pixels, dtype=np.float32)
        except (OSError, ValueError, SyntaxError, DecompressionBombError) as error:
            unknown = isinstance(error, UnidentifiedImageError)
            what = "it is no image, or one of a kind that Pillow does not know" if unknown else error
            raise DataError(
                "E081",
                f"the image `{path}` cannot be read: {what}",
                hint="replace the file by one of 8 or 16 bits a pixel, or remove it",
            ) from error
        if array.ndim == 2:
            array = np.repeat(array[:, :, None], self.channels, axis=2)
        return array.transpose(2, 0, 1) / np.float32(255)


def _eight_bits(image: Image.Image, mode: str) -> Image.Image:
    """`image` in `mode`, or, where it has more than 8 bits, in mode F; values from 0 to 255 either way.

    Pillow's own conversion cuts larger values off at 255. Raises ValueError for pixels without a known range.
    """
    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers, whose range is not known")
    largest, inverted = _tiff_range(image) if isinstance(image, TiffImageFile) else (_SIXTEEN, False)
    if not image.mode.startswith("I"):
        # Alpha of a palette, which Pillow would warn about.
        transparent = image.mode == "P" and "transparency" in image.info
        return (image.convert("RGBA") if transparent else image).convert(mode)
    if image.mode == "I" and image.format not in _SCALED_TO_SIXTEEN:
        raise ValueError("its pixels are whole numbers of 32 bits, whose range is not known")
    values = np.asarray(image)
    if values.min(initial=0) < 0 or values.max(initial=0) > largest:
        raise ValueError("its pixels are whole numbers beyond their range")
    gray = values.astype(np.float32) * np.float32(255 / largest)
    return Image.fromarray(255 - gray if inverted else gray)


def _tiff_range(image: TiffImageFile) -> tuple[int, bool]:
    """The largest number that a pixel of `image` can be, and whether it means black, which Pillow leaves to the reader.

    Raises ValueError where pixels are signed, have more than 16 bits, or are of a kind that Pillow mixes up.
    """
    bits = max(image.tag_v2.get(_BITS, (1,)))
    plain = image.tag_v2.get(_PACKING, _UNPACKED) == _UNPACKED
    if bits > 8 and plain and len(image.getbands()) > 1 and image.tag_v2.get(_ORDER) == _CHANNEL_BY_CHANNEL:
        # Pillow takes each half of a number for a pixel.
        raise ValueError(f"its channels of {bits} bits stand one after the other; compressed they can be read")
    if _SIGNED in image.tag_v2.get(_FORMATS, ()):
        raise ValueError("its pixels are signed whole numbers, whose range is not known")
    if bits > 16:
        raise ValueError(f"its pixels are whole numbers of {bits} bits, whose range is not known")
    return 2**bits - 1, bits > 8 and image.tag_v2.get(_MEANING) == _WHITE_IS_ZERO


def listed(folder: Path) -> tuple[Path, ...]:
    """The image files of one folder, by name; hidden ones, such as the `._name.jpg` of macOS, are none."""
    found = (p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and not p.name.startswith("."))
    return tuple(sorted(p for p in found if p.is_file()))


def absent(name: str, looked: Path, problem: str, how: str, notes: Sequence[str] = ()) -> DataError:
    """The one message for a data set that is not there or not whole: what, where, and how to get it."""
    return DataError(
        "E081", f"the data set `{name}`: {problem}", notes=(f"looked in `{looked.absolute()}`", *notes), hint=how
    )

"""Image files of every kind of pixel: scaled by the range of their type, or refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bcgraph.data.readers.images import ImageFiles
from bcgraph.errors import DataError

RAMP = np.arange(64, dtype=np.float64).reshape(8, 8) / 63


def read(path: Path, channels: int = 1, size: tuple[int, int] = (8, 8)) -> np.ndarray:
    return ImageFiles((path,), channels, size).take(np.array([0]))[0]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_sixteen_bits_are_the_same_picture_as_eight(tmp_path: Path, name: str, channels: int) -> None:
    path = tmp_path / name
    Image.fromarray(np.round(RAMP * 65535).astype(np.uint16)).save(path)
    found = read(path, channels)
    assert found.dtype == np.float32
    assert found.shape == (channels, 8, 8)
    np.testing.assert_allclose(found, np.broadcast_to(RAMP, found.shape), atol=1e-5)
    eight = tmp_path / "eight.png"
    Image.fromarray(np.round(RAMP * 255).astype(np.uint8)).save(eight)
    np.testing.assert_allclose(found, read(eight, channels), atol=1 / 500)
    np.testing.assert_allclose(read(path, channels, (4, 4)), read(eight, channels, (4, 4)), atol=1 / 250)


def test_a_pgm_of_sixteen_bits(tmp_path: Path) -> None:
    path = tmp_path / "a.pgm"
    values = np.round(RAMP * 65535).astype(">u2")
    path.write_bytes(b"P5 8 8 65535\n" + values.tobytes())
    np.testing.assert_allclose(read(path)[0], RAMP, atol=1e-4)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (RAMP.astype(np.float32), "floating-point numbers"),
        ((RAMP * 1e6).astype(np.int32), "beyond 16 bits"),
        ((RAMP - 0.5).astype(np.float32), "floating-point numbers"),
        (np.full((8, 8), -1, np.int32), "beyond 16 bits"),
    ],
)
def test_pixels_without_a_known_range_are_refused(tmp_path: Path, values: np.ndarray, says: str) -> None:
    path = tmp_path / "a.tif"
    Image.fromarray(values).save(path)
    with pytest.raises(DataError, match=says) as caught:
        read(path)
    assert caught.value.code == "E081"
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("channels", [1, 3])
def test_an_orientation_flag_is_obeyed(tmp_path: Path, channels: int) -> None:
    upright = Image.fromarray(np.round(RAMP * 255).astype(np.uint8))
    upright.save(tmp_path / "upright.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # stored turned by 90 degrees
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=exif)
    np.testing.assert_array_equal(read(tmp_path / "turned.png", channels), read(tmp_path / "upright.png", channels))


def test_alpha_is_ignored(tmp_path: Path) -> None:
    opaque = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    alpha = np.random.default_rng(1).integers(0, 256, (8, 8, 1), dtype=np.uint8)
    Image.fromarray(opaque).save(tmp_path / "opaque.png")
    Image.fromarray(np.concatenate([opaque, alpha], axis=2)).save(tmp_path / "alpha.png")
    np.testing.assert_array_equal(read(tmp_path / "alpha.png", 3), read(tmp_path / "opaque.png", 3))


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "CMYK", "LA"])
def test_other_kinds_of_eight_bits_go_through_pillow(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "a.tif"
    image = Image.fromarray(np.round(RAMP * 255).astype(np.uint8)).convert(mode)
    image.save(path)
    expected = np.asarray(Image.open(path).convert("L"), dtype=np.float32) / 255
    np.testing.assert_array_equal(read(path)[0], expected)

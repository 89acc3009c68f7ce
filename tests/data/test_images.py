"""Image files of every kind of pixel: scaled by the range of their type, or refused."""

from __future__ import annotations

import struct
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
        ((RAMP * 1e6).astype(np.int32), "signed whole numbers"),
        ((RAMP * 255).astype(np.int32), "signed whole numbers"),  # as small as they are
        ((RAMP - 0.5).astype(np.float32), "floating-point numbers"),
        (np.full((8, 8), -1, np.int32), "signed whole numbers"),
    ],
)
def test_pixels_without_a_known_range_are_refused(tmp_path: Path, values: np.ndarray, says: str) -> None:
    path = tmp_path / "a.tif"
    Image.fromarray(values).save(path)
    with pytest.raises(DataError, match=says) as caught:
        read(path)
    assert caught.value.code == "E081"
    assert str(path) in str(caught.value)


def tiff(path: Path, data: bytes, bits: int, meaning: int = 1, form: int = 1) -> None:
    """A TIFF file of 8x8 pixels that Pillow would not write: with `meaning` 0 white is zero, `form` 2 is signed."""
    shorts = {256: 8, 257: 8, 258: bits, 259: 1, 262: meaning, 277: 1, 278: 8, 339: form}
    entries = {tag: struct.pack("<HHIHH", tag, 3, 1, value, 0) for tag, value in shorts.items()}
    begin = 8 + 2 + 12 * (len(shorts) + 2) + 4
    for tag, value in ((273, begin), (279, len(data))):
        entries[tag] = struct.pack("<HHII", tag, 4, 1, value)
    listed = b"".join(entries[tag] for tag in sorted(entries))
    path.write_bytes(b"II*\0" + struct.pack("<IH", 8, len(entries)) + listed + bytes(4) + data)


def test_twelve_bits_of_a_tiff_file_have_a_range_of_their_own(tmp_path: Path) -> None:
    pairs = np.round(RAMP * 4095).astype(int).reshape(-1, 2)
    tiff(tmp_path / "a.tif", b"".join(int(a << 12 | b).to_bytes(3, "big") for a, b in pairs), 12)
    np.testing.assert_allclose(read(tmp_path / "a.tif")[0], RAMP, atol=1 / 4000)


def test_white_may_be_zero_in_a_tiff_file(tmp_path: Path) -> None:
    for bits, kind in ((8, "u1"), (16, "<u2")):
        tiff(tmp_path / "a.tif", np.round(RAMP * (2**bits - 1)).astype(kind).tobytes(), bits, meaning=0)
        np.testing.assert_allclose(read(tmp_path / "a.tif")[0], 1 - RAMP, atol=1 / 250)


@pytest.mark.parametrize(("bits", "kind", "form"), [(8, "i1", 2), (16, "<i2", 2), (32, "<i4", 2), (32, "<u4", 1)])
def test_numbers_without_a_known_range_are_refused_whatever_their_values(
    tmp_path: Path, bits: int, kind: str, form: int
) -> None:
    tiff(tmp_path / "a.tif", np.round(RAMP * 100).astype(kind).tobytes(), bits, form=form)
    with pytest.raises(DataError, match="whole numbers, whose range" if form == 2 else "of 32 bits, whose range"):
        read(tmp_path / "a.tif")


def in_planes(path: Path, picture: np.ndarray, bits: int) -> None:
    """A TIFF file of 8x8 pixels whose channels stand one after the other."""
    size = 64 * bits // 8
    begin = 8 + 2 + 12 * 10 + 4
    outside = begin, begin + 6, begin + 18  # of what has three values: bits, offsets, sizes
    offsets = [begin + 30 + channel * size for channel in range(3)]
    shorts = {256: 8, 257: 8, 259: 1, 262: 2, 277: 3, 278: 8, 284: 2}
    entries = {tag: struct.pack("<HHIHH", tag, 3, 1, value, 0) for tag, value in shorts.items()}
    for tag, kind, place in ((258, 3, outside[0]), (273, 4, outside[1]), (279, 4, outside[2])):
        entries[tag] = struct.pack("<HHII", tag, kind, 3, place)
    listed = b"".join(entries[tag] for tag in sorted(entries))
    values = struct.pack("<3H3I3I", *[bits] * 3, *offsets, *[size] * 3)
    pixels = np.round(picture * (2**bits - 1)).astype(f"<u{bits // 8}").transpose(2, 0, 1).tobytes()
    path.write_bytes(b"II*\0" + struct.pack("<IH", 8, len(entries)) + listed + bytes(4) + values + pixels)


def test_channels_of_a_tiff_file_may_stand_one_after_the_other_where_pillow_can_read_them(tmp_path: Path) -> None:
    picture = np.stack([RAMP, RAMP.T, 1 - RAMP], axis=-1)
    in_planes(tmp_path / "a.tif", picture, 8)
    np.testing.assert_allclose(read(tmp_path / "a.tif", 3), picture.transpose(2, 0, 1), atol=1 / 500)
    in_planes(tmp_path / "a.tif", picture, 16)
    with pytest.raises(DataError, match="its channels of 16 bits stand one after the other"):
        read(tmp_path / "a.tif", 3)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("channels", [1, 3])
def test_alpha_of_a_palette_is_ignored_without_a_word(tmp_path: Path, channels: int) -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)).quantize(16)
    image.save(tmp_path / "opaque.png")
    image.save(tmp_path / "alpha.png", transparency=bytes(range(0, 256, 16)))
    np.testing.assert_array_equal(read(tmp_path / "alpha.png", channels), read(tmp_path / "opaque.png", channels))


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
@pytest.mark.parametrize("flag", range(1, 9))
def test_plain_tiff_files_obey_their_flag_too(tmp_path: Path, flag: int, kind: type) -> None:
    picture = np.arange(24).reshape(4, 6) * (np.iinfo(kind).max // 24)
    stored = {  # how the pixels lie in the file so that the flag turns them upright (TIFF 6.0, tag 274)
        1: picture,
        2: picture[:, ::-1],
        3: picture[::-1, ::-1],
        4: picture[::-1],
        5: picture.T,
        6: picture.T[::-1],
        7: picture[::-1, ::-1].T,
        8: picture.T[:, ::-1],
    }[flag]
    Image.fromarray(np.ascontiguousarray(stored.astype(kind))).save(tmp_path / "a.tif", tiffinfo={274: flag})
    np.testing.assert_allclose(
        read(tmp_path / "a.tif", size=(4, 6))[0], picture / np.iinfo(kind).max, atol=1e-6, rtol=1e-6
    )


def test_what_is_no_image_is_said_in_words(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"<html>")
    with pytest.raises(DataError, match="it is no image"):
        read(tmp_path / "a.png")


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

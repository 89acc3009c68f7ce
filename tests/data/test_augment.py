"""Augmentations: each sample changes as its own key says, in every possible way about equally often."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from bcgraph import keys
from bcgraph.data.augment import Crop, Flip, Roll, images
from bcgraph.data.sources import Augmentation

KEYS = [keys.derive(0, "test", n) for n in range(4000)]


def marked(size: int = 5) -> np.ndarray:
    """An image whose pixels are all different and not zero."""
    return np.arange(1, size * size + 1, dtype=np.float32).reshape(1, 1, size, size)


def outcomes(change: Augmentation, image: np.ndarray) -> Counter[bytes]:
    samples = np.repeat(image, len(KEYS), axis=0)
    before = samples.copy()
    changed = change(samples, KEYS)
    assert np.array_equal(samples, before)
    assert changed.shape == samples.shape
    assert changed.dtype == np.float32
    return Counter(sample.tobytes() for sample in changed)


def test_crops() -> None:
    padded = np.pad(marked()[0, 0], 2)
    expected = {padded[y : y + 5, x : x + 5].tobytes() for y in range(5) for x in range(5)}
    found = outcomes(Crop(2), marked())
    assert set(found) == expected
    assert min(found.values()) > 4000 / 25 * 0.6
    assert max(found.values()) < 4000 / 25 * 1.4


def test_crops_are_filled() -> None:
    found = Crop(1, fill=7.0)(np.zeros((200, 1, 2, 2), dtype=np.float32), KEYS[:200])
    assert set(np.unique(found)) == {0.0, 7.0}


def test_flips() -> None:
    found = outcomes(Flip(), marked())
    assert set(found) == {marked().tobytes(), marked()[..., ::-1].tobytes()}
    assert 1800 < found[marked().tobytes()] < 2200


def test_rolls() -> None:
    found = outcomes(Roll(1), marked())
    assert set(found) == {np.roll(marked()[0], (y, x), axis=(-2, -1)).tobytes() for y in (-1, 0, 1) for x in (-1, 0, 1)}
    assert min(found.values()) > 4000 / 9 * 0.7


def test_flip_and_crop_are_independent() -> None:
    crop, flip = images(32)
    image = np.arange(32 * 32, dtype=np.float32).reshape(1, 1, 32, 32)
    samples = np.repeat(image, len(KEYS), axis=0)
    tops = crop(samples, KEYS)[:, 0, 16, 16]
    flipped = flip(samples, KEYS)[:, 0, 0, 0] != 0
    share = [flipped[tops == value].mean() for value in np.unique(tops)]
    assert len(share) == 81
    assert min(share) > 0.2
    assert max(share) < 0.8


@pytest.mark.parametrize("change", [Crop(2), Flip(), Roll(2)])
def test_frames_of_a_sequence_change_alike(change: Augmentation) -> None:
    frames = np.repeat(marked()[:, None], 3, axis=1)  # [1, T, C, H, W]
    for key in KEYS[:20]:
        changed = change(frames, [key])
        assert np.array_equal(changed[:, 0], changed[:, 1])
        assert np.array_equal(changed[:, 0], change(marked(), [key]))


def test_padding_follows_the_size() -> None:
    assert images(32)[0] == Crop(4)
    assert images(64)[0] == Crop(8)

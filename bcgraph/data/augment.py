"""Random changes of training samples, each decided by the sample's own 64-bit key.

They work on numpy arrays `[n, ..., H, W]`, so a sequence's frames all change alike. Different augmentations read
different parts of the key: cropping and rolling its remainder, flipping its top bit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bcgraph.data.sources import Augmentation, Floats


@dataclass(frozen=True)
class Crop:
    """Pad all four sides by `padding` pixels of `fill` and crop back to the size, at a random place."""

    padding: int
    fill: float = 0.0

    def __call__(self, samples: Floats, keys: list[int]) -> Floats:
        """Each sample cropped where its key says."""
        height, width = samples.shape[-2:]
        around = [(0, 0)] * (samples.ndim - 2) + [(self.padding, self.padding)] * 2
        padded = np.pad(samples, around, constant_values=self.fill)
        cropped = np.empty_like(samples)
        places = 2 * self.padding + 1
        for index, key in enumerate(keys):
            top, left = key % places, key // places % places
            cropped[index] = padded[index, ..., top : top + height, left : left + width]
        return cropped


@dataclass(frozen=True)
class Flip:
    """Mirror left and right with even odds."""

    def __call__(self, samples: Floats, keys: list[int]) -> Floats:
        """Each sample mirrored when the top bit of its key is set."""
        chosen = np.array([bool(key >> 63) for key in keys])
        flipped = samples.copy()
        flipped[chosen] = samples[chosen, ..., ::-1]
        return flipped


@dataclass(frozen=True)
class Roll:
    """Shift by up to `reach` pixels in both directions; what leaves on one side comes in on the other."""

    reach: int

    def __call__(self, samples: Floats, keys: list[int]) -> Floats:
        """Each sample shifted as far as its key says."""
        rolled = np.empty_like(samples)
        places = 2 * self.reach + 1
        for index, key in enumerate(keys):
            shift = key % places - self.reach, key // places % places - self.reach
            rolled[index] = np.roll(samples[index], shift, axis=(-2, -1))
        return rolled


def images(height: int) -> tuple[Augmentation, ...]:
    """What the paper does to still images (Appendix B): pad, crop, flip; 4 pixels of padding at a height of 32."""
    return Crop(max(1, height // 8)), Flip()

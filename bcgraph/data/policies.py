"""Changes of training samples that a text asks for beyond those of the data set: `cutout`, `autoaugment`, `events`.

Each sample's own key decides. Those that torchvision computes need torch, which a thread that reads ahead must not use
beside those that train: they are `torch_bound`, and read in the main thread.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from bcgraph.data.sources import Augmentation, DataSet, Floats
from bcgraph.errors import DataError
from bcgraph.keys import derive, rng
from bcgraph.schema import DataSpec


@dataclass(frozen=True)
class Cutout:
    """Blank a square with sides of `side` pixels around a random pixel (DeVries and Taylor 2017), all frames alike.

    It takes the value of `fill` by channel, the mean, and is cut off where it reaches over the border.
    """

    side: int
    fill: tuple[float, ...] = (0.0,)

    def __call__(self, samples: Floats, keys: list[int]) -> Floats:
        """Each sample with a hole where its key says."""
        changed = samples.copy()
        fill = np.array(self.fill, dtype=np.float32)[:, None, None]
        height, width = samples.shape[-2:]
        for sample, key in zip(changed, keys, strict=True):
            draw = rng(key, "cutout")
            top, left = draw.randrange(height) - self.side // 2, draw.randrange(width) - self.side // 2
            rows, columns = slice(max(0, top), max(0, top + self.side)), slice(max(0, left), max(0, left + self.side))
            sample[..., rows, columns] = fill
        return changed


@dataclass(frozen=True)
class Policy:
    """A policy of torchvision on images with values from 0 to 1, in steps of 1/255 as their files have."""

    name: str
    torch_bound: ClassVar[bool] = True

    def __call__(self, samples: Floats, keys: list[int]) -> Floats:
        """Each sample `[C, H, W]` as the policy changes it when its generators start from the key.

        Raises DataError (E081) for values outside of 0 to 1.
        """
        from PIL import Image

        from bcgraph.data import generators

        if samples.min(initial=0.0) < 0 or samples.max(initial=0.0) > 1:
            raise DataError("E081", "`autoaugment` changes images with values from 0 to 1, but there are others")
        transform = _transform(self.name)
        changed = np.empty_like(samples)
        with generators.restored():
            for row, (sample, key) in enumerate(zip(samples, keys, strict=True)):
                pixels = np.round(sample * 255).astype(np.uint8)
                image = Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0))
                generators.seed(derive(key, "autoaugment"))
                found = np.asarray(transform(image), dtype=np.float32) / np.float32(255)
                changed[row] = found[None] if found.ndim == 2 else found.transpose(2, 0, 1)
        return changed


def _transform(name: str) -> Any:
    from torchvision.transforms import v2

    if name == "rand":
        return v2.RandAugment()
    if name == "trivial":
        return v2.TrivialAugmentWide()
    return v2.AutoAugment(v2.AutoAugmentPolicy(name))


@dataclass(frozen=True)
class Geometric:
    """One of roll, rotation, cutout and shear, all frames alike (neuromorphic data augmentation, Li et al. 2022).

    Shifts are up to a tenth of the size, squares up to a sixth, rotations up to 15 degrees, and shears up to 8.6 (0.15
    radians). The flip of the paper is left to the data set: it turns a left hand into a right one.
    """

    torch_bound: ClassVar[bool] = True

    def __call__(self, samples: Floats, keys: list[int]) -> Floats:
        """Each sample `[T, C, H, W]` changed by what its key draws."""
        changed = samples.copy()
        height, width = samples.shape[-2:]
        for row, key in enumerate(keys):
            draw = rng(key, "nda")
            kind = draw.choice(("roll", "rotate", "cutout", "shear"))
            if kind == "roll":
                shift = tuple(draw.randint(-(n // 10), n // 10) for n in (height, width))
                changed[row] = np.roll(samples[row], shift, axis=(-2, -1))
            elif kind == "cutout":
                side = draw.randint(1, max(1, min(height, width) // 6))
                changed[row] = Cutout(side)(samples[row][None], [key])[0]
            else:
                angle = draw.uniform(-15, 15) if kind == "rotate" else 0.0
                shear = math.degrees(draw.uniform(-0.15, 0.15)) if kind == "shear" else 0.0
                changed[row] = _affine(samples[row], angle, shear)
        return changed


def _affine(frames: Floats, angle: float, shear: float) -> Floats:
    import torch
    from torchvision.transforms.v2 import functional

    moved = functional.affine(torch.from_numpy(frames), angle=angle, translate=[0, 0], scale=1.0, shear=[shear, 0.0])
    found: Floats = moved.numpy()
    return found


@dataclass(frozen=True)
class Drop:
    """Leave out events: of some steps, of a rectangle, or of single places, or none (EventDrop, Gu et al. 2021).

    The four have even odds. The share that is left out is drawn from one to nine tenths, and a side of the rectangle
    from a twentieth to a quarter of the size.
    """

    def __call__(self, samples: Floats, keys: list[int]) -> Floats:
        """Each sample `[T, C, H, W]` without what its key draws."""
        changed = samples.copy()
        for sample, key in zip(changed, keys, strict=True):
            draw = rng(key, "drop")
            kind, share = draw.choice(("none", "time", "area", "random")), draw.randint(1, 9) / 10
            if kind == "time":
                number = max(1, round(share * len(sample)))
                start = draw.randint(0, len(sample) - number)
                sample[start : start + number] = 0
            elif kind == "area":
                rows, columns = (_stretch(draw, n) for n in sample.shape[-2:])
                sample[..., rows, columns] = 0
            elif kind == "random":
                noise = np.random.Generator(np.random.PCG64(draw.getrandbits(64)))
                sample[noise.random(sample.shape) < share] = 0
        return changed


def _stretch(draw: random.Random, length: int) -> slice:
    """A stretch of a twentieth to a quarter of a length."""
    number = max(1, round(draw.randint(1, 5) * 0.05 * length))
    start = draw.randint(0, length - number)
    return slice(start, start + number)


_EVENTS: dict[str, Augmentation] = {"nda": Geometric(), "drop": Drop()}


def changes(data: DataSpec, source: DataSet) -> tuple[Augmentation, ...]:
    """What is done to training samples: what the data set does itself, with `augment`, then what settings ask for."""
    found = source.augment if data.augment else ()
    if data.autoaugment != "none":
        found = (*found, Policy(data.autoaugment))
    if data.events != "none":
        found = (*found, _EVENTS[data.events])
    if data.cutout:
        found = (*found, Cutout(data.cutout, tuple(source.mean)))
    return found

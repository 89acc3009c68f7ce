"""What a text asks for beyond the changes of a data set: cutout, torchvision's policies, and those of event cameras."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from bcgraph import data
from bcgraph.data import policies
from bcgraph.data.policies import Cutout, Drop, Geometric, Policy, changes
from bcgraph.data.sources import Augmentation
from bcgraph.errors import DataError
from bcgraph.keys import derive
from bcgraph.schema import DataSpec, ImageInput, InputSpec, SequenceInput, VectorInput

DRAW = np.random.default_rng(0)
KEYS = [derive(0, "test", n) for n in range(40)]
IMAGES = DRAW.integers(0, 256, (40, 3, 12, 10)).astype(np.float32) / np.float32(255)
FRAMES = DRAW.poisson(2.0, (40, 5, 2, 12, 10)).astype(np.float32)


@pytest.mark.parametrize(
    ("change", "samples"),
    [(Cutout(4, (0.5, 0.2, 0.1)), IMAGES), (Geometric(), FRAMES), (Drop(), FRAMES), (Cutout(3, (0.0, 0.0)), FRAMES)]
    + [(Policy(name), IMAGES) for name in ("cifar10", "imagenet", "svhn", "rand", "trivial")]
    + [(Policy("trivial"), IMAGES[:, :1])],
)
def test_a_sample_changes_as_its_own_key_says_and_nothing_else(change: Augmentation, samples: np.ndarray) -> None:
    before, states = samples.copy(), (random.getstate(), torch.get_rng_state())
    changed = change(samples, KEYS)
    assert changed.shape == samples.shape
    assert changed.dtype == np.float32
    assert np.array_equal(samples, before)
    assert random.getstate() == states[0]
    assert torch.equal(torch.get_rng_state(), states[1])
    order = [7, 3, 30]
    assert np.array_equal(change(samples[order], [KEYS[n] for n in order]), changed[order])
    different = [not np.array_equal(a, b) for a, b in zip(changed, samples, strict=True)]
    assert sum(different) > 20
    others = change(np.repeat(samples[:1], 40, axis=0), KEYS)
    assert len({one.tobytes() for one in others}) > 10


def test_cutout_blanks_a_square_around_any_pixel() -> None:
    holes = Cutout(4, (0.5, 0.2, 0.1))(np.ones((40, 3, 12, 10), dtype=np.float32), KEYS)[:, 0] == 0.5
    sizes = holes.sum((1, 2))
    assert sizes.max() == 16
    assert sizes.min() < 16  # over the border
    centers = np.array([np.argwhere(hole).mean(0) for hole in holes])
    assert centers.min(0).max() < 2.5
    assert centers.max(0).min() > 7


def test_a_policy_is_that_of_torchvision() -> None:
    key = KEYS[3]
    pixels = np.round(IMAGES[3] * 255).astype(np.uint8).transpose(1, 2, 0)
    torch.manual_seed(derive(key, "autoaugment") % 2**63)
    theirs = np.asarray(v2.RandAugment()(Image.fromarray(pixels))).transpose(2, 0, 1)
    ours = Policy("rand")(IMAGES[[3]], [key])[0]
    assert np.array_equal(np.round(ours * 255).astype(np.uint8), theirs)


def test_values_that_are_no_image_are_refused() -> None:
    with pytest.raises(DataError, match="values from 0 to 1"):
        Policy("rand")(IMAGES * 2, KEYS)


def test_events_are_dropped_in_four_ways() -> None:
    dropped = Drop()(np.ones((400, 10, 2, 20, 20), dtype=np.float32), [derive(1, n) for n in range(400)])
    kinds = {"none": 0, "time": 0, "area": 0, "random": 0}
    for sample in dropped:
        silent = (sample == 0).all((1, 2, 3))
        hole = (sample == 0).all((0, 1))
        kinds["none" if sample.all() else "time" if silent.any() else "area" if hole.any() else "random"] += 1
    assert min(kinds.values()) > 60


def test_a_rotation_keeps_counts_in_place_and_frames_alike() -> None:
    same = np.repeat(FRAMES[:, :1], 5, axis=1)
    changed = Geometric()(same, KEYS)
    assert all(np.array_equal(frames[0], frames[-1]) for frames in changed)
    assert changed.max() <= FRAMES.max()


def test_the_settings_say_what_is_done_and_in_which_order() -> None:
    source = data.read(DataSpec(), ImageInput(1, 8, 8), 1)
    asked = DataSpec(cutout=2, autoaugment="svhn")
    assert changes(asked, source) == (Policy("svhn"), Cutout(2, (0.0,)))
    assert changes(DataSpec(events="nda"), source) == (Geometric(),)
    split = data.load(asked, ImageInput(1, 8, 8), 1).train
    assert split.needs_main_thread
    assert not split.plain().needs_main_thread
    assert not data.load(DataSpec(cutout=2), ImageInput(1, 8, 8), 1).train.needs_main_thread
    assert torch.equal(split.take([1, 2])[0], data.load(DataSpec(), ImageInput(1, 8, 8), 1).train.take([1, 2])[0])
    assert not torch.equal(split.take([1, 2], key=1)[0], split.take([1, 2])[0])


@pytest.mark.parametrize(
    ("settings", "form"),
    [
        ({"cutout": 2}, VectorInput(8)),
        ({"autoaugment": "rand"}, SequenceInput(1, 1, 8)),
        ({"autoaugment": "rand"}, ImageInput(2, 8, 8)),
        ({"events": "drop"}, ImageInput(1, 8, 8)),
        ({"events": "nda"}, SequenceInput(8)),
    ],
)
def test_inputs_that_cannot_be_changed_so(settings: dict[str, object], form: InputSpec) -> None:
    with pytest.raises(DataError, match=f"`{next(iter(settings))}` changes") as caught:
        data.read(DataSpec(name="digits", **settings), form, 8)  # type: ignore[arg-type]
    assert caught.value.code == "E041"


def test_every_setting_has_its_change() -> None:
    words = DataSpec.model_json_schema()["properties"]
    assert set(words["events"]["enum"]) == {"none", *policies._EVENTS}
    for name in words["autoaugment"]["enum"]:
        if name != "none":
            policies._transform(name)

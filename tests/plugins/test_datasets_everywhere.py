"""A torch `Dataset` from Python in training, in a search by scores and by a supernet, and in a profile."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import Dataset

import bcgraph
from bcgraph import firing, profile
from bcgraph.search.evaluators import Standard

FORMS: dict[str, tuple[str, tuple[int, ...]]] = {
    "images": ("image(1, 4, 4)", (1, 4, 4)),
    "frames": ("sequence(1, 4, 4)", (3, 1, 4, 4)),
    "signals": ("sequence(2, 5)", (3, 2, 5)),
    "vectors": ("sequence(6)", (3, 6)),
}
TEXT = """bcg 1
block small() {{ flatten(); a = linear(8); lif1 = lif(); b = linear(8); lif2 = lif(); out = linear(2) }}
network n {{ input = {form}; steps = 3; backbone = small() }}
data = mine(batch=10)
search {{
  max_backward = 1
  init     {{ pool = 3; keep = 2; scores = [n, e]; batch = 10 }}
  supernet {{ epochs = 1 }}
  evolve   {{ iterations = 1; top = 2; population = 2; offspring = 1 }}
}}
train {{ epochs = 2; mixup = 0.2 }}
"""


class Levels(Dataset[Any]):
    """Two levels of noise, told apart by their mean."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape

    def __len__(self) -> int:
        return 60

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return torch.rand(self.shape, generator=torch.Generator().manual_seed(index)) + index % 2, index % 2


@pytest.mark.parametrize("form", FORMS)
def test_everywhere(tmp_path: Path, form: str) -> None:
    word, shape = FORMS[form]
    bcgraph.register.data("mine", Levels(shape))
    spec = bcgraph.parse(TEXT.format(form=word))
    trained = bcgraph.train(spec, out=tmp_path / "trained")
    assert len(trained.history) == 2
    found = bcgraph.search.run(spec, tmp_path / "searched")
    assert found.chosen.evaluation.accuracy is not None
    (scored,) = Standard(spec, 0, tmp_path).init()([spec])
    assert scored.n is not None
    assert scored.e is not None
    splits = bcgraph.data.load(spec.data, spec.input, spec.steps)
    assert (len(splits.train), len(splits.test)) == (48, 12)
    rates = firing.measure(bcgraph.compile(spec), splits.test.batches(6))
    measured = profile.profile(spec, rates)
    assert measured.measured
    assert len(rates) == 2 * 3

"""A torch `Dataset` from Python, registered or given: in training, in searches, in scores and in a profile."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import Dataset

import bcgraph
from bcgraph import firing, profile
from bcgraph.errors import DataError, RunError
from bcgraph.schema import NetworkSpec
from bcgraph.search.evaluators import Standard
from bcgraph.search.supernet import devices
from bcgraph.weights import metadata

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


def named_elsewhere(form: str) -> NetworkSpec:
    """A network whose text names data that do not exist here."""
    text = TEXT.format(form=FORMS[form][0])
    return bcgraph.parse(text.replace("mine(batch=10)", 'arrays(root="none.npz", batch=10)'))


def test_given_to_each_call(tmp_path: Path) -> None:
    spec = named_elsewhere("frames")
    shape = FORMS["frames"][1]
    result = bcgraph.search.run(spec, tmp_path / "found", Levels(shape))
    assert result.chosen.evaluation.accuracy is not None
    again = bcgraph.search.run(spec, tmp_path / "found", Levels(shape))
    assert again.records == result.records
    for other in (None, (Levels(shape), Levels(shape))):
        with pytest.raises(RunError, match=r"options\.dataset") as caught:
            bcgraph.search.run(spec, tmp_path / "found", other)
        assert caught.value.code == "E085"
    trained = bcgraph.train(result.best, Levels(shape), out=tmp_path / "trained")
    splits = bcgraph.data.of(spec, Levels(shape))
    assert trained.accuracy == bcgraph.train(result.best, splits=splits, out=tmp_path / "again").accuracy
    x, y = splits.train.balanced(10, key=0)
    model = bcgraph.compile(result.best)
    assert x.shape == (3, 10, 1, 4, 4)
    assert bcgraph.scores.both_results(model, x, y).e.value > 0
    assert profile.profile(result.best, firing.measure(model, splits.test.batches(6))).measured


def test_a_search_reads_no_sample_of_the_test_part(tmp_path: Path) -> None:
    read: list[int] = []

    class Watched(Levels):
        def __getitem__(self, index: int) -> tuple[Tensor, int]:
            read.append(index)
            return super().__getitem__(index)

    spec = named_elsewhere("vectors")
    data, test = Watched(FORMS["vectors"][1]), Levels(FORMS["vectors"][1])
    held = set(bcgraph.data.of(spec, data).test.chosen.tolist())
    assert len(held) == 12
    bcgraph.search.run(spec, tmp_path / "first", data)
    once = read[60:]
    assert sorted(once[:60]) == list(range(60)), "each item is checked once"
    members = bcgraph.data.of(spec, data).test.part.samples.members  # type: ignore[attr-defined]
    assert not set(once[60:]) & set(members.tolist())
    with pytest.raises(DataError, match="a test dataset needs a dataset"):
        bcgraph.search.run(spec, tmp_path / "second", test=test)


def test_weights_say_which_data_they_know(tmp_path: Path) -> None:
    from bcgraph import artifacts, run_files

    spec = named_elsewhere("vectors")
    written: list[artifacts.Artifacts] = []
    result = bcgraph.search.run(
        spec, tmp_path, Levels(FORMS["vectors"][1]), hooks=[lambda found: written.append(artifacts.write(found))]
    )
    assert metadata(result.path / run_files.BEST)["data"] == "Levels"


def test_a_dataset_that_cannot_travel(tmp_path: Path) -> None:
    class Local(Levels):
        pass

    spec = named_elsewhere("vectors")
    with pytest.raises(DataError, match="cannot be sent to the processes"):
        bcgraph.search.run(spec, tmp_path, Local(FORMS["vectors"][1]), options=bcgraph.search.Options(devices=2))
    sent = devices._sent(bcgraph.data.of(spec, Levels(FORMS["vectors"][1])).train)
    assert len(sent) == 48

"""Mixing the samples of a batch, and learning from another network: the numbers, processes, resuming, bad teachers."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import bcgraph
from bcgraph import data, weights
from bcgraph.errors import BcgraphError, RunError
from bcgraph.keys import derive
from bcgraph.schema import DataSpec, NetworkSpec, TrainSpec
from bcgraph.training import Event, Step, train
from bcgraph.training.batches import Batch, batches
from bcgraph.training.distributed.process_group import SingleProcess
from bcgraph.training.losses import distillation, teacher

KEY = derive(0, "an epoch")

IMAGES, ROWS = (
    "bcg 1\nblock small() { flatten(); fc = linear(48); lif = lif(); out = linear(10) }\n"
    f"network n {{ input = {form}; steps = {steps}; backbone = small() }}\ndata = {name}()\n"
    for form, steps, name in (("image(1, 8, 8)", 2, "digits"), ("sequence(1, 1, 8)", 8, "digits_rows"))
)


def spec_of(sequence: bool = False, batch: int = 100, **settings: Any) -> NetworkSpec:
    found = bcgraph.parse(ROWS if sequence else IMAGES)
    data_set = found.data.model_copy(update={"batch": batch})
    return NetworkSpec(**{**found.__dict__, "data": data_set, "train": TrainSpec(**{"epochs": 2, **settings})})


def one_of(rank: int, world: int) -> Any:
    """One of several processes, as far as reading a batch knows."""
    return SimpleNamespace(global_rank=rank, world_size=world, device=torch.device("cpu"))


def read(spec: NetworkSpec, group: Any, mixup: float, count: int = 3) -> list[Batch]:
    split = data.load(spec.data, spec.input, spec.steps).train
    with batches(spec, split, group, KEY, drop_last=False, mixup=mixup) as found:
        return [batch for batch, _ in zip(found, range(count), strict=False)]


@pytest.mark.parametrize("sequence", [False, True])
def test_each_sample_is_mixed_with_another_of_the_batch(sequence: bool) -> None:
    spec = spec_of(sequence)
    whole, mixed = (read(spec, SingleProcess(), mixup) for mixup in (0.0, 0.4))
    shares = []
    for before, after in zip(whole, mixed, strict=True):
        assert before.partners is None
        assert after.partners is not None
        assert torch.equal(before.y, after.y)
        shares.append(after.share)
        x, found = (each.x.movedim(1, 0) if sequence else each.x for each in (before, after))
        for n in range(0, 100, 9):
            distances = (after.share * x[n] + (1 - after.share) * x - found[n]).flatten(1).abs().amax(1)
            likely = before.y[distances < 1e-5].tolist()
            assert int(after.partners[n]) in likely
            assert len(likely) < 100 or after.share > 0.999
    assert len(set(shares)) == 3
    assert all(0 <= share <= 1 for share in shares)


def test_processes_mix_the_whole_batch_alike() -> None:
    spec = spec_of(batch=90)
    for whole, first, second in zip(
        read(spec, SingleProcess(), 1.0), read(spec, one_of(0, 2), 1.0), read(spec, one_of(1, 2), 1.0), strict=True
    ):
        assert torch.equal(whole.x, torch.cat([first.x, second.x]))
        assert torch.equal(whole.partners, torch.cat([first.partners, second.partners]))  # type: ignore[arg-type]
        assert whole.share == first.share == second.share


def test_distillation_is_the_divergence_of_softened_outputs() -> None:
    outputs, logits = torch.randn(3, 4, 5, dtype=torch.float64), torch.randn(4, 5, dtype=torch.float64)

    def distance(found: Tensor) -> Tensor:
        p, q = F.softmax(logits / 3, -1), F.softmax(found / 3, -1)
        return (p * (p / q).log()).sum(-1).mean() * 9

    expected = {
        "tet": sum(map(distance, outputs)) / 3,
        "mean": distance(outputs.mean(0)),
        "last": distance(outputs[-1]),
    }
    for loss, value in expected.items():
        assert float(distillation(outputs, logits, 3.0, loss)) == pytest.approx(float(value), rel=1e-12)
    assert float(distillation(logits[None], logits, 3.0, "tet")) == pytest.approx(0, abs=1e-12)


class Linear(nn.Module):
    """A teacher of a user's own."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.layer(x.flatten(1))
        return found


def tensors(folder: Path) -> dict[str, Tensor]:
    return weights.load(folder / "last.safetensors")


def same(one: Path, other: Path) -> bool:
    first, second = tensors(one), tensors(other)
    return all(torch.equal(first[name], second[name]) for name in first)


def test_the_loss_of_a_step_is_as_written(tmp_path: Path) -> None:
    spec = spec_of(batch=1200, epochs=1, mixup=0.7, distill=0.3, temperature=4.0, label_smoothing=0.1, loss="mean")
    taught = Linear().eval()
    found = train(spec, out=tmp_path, seed=5, teacher=taught)
    model = bcgraph.compile(spec, seed=5)
    model.train()
    with batches(spec, data.load(spec.data, spec.input, 2).train, SingleProcess(), derive(5, "train", 0),
                 drop_last=False, mixup=0.7) as read_:  # fmt: skip
        (batch,) = read_
    assert batch.partners is not None
    outputs = model(batch.x).mean(0)
    hard = [F.cross_entropy(outputs, y, label_smoothing=0.1) for y in (batch.y, batch.partners)]
    p, q = F.softmax(taught(batch.x) / 4, -1), F.log_softmax(outputs / 4, -1)
    soft = (p * (p.log() - q)).sum(-1).mean() * 16
    expected = 0.7 * (batch.share * hard[0] + (1 - batch.share) * hard[1]) + 0.3 * soft
    assert found.history[0].loss == pytest.approx(float(expected), rel=1e-5)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training run to learn from."""
    folder = tmp_path_factory.mktemp("teachers") / "run"
    train(spec_of(batch=200), out=folder)
    return folder


def test_a_run_with_all_of_it_is_resumed_to_the_bit(tmp_path: Path, run: Path) -> None:
    settings: dict[str, Any] = {"epochs": 3, "mixup": 0.4, "teacher": str(run), "accumulate": 2}
    spec = spec_of(batch=400, **settings)
    asked = spec.data.model_copy(update={"cutout": 2, "autoaugment": "rand"})
    spec = NetworkSpec(**{**spec.__dict__, "data": asked})

    def stop(event: Event) -> None:
        if isinstance(event, Step) and (event.epoch, event.step) == (2, 2):
            raise KeyboardInterrupt

    train(spec, out=tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(spec, out=tmp_path / "stopped", progress=stop)
    torch.rand(7)
    train(spec, out=tmp_path / "stopped")
    assert same(tmp_path / "whole", tmp_path / "stopped")
    # Another teacher, or another setting, is another run.
    for other in ({"mixup": 0.5}, {"distill": 0.4}, {"teacher": ""}):
        changed = NetworkSpec(**{**spec.__dict__, "train": TrainSpec(**{**settings, **other})})
        with pytest.raises(RunError) as caught:
            train(changed, out=tmp_path / "whole")
        assert caught.value.code == "E085"


def test_what_a_teacher_may_be(tmp_path: Path, run: Path) -> None:
    spec = bcgraph.load(run / "spec.bcg")
    kept = tensors(run)
    (tmp_path / "named.bcg").write_text((run / "spec.bcg").read_text())
    weights.save(tmp_path / "named.safetensors", kept, spec=spec)
    bcgraph.export(spec, tmp_path / "net.onnx", state_dict=kept)
    x = data.load(spec.data, spec.input, spec.steps).test.take(range(20))[0]
    model = bcgraph.compile(spec)
    weights.apply(model, kept)
    expected = model.eval()(x).mean(0)
    for path in (run, tmp_path / "named.bcg", tmp_path / "net.onnx"):
        asked = spec_of(teacher=str(path))
        found = teacher.load(asked, torch.device("cpu"), torch.float32)
        assert found is not None
        assert torch.allclose(found(x), expected, atol=1e-5), path
    assert teacher.load(spec_of(teacher=str(run), distill=0.0), torch.device("cpu"), torch.float32) is None


def test_a_published_model(monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision.models import get_model

    model = get_model("shufflenet_v2_x0_5", weights=None, num_classes=10).eval()
    monkeypatch.setattr(weights, "published", lambda name: model.state_dict())
    base = spec_of(teacher="torchvision:shufflenet_v2_x0_5")
    text = "bcg 1\nnetwork n { input = image(3, 32, 32); steps = 1; backbone = tiny(width=2, classes=10) }"
    spec = NetworkSpec(**{**bcgraph.parse(text).__dict__, "train": base.train})
    found = teacher.load(spec, torch.device("cpu"), torch.float32)
    assert found is not None
    x = torch.rand(2, 3, 32, 32)
    assert torch.allclose(found(x), model(x))
    with pytest.raises(RunError, match="3 channels"):
        teacher.load(base, torch.device("cpu"), torch.float32)


def test_bad_teachers(tmp_path: Path, run: Path) -> None:
    (tmp_path / "bare.bcg").write_text((run / "spec.bcg").read_text())
    (tmp_path / "broken.onnx").write_bytes(b"rubbish")
    for name, says in (
        ("nowhere", "there is no teacher `nowhere`"),
        ("https://me:secret@host/net.onnx", "the teacher `https://me:***@host/net.onnx` is a URL"),
        ("~/nowhere.onnx", "/nowhere.onnx` cannot be read: no such file"),
        (str(tmp_path / "bare.bcg"), "has no weights"),
        (str(tmp_path / "broken.onnx"), "broken.onnx"),
        ("torchvision:resnet9000", "3 channels"),
    ):
        with pytest.raises(BcgraphError) as caught:
            train(spec_of(teacher=name), out=tmp_path / "out")
        assert says in str(caught.value)
    with pytest.raises(RunError, match="takes another input"):
        train(spec_of(sequence=True, teacher=str(run)), out=tmp_path / "out")
    assert not (tmp_path / "out" / "log.csv").exists()


def test_learning_from_a_good_teacher_helps(tmp_path: Path) -> None:
    x, y = data.load(DataSpec(), spec_of().input, 2).train.take(range(1200))
    good = Linear()
    adam = torch.optim.Adam(good.parameters(), lr=0.02)
    for _ in range(150):
        adam.zero_grad()
        F.cross_entropy(good(x), y).backward()
        adam.step()
    spec = spec_of(batch=40, epochs=3, distill=1.0, temperature=2.0)
    # Without labels at all: what it learns, it learns from the teacher.
    assert train(spec, out=tmp_path, teacher=good).accuracy > 0.7

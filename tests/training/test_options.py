"""What is off by default: accumulation, clipping, smoothing, averaging, the mean-squared term, several devices."""

from __future__ import annotations

import copy
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from bcgraph import data, keys, schema, weights
from bcgraph.compiler import compile as compile_network
from bcgraph.errors import RunError
from bcgraph.schema import SGD, Constant, DataSpec, NetworkSpec, TrainSpec
from bcgraph.training import Epoch, Event, Options, Step, train
from bcgraph.training.batches import Batch
from bcgraph.training.distributed.process_group import SingleProcess
from bcgraph.training.ema import EMA
from bcgraph.training.losses import mean_squared
from bcgraph.training.optimizers import optimizer
from bcgraph.training.train_step import TrainStep
from tests import forked
from tests.training.nets import plain

DOUBLE = "64"


def spec_of(batch: int = 400, epochs: int = 1, **more: Any) -> NetworkSpec:
    """Three updates of plain gradient descent, with `more` settings of training."""
    optimizer = SGD(lr=0.5, momentum=0.0, weight_decay=0.0)
    settings = TrainSpec(epochs=epochs, optimizer=optimizer, schedule=Constant(), **more)
    return plain(steps=2, train=settings, data=DataSpec(name="digits", batch=batch))


def first_batches(spec: NetworkSpec) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    split = data.load(spec.data, spec.input, spec.steps).train
    for x, y in split.batches(spec.data.batch, keys.derive(0, "train", 0)):
        yield x.double(), y


def by_hand(spec: NetworkSpec, *, parts: int = 1, clip: float | None = None, term: Any = None) -> dict[str, Any]:
    """The weights after one epoch, with each update spelled out on the compiled network."""
    model = compile_network(spec, dtype=torch.float64).train()
    for x, y in first_batches(spec):
        model.zero_grad()
        for piece, labels in zip(x.chunk(parts), y.chunk(parts), strict=True):
            outputs = model(piece)
            loss = (
                sum(F.cross_entropy(o, labels) for o in outputs) / len(outputs)
                if term is None
                else term(outputs, labels)
            )
            (loss / parts).backward()
        gradients = [p.grad for p in model.parameters()]
        norm = torch.stack([g.square().sum() for g in gradients]).sum().sqrt()  # type: ignore[union-attr]
        scale = 1.0 if clip is None else min(1.0, clip / norm.item())
        with torch.no_grad():
            for parameter in model.parameters():
                parameter -= 0.5 * scale * parameter.grad  # type: ignore[operator]
    return model.state_dict()


def check(folder: Path, expected: dict[str, Any], tolerance: float = 1e-9, **settings: Any) -> None:
    train(spec_of(**settings), out=folder, options=Options(precision=DOUBLE))
    trained = weights.load(folder / "last.safetensors")
    for name, value in expected.items():
        if value.is_floating_point():
            assert (trained[name] - value).abs().max() < tolerance, name


def test_plain(tmp_path: Path) -> None:
    check(tmp_path, by_hand(spec_of()))


@pytest.mark.parametrize("size", range(4, 17))
def test_processes_accumulate_over_as_many_parts(size: int) -> None:
    """Each part exchanges its statistics. Shares of 11 are 5 and 6, of which one alone has three parts of two."""
    spec = spec_of(accumulate=3)
    parts: list[list[int]] = []
    for rank in range(2):
        model = compile_network(spec, dtype=torch.float64).train()
        sizes: list[int] = []
        model.register_forward_hook(lambda _, x, __, sizes=sizes: sizes.append(len(x[0])))
        group = SingleProcess(rank, 2, rank == 0)
        step = TrainStep(spec, spec.train, group, model, optimizer(model, spec.train.optimizer), torch.float64)
        number = size * (rank + 1) // 2 - size * rank // 2
        step(Batch(torch.rand(number, 1, 8, 8), torch.zeros(number, dtype=torch.long), size), 0.1)
        assert sum(sizes) == number
        parts.append(sizes)
    assert len(parts[0]) == len(parts[1]) == min(3, size // 4)
    assert min(map(min, parts)) >= 2


def test_accumulation_takes_statistics_by_part_and_updates_once(tmp_path: Path) -> None:
    expected = by_hand(spec_of(), parts=4)
    check(tmp_path, expected, accumulate=4)
    assert (expected["conv1.weight"] - by_hand(spec_of())["conv1.weight"]).abs().max() > 1e-6


def test_accumulation_of_sequences(tmp_path: Path) -> None:
    events: list[Event] = []
    settings = TrainSpec(epochs=1, accumulate=3)
    spec = plain(sequence=True, train=settings, data=DataSpec(name="digits_rows", batch=500))
    train(spec, out=tmp_path, progress=events.append)
    assert sum(isinstance(e, Step) for e in events) == 3


def test_clipping(tmp_path: Path) -> None:
    expected = by_hand(spec_of(), clip=0.01)
    # torch adds 1e-6 to the norm it divides by.
    check(tmp_path, expected, tolerance=1e-5, clip=0.01)
    assert (expected["fc.weight"] - by_hand(spec_of())["fc.weight"]).abs().max() > 1e-3


def test_label_smoothing(tmp_path: Path) -> None:
    def smoothed(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        target = F.one_hot(labels, 10).double() * 0.8 + 0.02
        return -(target * outputs.log_softmax(2)).sum(2).mean()

    check(tmp_path, by_hand(spec_of(), term=smoothed), label_smoothing=0.2)


def test_mean_squared_term(tmp_path: Path) -> None:
    def tet(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        entropy = sum(F.cross_entropy(o, labels) for o in outputs) / len(outputs)
        squares = sum(((o - 1.0) ** 2).mean() for o in outputs) / len(outputs)
        return 0.9 * entropy + 0.1 * squares  # type: ignore[return-value]

    check(tmp_path, by_hand(spec_of(), term=tet), mean_squared=0.1)
    assert mean_squared(torch.tensor([[[0.0, 3.0]]]), 1.0).item() == 2.5


def test_average_follows_its_recurrence() -> None:
    model = torch.nn.BatchNorm1d(2)
    average = EMA(model, 0.75)
    expected = {name: value.clone() for name, value in model.state_dict().items()}
    for n in range(1, 4):
        with torch.no_grad():
            model.weight.fill_(n)
        model.num_batches_tracked.fill_(n)  # type: ignore[union-attr]
        average.update()
        expected["weight"] = 0.75 * expected["weight"] + 0.25 * n
    own = copy.deepcopy(model.state_dict())
    with average.applied():
        assert torch.allclose(model.state_dict()["weight"], expected["weight"])
        assert model.state_dict()["num_batches_tracked"] == 3
    assert torch.equal(model.state_dict()["weight"], own["weight"])


def test_averaged_weights_are_kept_and_resumed_to_the_bit(tmp_path: Path) -> None:
    def stop(event: Event) -> None:
        if isinstance(event, Epoch) and event.epoch == 1:
            raise KeyboardInterrupt

    spec = spec_of(epochs=2, ema=0.5)
    whole = train(spec, out=tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(spec, out=tmp_path / "run", progress=stop)
    train(spec, out=tmp_path / "run")
    kept = (tmp_path / "run" / "last.safetensors").read_bytes()
    assert kept == (tmp_path / "whole" / "last.safetensors").read_bytes()
    train(spec_of(epochs=2), out=tmp_path / "own")
    own = weights.load(tmp_path / "own" / "last.safetensors")
    averaged = weights.load(whole.path)
    assert not torch.equal(averaged["conv1.weight"], own["conv1.weight"])
    state, _ = weights.unpack(tmp_path / "whole" / "state.safetensors")
    assert torch.equal(state["model.conv1.weight"], own["conv1.weight"])
    assert torch.equal(state["average.conv1.weight"], averaged["conv1.weight"])


def test_checkpoints_from_before_there_were_graphs_and_a_switch_for_tf32_resume(tmp_path: Path) -> None:
    train(spec_of(), out=tmp_path, options=Options())
    _, described = weights.unpack(tmp_path / "state.safetensors")
    assert {"devices", "precision"} <= described["identity"].keys()
    assert not {"graphs", "tf32", "accelerator"} & described["identity"].keys()
    train(spec_of(), out=tmp_path, options=Options(graphs="off"))
    with pytest.raises(RunError) as caught:
        train(spec_of(), out=tmp_path, options=Options(tf32=False))
    assert "tf32" in str(caught.value.diagnostics[0].notes)


def test_mixed_precision_trains(tmp_path: Path) -> None:
    result = train(spec_of(), out=tmp_path, options=Options(precision="bf16-mixed"))
    assert result.history[0].loss < 3
    assert weights.load(result.path)["conv1.weight"].dtype == torch.float32


@pytest.mark.parametrize(
    "wrong",
    [
        {"precision": "8"},
        {"devices": 0},
    ],
)
def test_values_out_of_range(wrong: dict[str, Any]) -> None:
    with pytest.raises(RunError) as caught:
        Options(**wrong)
    assert caught.value.code == "E041"
    assert f"`{next(iter(wrong))}`" in str(caught.value)


def test_a_batch_too_small_for_its_parts(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="a batch of 5 cannot be computed in 3 parts"):
        train(spec_of(batch=5, accumulate=3), out=tmp_path / "run")


PROGRAM = """
import atexit, sys, torch
from pathlib import Path
torch.set_num_threads(1)
# What is registered first is called last.
@atexit.register
def left():
    names = {path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")}
    print(*(f"left: {name}" for name in names if "gloo" in name), file=sys.stderr)
from bcgraph.training import Options
from tests.training.test_options import ddp_spec, train
spec = ddp_spec(sys.argv[3])
train(spec, out=sys.argv[1], seed=3, options=Options(precision="64", devices=int(sys.argv[2])),
      schedule="folded" if sys.argv[3] == "folded" else "unrolled")
"""


def ddp_spec(kind: str) -> NetworkSpec:
    """Batches of 131 and a last one of 21: shares differ in size."""
    norm = schema.Norm(statistics="per_step" if kind == "per_step" else "shared")
    spec = plain(
        steps=2,
        sequence=kind == "sequence",
        norm=norm,
        train=TrainSpec(epochs=2),
        data=DataSpec(name="digits_rows" if kind == "sequence" else "digits", batch=131),
    )
    return spec.with_backward([(1, 0), (0, 0, 9)] if kind == "unread" else [(1, 0)])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["image", "sequence", "per_step", "unread", "folded"])
def test_two_processes_equal_one(tmp_path: Path, kind: str) -> None:
    script = tmp_path / "script.py"
    script.write_text(PROGRAM)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    if kind == "unread":
        # They meet where the environment says, as with a launcher.
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    for devices in ("1", "2"):
        command = [sys.executable, str(script), str(tmp_path / devices), devices, kind]
        ran = forked.run(command, env=environment, text=True)
        assert ran.returncode == 0, ran.stderr
        # A thread that outlives the group may abort a process at its end.
        assert "left:" not in ran.stderr
    one, two = (weights.load(tmp_path / devices / "last.safetensors") for devices in ("1", "2"))
    assert one.keys() == two.keys()
    for name, value in one.items():
        difference = (two[name] - value).abs().max()
        assert difference < (1e-9 if value.is_floating_point() else 1), (name, difference)
    logs = [(tmp_path / devices / "log.csv").read_text().splitlines() for devices in ("1", "2")]
    for ours, theirs in zip(*logs, strict=True):
        head, accuracies = ours.split(",")[:1], ours.split(",")[3:5]
        assert (head, accuracies) == (theirs.split(",")[:1], theirs.split(",")[3:5])

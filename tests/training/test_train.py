"""Training: equal to a plain loop, resumable to the bit, and clear about what goes wrong."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from bcgraph import data, dsl, export, keys, runtime, search, weights
from bcgraph.compiler import compile as compile_network
from bcgraph.errors import BcgraphWarning, DataError, RunError, WeightsError
from bcgraph.schema import SGD, AdamW, BackwardConnection, DataSpec, NetworkSpec, TrainSpec
from bcgraph.training import Epoch, Event, Options, Step, checkpoint, evaluate, train
from bcgraph.training.optimizers import optimizer as make_optimizer
from tests.search.threads import threads
from tests.training import oracle
from tests.training.nets import plain, tiny

FILES = ["best.safetensors", "last.safetensors", "log.csv", "spec.bcg", "state.safetensors"]


def small(epochs: int = 3, **more: Any) -> NetworkSpec:
    """An epoch of it takes a fraction of a second."""
    settings: dict[str, Any] = {"train": TrainSpec(epochs=epochs), "data": DataSpec(name="digits", batch=200)}
    return plain(steps=2, **{**settings, **more})


def tensors(folder: Path, name: str = "last.safetensors") -> dict[str, torch.Tensor]:
    return weights.load(folder / name)


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


class Stop:
    """A progress callback that interrupts training as Ctrl-C would, at an event of choice."""

    def __init__(self, *, epoch: int, step: int) -> None:
        self.place = (epoch, step)

    def __call__(self, event: Event) -> None:
        if isinstance(event, Step) and (event.epoch, event.step) == self.place:
            raise KeyboardInterrupt


@pytest.mark.parametrize("schedule", ["unrolled", "folded"])
@pytest.mark.parametrize("sequence", [False, True])
def test_equals_a_plain_loop(tmp_path: Path, sequence: bool, schedule: str) -> None:
    batch, epochs = 240, 2
    spec = plain(
        steps=3, sequence=sequence, data=DataSpec(name="digits_rows" if sequence else "digits", batch=batch)
    ).with_backward([(1, 0)])
    spec = NetworkSpec(**{**spec.__dict__, "train": TrainSpec(epochs=epochs)})
    start = compile_network(spec, dtype=torch.float64, seed=5).state_dict()
    split = data.load(spec.data, spec.input, spec.steps).train
    batches = (b for epoch in range(epochs) for b in split.batches(batch, keys.derive(5, "train", epoch)))
    expected = oracle.train(start, batches, total=5 * epochs, steps=3, sequence=sequence)
    train(spec, out=tmp_path / "run", seed=5, schedule=schedule, options=Options(precision="64"))
    trained = tensors(tmp_path / "run")
    for name, value in expected.items():
        if value.is_floating_point():
            assert trained[name].dtype == torch.float64
            assert (trained[name] - value).abs().max() < 1e-9, name
            assert not torch.equal(trained[name], start[name])


def test_what_a_run_leaves(tmp_path: Path) -> None:
    events: list[Event] = []
    spec = small(2)
    result = train(spec, out=tmp_path / "run", progress=events.append)
    assert sorted(p.name for p in (tmp_path / "run").iterdir() if p.name != ".lock") == FILES
    assert [(e.epoch, e.step, e.steps) for e in events if isinstance(e, Step)] == [
        (epoch, step, 6) for epoch in (1, 2) for step in range(1, 7)
    ]
    assert tuple(e for e in events if isinstance(e, Epoch)) == result.history
    assert result.path == tmp_path / "run" / "last.safetensors"
    assert result.accuracy == result.history[-1].test_accuracy
    assert result.best == max(e.test_accuracy for e in result.history)
    with (tmp_path / "run" / "log.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [float(row["test_accuracy"]) for row in rows] == [e.test_accuracy for e in result.history]
    assert [int(row["epoch"]) for row in rows] == [1, 2]
    # The weights are those of the accuracy.
    model = compile_network(spec)
    weights.apply(model, weights.load(result.path, spec=spec))
    test = data.load(spec.data, spec.input, spec.steps).test
    assert evaluate(model, test, readout="mean", batch=100) == result.accuracy
    assert weights.metadata(result.path)["epoch"] == "2"


def test_it_learns(tmp_path: Path) -> None:
    spec = plain(steps=2, width=32, train=TrainSpec(epochs=4), data=DataSpec(name="digits", batch=50))
    result = train(spec, out=tmp_path)
    assert result.history[-1].loss < 0.8 * result.history[0].loss
    assert result.accuracy > 0.7


def test_the_specification_is_kept(tmp_path: Path) -> None:
    spec = dsl.parse(tiny("backward @4 -> @4", width=2, batch=300, epochs=1, more="schedule = constant(warmup=1)"))
    train(spec, out=tmp_path)
    assert dsl.load(tmp_path / "spec.bcg") == spec
    train(dsl.load(tmp_path / "spec.bcg"), out=tmp_path)


def test_best_is_kept(tmp_path: Path) -> None:
    result = train(small(4, data=DataSpec(name="digits", batch=50)), out=tmp_path)
    first = next(e.epoch for e in result.history if e.test_accuracy == result.best)
    assert weights.metadata(tmp_path / "best.safetensors")["epoch"] == str(first)


def test_same_seed_same_weights(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        train(small(1), out=tmp_path / name, seed=seed)
    assert equal(tensors(tmp_path / "a"), tensors(tmp_path / "b"))
    assert not equal(tensors(tmp_path / "a"), tensors(tmp_path / "c"))


def test_the_callers_generator_is_left_alone(tmp_path: Path) -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    train(small(1), out=tmp_path)
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize(("epoch", "step"), [(1, 2), (2, 1), (3, 6)])
def test_interrupted_and_resumed_to_the_bit(tmp_path: Path, epoch: int, step: int) -> None:
    train(small(), out=tmp_path / "whole", seed=4)
    with pytest.raises(KeyboardInterrupt):
        train(small(), out=tmp_path / "run", seed=4, progress=Stop(epoch=epoch, step=step))
    assert (tmp_path / "run" / "state.safetensors").exists() == (epoch > 1)
    events: list[Event] = []
    resumed = train(small(), out=tmp_path / "run", seed=4, progress=events.append)
    first = next(e for e in events if isinstance(e, Step))
    assert first.epoch == epoch
    for name in ("last.safetensors", "best.safetensors"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert [e.epoch for e in resumed.history] == [1, 2, 3]
    one, _ = weights.unpack(tmp_path / "run" / "state.safetensors")
    other, _ = weights.unpack(tmp_path / "whole" / "state.safetensors")
    assert equal(one, other)


def test_another_number_of_threads_is_said(tmp_path: Path) -> None:
    with threads(2), pytest.raises(KeyboardInterrupt):
        train(small(), out=tmp_path, progress=Stop(epoch=2, step=1))
    with threads(1), pytest.warns(BcgraphWarning, match="was trained on 2 threads and resumes on 1: .*=2 keeps"):
        train(small(), out=tmp_path)
    # Nothing of it is trained any more, so nothing can differ.
    with threads(2):
        train(small(), out=tmp_path)


PROGRAM = """
import os, signal, sys, torch
torch.set_num_threads(1)
from bcgraph.training import Step, train
from tests.training.test_train import small
def stop(event):
    if isinstance(event, Step) and (event.epoch, event.step) == (2, 3):
        os.kill(os.getpid(), signal.SIGKILL)
train(small(), out=sys.argv[1], seed=4, progress=stop if sys.argv[2] == "kill" else None)
"""


def test_killed_and_resumed_to_the_bit(tmp_path: Path) -> None:
    def run(folder: str, how: str) -> int:
        command = [sys.executable, "-c", PROGRAM, str(tmp_path / folder), how]
        return subprocess.run(command, check=False, timeout=300).returncode

    assert run("run", "kill") == -signal.SIGKILL
    assert run("run", "finish") == 0
    assert run("whole", "finish") == 0
    assert equal(tensors(tmp_path / "run"), tensors(tmp_path / "whole"))


def test_a_kill_between_the_files_of_an_epoch(tmp_path: Path) -> None:
    """The checkpoint is there already, the weights and the log are still those of the epoch before."""
    train(small(), out=tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(small(), out=tmp_path / "run", progress=Stop(epoch=3, step=1))
    stale = (tmp_path / "run" / "last.safetensors").read_bytes()
    train(small(), out=tmp_path / "run")
    (tmp_path / "run" / "last.safetensors").write_bytes(stale)
    (tmp_path / "run" / "log.csv").unlink()
    train(small(), out=tmp_path / "run")
    assert equal(tensors(tmp_path / "run"), tensors(tmp_path / "whole"))
    assert len((tmp_path / "run" / "log.csv").read_text().splitlines()) == 4


def test_the_best_weights_of_another_run_are_noticed(tmp_path: Path) -> None:
    train(small(2), out=tmp_path / "run")
    train(small(2), out=tmp_path / "other", seed=1)
    best = tmp_path / "run" / "best.safetensors"
    whole = best.read_bytes()
    best.write_bytes((tmp_path / "other" / "best.safetensors").read_bytes())
    with pytest.raises(RunError, match=r"is of another run: seed 1, where 0 is right"):
        train(small(2), out=tmp_path / "run")
    best.write_bytes(whole)
    train(small(2), out=tmp_path / "run")
    best.unlink()
    train(small(2), out=tmp_path / "run")


def test_a_finished_run_is_not_trained_again(tmp_path: Path) -> None:
    first = train(small(2), out=tmp_path)
    events: list[Event] = []
    again = train(small(2), out=tmp_path, progress=events.append)
    assert events == []
    assert again == first


def test_begun_anew(tmp_path: Path) -> None:
    train(small(1), out=tmp_path, seed=1)
    train(small(2), out=tmp_path, seed=2, resume=False)
    train(small(2), out=tmp_path / "other", seed=2)
    assert equal(tensors(tmp_path), tensors(tmp_path / "other"))


def test_begun_anew_and_interrupted(tmp_path: Path) -> None:
    """What is gone on with is the new training, not the one that was there before."""
    train(small(2), out=tmp_path, seed=1)
    with pytest.raises(KeyboardInterrupt):
        train(small(2), out=tmp_path, seed=2, resume=False, progress=Stop(epoch=1, step=1))
    assert sorted(p.name for p in tmp_path.iterdir() if p.name != ".lock") == ["spec.bcg"]
    train(small(2), out=tmp_path, seed=2)
    train(small(2), out=tmp_path / "other", seed=2)
    assert equal(tensors(tmp_path), tensors(tmp_path / "other"))


def test_the_directory_of_a_search_is_left_alone(tmp_path: Path) -> None:
    for name in ("run.json", "spec.bcg", "best.safetensors"):
        (tmp_path / name).write_bytes(b"of a search")
    with pytest.raises(RunError, match="holds a search") as caught:
        train(small(1), out=tmp_path, resume=False)
    assert caught.value.code == "E085"
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == dict.fromkeys(
        ("run.json", "spec.bcg", "best.safetensors"), b"of a search"
    )


def test_a_search_does_not_begin_in_the_directory_of_a_training(tmp_path: Path) -> None:
    train(small(1), out=tmp_path)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    with pytest.raises(RunError, match="of something else") as caught:
        search.run(small(1), tmp_path)
    assert caught.value.code == "E085"
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"spec": small(2).with_backward([(1, 0)])}, "backward: none in the checkpoint, @1 -> @0 now"),
        ({"seed": 9}, "seed: 0 in the checkpoint, 9 now"),
        ({"epochs": 7}, "train.epochs: 2 in the checkpoint, 7 now"),
        ({"options": Options(precision="64")}, "precision: 32 in the checkpoint, 64 now"),
        ({"spec": small(2, data=DataSpec(name="digits", batch=9))}, "batch: 200 in the checkpoint, 9 now"),
    ],
)
def test_another_run_in_the_directory(tmp_path: Path, changed: dict[str, Any], says: str) -> None:
    train(small(2), out=tmp_path)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    with pytest.raises(RunError) as caught:
        train(**{"spec": small(2), "out": tmp_path, **changed})
    assert caught.value.code == "E085"
    assert says in str(caught.value)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_another_gain_is_another_run(tmp_path: Path) -> None:
    loud = small(2).with_backward([(1, 0)])
    quiet = small(2).with_backward([BackwardConnection(1, 0, 1, 0.1)])
    train(loud, out=tmp_path)
    with pytest.raises(RunError) as caught:
        train(quiet, out=tmp_path)
    assert caught.value.code == "E085"
    assert "gains: None in the checkpoint, 1->0: 0.1 now" in str(caught.value)
    result = train(quiet, out=tmp_path / "quiet")
    # What was trained from a quiet start fits the loud one's network.
    assert equal(weights.load(result.path, spec=loud), tensors(tmp_path / "quiet"))


@pytest.mark.parametrize("content", [b"", b"rubbish", "cut", "foreign"])
def test_a_damaged_checkpoint(tmp_path: Path, content: bytes | str) -> None:
    train(small(1), out=tmp_path)
    state = tmp_path / "state.safetensors"
    if content == "cut":
        state.write_bytes(state.read_bytes()[:-10])
    elif content == "foreign":
        weights.save(state, {"a": torch.zeros(1)}, spec=small())
    else:
        assert isinstance(content, bytes)
        state.write_bytes(content)
    with pytest.raises(WeightsError) as caught:
        train(small(1), out=tmp_path)
    assert caught.value.code == "E082"


def test_a_loss_that_is_not_finite(tmp_path: Path) -> None:
    spec = small(2, train=TrainSpec(epochs=2, optimizer=AdamW(lr=1e12)))
    with pytest.raises(RunError) as caught:
        train(spec, out=tmp_path)
    assert caught.value.code == "E088"
    assert "in epoch 1, step" in str(caught.value)
    assert "no epoch was finished" in str(caught.value)
    assert not (tmp_path / "last.safetensors").exists()


def test_initial_weights(tmp_path: Path) -> None:
    train(small(1), out=tmp_path / "a")
    start = tmp_path / "a" / "last.safetensors"
    one = train(small(1), out=tmp_path / "b", weights=start)
    other = train(small(1), out=tmp_path / "c", weights=tensors(tmp_path / "a"))
    assert one.history[0].loss < train(small(1), out=tmp_path / "d").history[0].loss
    assert one.accuracy == other.accuracy
    assert equal(tensors(tmp_path / "b"), tensors(tmp_path / "c"))
    with pytest.raises(RunError, match="something else"):
        train(small(1), out=tmp_path / "b")


def test_bad_input_leaves_nothing(tmp_path: Path) -> None:
    narrow = plain(steps=2, width=3, train=TrainSpec(epochs=1), data=DataSpec(name="digits", batch=300))
    train(narrow, out=tmp_path / "narrow")
    for expected, code, settings in (
        (WeightsError, "E082", {"weights": tmp_path / "nothing.safetensors"}),
        (WeightsError, "E083", {"weights": tmp_path / "narrow" / "last.safetensors"}),
        (DataError, "E080", {"spec": small(data=DataSpec(name="digit"))}),
        (DataError, "E081", {"spec": small(data=DataSpec(name="digits_rows"))}),
        (DataError, "E081", {"spec": small(classes=7)}),
        (RunError, "E084", {"out": "/proc/run"}),
        (RunError, "E084", {"out": tmp_path / "narrow" / "log.csv" / "run"}),
    ):
        with pytest.raises(expected) as caught:
            train(**{"spec": small(1), "out": tmp_path / "run", **settings})
        assert caught.value.code == code
        assert not (tmp_path / "run").exists()


def test_a_full_disk_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(small(), out=tmp_path, progress=Stop(epoch=2, step=1))
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}

    def full(handle: int) -> None:
        raise OSError(28, os.strerror(28))

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(RunError) as caught:
            train(small(), out=tmp_path)
    assert caught.value.code == "E084"
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before
    train(small(), out=tmp_path)
    train(small(), out=tmp_path / "whole")
    assert equal(tensors(tmp_path), tensors(tmp_path / "whole"))


def test_two_trainings_in_one_directory(tmp_path: Path) -> None:
    def second(event: Event) -> None:
        train(small(1), out=tmp_path)

    with pytest.raises(RunError) as caught:
        train(small(1), out=tmp_path, progress=second)
    assert caught.value.code == "E086"


def test_a_last_batch_of_one_sample_is_left_out(tmp_path: Path) -> None:
    steps: list[int] = []
    train(
        small(1, data=DataSpec(name="digits", batch=109)),  # 1,200 = 11 * 109 + 1
        out=tmp_path,
        progress=lambda event: steps.append(event.step) if isinstance(event, Step) else None,
    )
    assert steps == list(range(1, 12))


def test_evaluate_restores_modes() -> None:
    spec = small()
    model = compile_network(spec)
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    split = data.load(spec.data, spec.input, spec.steps).test
    accuracy = evaluate(model, split, batch=597)
    assert 0 <= accuracy <= 1
    assert accuracy == evaluate(model, split, batch=50)
    assert model.training
    assert equal(before, model.state_dict())


def test_checkpoint_tensors_round_trip_exactly() -> None:
    settings: AdamW | SGD
    for settings in (AdamW(), SGD(), SGD(momentum=0.0)):
        model = torch.nn.Linear(3, 2)
        used = make_optimizer(model, settings)
        model(torch.ones(1, 3)).sum().backward()
        used.step()
        kept = checkpoint.collect(model, used)
        other = torch.nn.Linear(3, 2)
        fresh = make_optimizer(other, settings)
        checkpoint.restore(kept, other, fresh)
        assert equal(kept, checkpoint.collect(other, fresh))
        with pytest.raises(WeightsError):
            checkpoint.restore({**kept, "optimizer.exp_avg.other": torch.zeros(1)}, other, fresh)


def test_gradients_that_are_not_finite_beside_a_finite_loss(tmp_path: Path) -> None:
    """No neuron fires on weights that are no numbers, so the loss does not show them."""
    text = """bcg 1
surrogate broken() { 1 / (x - x) }
neuron own() { state v = 0; u = 0.5 * v + I; s = spike(u - 1, broken()); v = u * (1 - s) }
network n { input = image(1, 8, 8); steps = 2; neuron = own(); backbone = tiny(width=2) }
data = digits(batch=200, train=400, test=20)
train { epochs = 1 }
"""
    spec = dsl.parse(text)
    with pytest.raises(
        RunError, match=r"weights became nan or infinite in epoch 1: `conv1.weight` and \d+ more"
    ) as caught:
        train(spec, out=tmp_path)
    assert caught.value.code == "E088"
    assert not (tmp_path / "last.safetensors").exists()


def test_outputs_that_are_nan_predict_nothing(tmp_path: Path) -> None:
    """The largest of them would be the first class."""
    text = """bcg 1
neuron own() { s = relu(exp(exp(6 + abs(I)))) }
network n { input = image(1, 8, 8); steps = 2; neuron = own(); backbone = tiny(width=2) }
data = digits(train=100, test=20)
"""
    spec = dsl.parse(text)
    test = data.load(spec.data, spec.input, spec.steps).test
    assert evaluate(compile_network(spec), test) == 0.0
    report = export(spec, tmp_path / "net.onnx", settle=False)
    assert (
        report.proof.warnings[0] == f"the outputs of {(n := report.proof.samples)} of {n} samples are nan or infinite"
    )
    with pytest.raises(RunError, match="the outputs of 20 of 20 samples are nan") as caught:
        runtime.Network(tmp_path / "net.onnx").predict(next(iter(test.batches(20)))[0].numpy())
    assert caught.value.code == "E087"

"""`bcgraph train`: its options, what it prints, and who prints."""

from __future__ import annotations

import json
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from bcgraph import load, weights
from bcgraph.compiler import compile as compile_network
from tests.cli.conftest import Command, snapshot

SHORT = ("--epochs", "1")


def test_it_prints_one_line_and_leaves_a_run(bcgraph: Command, tiny: Path, tmp_path: Path) -> None:
    done = bcgraph("train", tiny, "--out", "run", *SHORT, "--precision", "64", "--accelerator", "cpu")
    assert done.code == 0
    assert done.out.startswith("run/last.safetensors: accuracy 0.")
    assert done.out.endswith(" on the test part of digits after 1 epoch\n")
    assert {p.name for p in (tmp_path / "run").iterdir() if p.name[0] != "."} == {
        "spec.bcg", "state.safetensors", "last.safetensors", "best.safetensors", "log.csv"
    }  # fmt: skip
    assert weights.load(tmp_path / "run" / "last.safetensors")["conv1.weight"].dtype == torch.float64


def test_as_data(bcgraph: Command, tiny: Path) -> None:
    found = json.loads(bcgraph("train", tiny, "--out", "run", *SHORT, "--json").out)
    assert found["accuracy"] == found["best"] == found["history"][0]["test_accuracy"]
    assert [epoch["epoch"] for epoch in found["history"]] == [1]


def test_eval_wants_an_output_for_each_class(bcgraph: Command, tiny: Path, tmp_path: Path) -> None:
    tiny.write_text(tiny.read_text().replace("classes=10", "classes=7"))
    spec = load(tiny)
    weights.save(tmp_path / "seven.safetensors", compile_network(spec).state_dict(), spec=spec)
    message = bcgraph("eval", tiny, "--weights", "seven.safetensors").fault("E081")
    assert "has 10 classes, but the network has 7 outputs" in message


def test_begun_anew(bcgraph: Command, tiny: Path, trained: Path) -> None:
    before = snapshot(trained)
    assert "epochs: 4 in the checkpoint, 1 now" in bcgraph("train", tiny, "--out", "run", *SHORT).fault("E085")
    assert snapshot(trained) == before
    assert bcgraph("train", tiny, "--out", "run", *SHORT, "--fresh").code == 0
    assert len((trained / "log.csv").read_text().splitlines()) == 2


@pytest.mark.parametrize(
    ("option", "says"),
    [
        (("--precision", "8"), "`precision` is 8"),
        (("--devices", "0"), "`devices` is 0"),
        (("--devices", "40"), "a batch of 64 cannot be computed in 40 parts"),
    ],
)
def test_options_out_of_range(bcgraph: Command, tiny: Path, tmp_path: Path, option: tuple[str, str], says: str) -> None:
    assert says in bcgraph("train", tiny, "--out", "run", *option).fault("E041")
    assert not (tmp_path / "run").exists()


def test_published_weights_and_the_note_on_what_does_not_fit(
    bcgraph: Command, tiny: Path, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bcgraph.training import loop

    state = weights.load(trained / "last.safetensors")
    published = {**state, "fc.weight": torch.zeros(1000, 8), "fc.bias": torch.zeros(1000)}
    asked = []

    def fake(name: str) -> dict[str, torch.Tensor]:
        asked.append(name)
        return published

    monkeypatch.setattr(loop.weight_files, "published", fake)
    done = bcgraph("train", tiny, "--out", "new", *SHORT, "--weights", "torchvision:resnet18")
    assert done.code == 0
    assert asked == ["resnet18"]
    assert done.err.startswith("note: not all of torchvision:resnet18 fits\n")
    assert "fc.weight (1000x8 for 10x8)" in done.err
    assert "conv1.weight" not in done.err
    assert "Warning" not in done.err
    # The others are those published, up to one epoch with a rate of 0.01.
    assert not torch.equal(weights.load(tmp_path / "new" / "last.safetensors")["conv1.weight"], state["conv1.weight"])


def test_weights_of_an_ann_are_taken_as_far_as_they_fit(bcgraph: Command, tiny: Path, trained: Path) -> None:
    state = weights.load(trained / "last.safetensors")
    ann = {**state, "fc.weight": torch.zeros(1000, 8)}
    path = tiny.with_name("ann.safetensors")
    weights.save(path, ann, spec=load(tiny))
    bcgraph("train", tiny, "--out", "strict", *SHORT, "--weights", path).fault("E083")
    done = bcgraph("train", tiny, "--out", "tuned", *SHORT, "--from-ann", path)
    assert done.code == 0
    assert "fits\nof another shape: fc.weight (1000x8 for 10x8)" in done.err
    assert bcgraph("train", tiny, "--out", "both", "--weights", path, "--from-ann", path).code == 2


def test_without_tensorboard(bcgraph: Command, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from bcgraph.training import tensorboard_log

    monkeypatch.setattr(tensorboard_log, "find_spec", lambda name: None)
    message = bcgraph("train", tiny, "--out", "run", "--tensorboard").fault("E092")
    assert "pip install 'bcgraph[tensorboard]'" in message
    assert not (tmp_path / "run").exists()


class Writer:
    """Stands for TensorBoard's, which is not installed everywhere; keeps a line for each value in one file."""

    def __init__(self, folder: str) -> None:
        Path(folder).mkdir()
        self.stream = (Path(folder) / "events").open("x")

    def add_scalar(self, name: str, value: float, step: int) -> None:
        self.stream.write(f"{step} {name} {value!r}\n")

    def flush(self) -> None:
        self.stream.flush()

    def close(self) -> None:
        self.stream.close()


def test_tensorboard_has_each_epoch_once_after_a_resume(
    bcgraph: Command, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bcgraph.training import Epoch, Event, tensorboard_log, train

    module = type(sys)("torch.utils.tensorboard")
    module.SummaryWriter = Writer  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    monkeypatch.setattr(tensorboard_log, "find_spec", lambda name: object())

    def stop(event: Event) -> None:
        if isinstance(event, Epoch) and event.epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(load(tiny), out=tmp_path / "run", progress=stop, tensorboard=True)
    assert bcgraph("train", tiny, "--out", "run", "--tensorboard").code == 0
    lines = (tmp_path / "run" / "tensorboard" / "events").read_text().splitlines()
    assert [line.split()[:2] for line in lines] == [
        [str(epoch), name] for epoch in range(1, 5) for name in ("lr", "loss/train", "accuracy/train", "accuracy/test")
    ]
    log = (tmp_path / "run" / "log.csv").read_text().splitlines()[1:]
    assert [line.split(",")[4] for line in log] == [line.split()[2] for line in lines[3::4]]


@pytest.mark.skipif(find_spec("tensorboard") is None, reason="the extra `tensorboard` is not installed")
def test_a_true_tensorboard_log(bcgraph: Command, tiny: Path, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    done = bcgraph("train", tiny, "--out", "run", "--epochs", "2", "--tensorboard", "--json")
    read = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    read.Reload()
    values = [(event.step, event.value) for event in read.Scalars("accuracy/test")]
    history = json.loads(done.out)["history"]
    assert values == [(epoch["epoch"], pytest.approx(epoch["test_accuracy"])) for epoch in history]


@pytest.mark.parametrize(("rank", "prints"), [("0", True), ("1", False)])
def test_only_the_first_process_prints(
    bcgraph: Command, tiny: Path, trained: Path, monkeypatch: pytest.MonkeyPatch, rank: str, prints: bool
) -> None:
    monkeypatch.setenv("LOCAL_RANK", rank)
    done = bcgraph("train", tiny, "--out", "run")
    assert done.code == 0
    assert bool(done.out) == prints


@pytest.mark.slow
def test_two_processes_print_once(process: Command, tiny: Path, tmp_path: Path) -> None:
    done = process("train", tiny, "--out", "run", *SHORT, "--devices", "2")
    assert done.code == 0, done.err
    assert done.out.count("accuracy") == 1
    assert (tmp_path / "run" / "last.safetensors").exists()

"""The supernet on several devices: what one process computes, whatever happens to those that share the work."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import bcgraph
from bcgraph import seals, training, weights
from bcgraph.errors import BcgraphError, RunError, SearchError
from bcgraph.schema import NetworkSpec
from bcgraph.search import Options, history, run
from bcgraph.search.events import Event
from bcgraph.search.supernet import devices
from bcgraph.search.supernet.checkpoint import STATE, WEIGHTS
from bcgraph.search.supernet.supernet import Supernet, SupernetEpoch
from bcgraph.training.distributed import launcher
from bcgraph.training.distributed.devices import process_group
from tests import forked, needs
from tests.cli.test_workers import alive, children
from tests.search import landscape
from tests.search.threads import threads

ROOT = Path(__file__).parents[2]
ONE, TWO = training.Options(), training.Options(devices=2)
HALF = training.Options(precision="bf16-mixed")

# Batches of 131 and a last one of 43: parts differ in size.
TEXT = """
bcg 1
network five { input = image(1, 8, 8); steps = 2; %s; backbone = tiny(width=3, classes=10) }
data = digits(batch=%d)
search {
  init { pool = 6; keep = 3; batch = 20 }
  supernet { epochs = %d }
  evolve { iterations = 1; top = 2; population = 3; offspring = 1 }
}
train { loss = tet; %s }
"""


def spec(epochs: int, batch: int = 131, more: str = "readout = mean", train: str = "epochs = 1") -> NetworkSpec:
    return bcgraph.parse(TEXT % (more, batch, epochs, train))


@pytest.fixture(scope="module", autouse=True)
def _two_threads() -> Iterator[None]:
    """Here, so that each of two processes has one, and the processes that tests start."""
    with threads(2), forked.launched():
        yield


@pytest.fixture
def _new_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The processes that share the work are new ones, and children of this one."""
    monkeypatch.setattr(launcher, "subprocess", subprocess)


def supernet(net: NetworkSpec, machine: training.Options, dtype: torch.dtype = torch.float64) -> Supernet:
    return Supernet(net, 7, devices.divided(net, 7)[0], dtype=dtype, machine=machine)


def trained(net: NetworkSpec, machine: training.Options, out: Path) -> tuple[Supernet, tuple[SupernetEpoch, ...]]:
    """Trained by other processes, also by a single one."""
    out.mkdir()
    made = supernet(net, machine)
    told: list[SupernetEpoch] = []
    assert devices.train(made, out, told.append) == tuple(told)
    assert len(told) == net.search.supernet.epochs
    return made, tuple(told)


def state(made: Supernet) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in made.full.state_dict().items()}


@pytest.mark.slow
@pytest.mark.parametrize("more", ["readout = mean", "norm = bn(statistics=per_step)"], ids=["shared", "per_step"])
def test_two_processes_equal_one(tmp_path: Path, more: str) -> None:
    net = spec(2, more=more)
    one, alone = supernet(net, ONE), tmp_path / "one"
    alone.mkdir()
    expected = one.train(alone, lambda _: None)
    two, epochs = trained(net, TWO, tmp_path / "two")
    for a, b in zip(expected, epochs, strict=True):
        assert (a.epoch, a.steps) == (b.epoch, b.steps)
        assert abs(a.loss - b.loss) < 1e-9
    # Weights, running statistics, and what the optimizer keeps for the weights that were used so far.
    found, other = (weights.unpack(folder / STATE)[0] for folder in (alone, tmp_path / "two"))
    assert found.keys() == other.keys()
    for name, value in found.items():
        assert (other[name] - value).abs().max() < 1e-9, name
    for name, value in state(one).items():
        assert (state(two)[name] - value).abs().max() < 1e-9, name
    # The steps of each weight are counted: on a path that was not drawn none was made, in none of the processes.
    counts = {name: int(value) for name, value in other.items() if name.startswith("optimizer.step.")}
    drawn = [one.drawn(epoch, step) for epoch in range(2) for step in range(expected[0].steps)]
    for name, count in counts.items():
        pair = name.removeprefix("optimizer.step.backward.").partition(".")[0]
        assert count == sum(name.count("backward") == 0 or pair in {f"{j}_{i}" for j, i in path} for path in drawn)
    assert len({*counts.values()}) > 2


@pytest.mark.slow
def test_a_step_of_two_processes_changes_only_its_path(tmp_path: Path) -> None:
    net = spec(1, batch=960)
    before, path = state(supernet(net, TWO)), supernet(net, TWO).drawn(0, 0)
    after = state(trained(net, TWO, tmp_path / "two")[0])
    used = set(bcgraph.compile(net.with_backward(path)).state_dict())
    assert net.train.optimizer.weight_decay > 0
    for name in before.keys() - used:
        assert torch.equal(before[name], after[name]), name
    moved = {name for name in used if not torch.equal(before[name], after[name])}
    assert {"conv1.weight", "fc.weight", "bn1.running_mean", *(f"backward.{j}_{i}.bn.weight" for j, i in path)} <= moved


@pytest.mark.slow
def test_a_single_process_of_its_own_makes_the_same_bits(tmp_path: Path) -> None:
    """As one GPU is used; with the CPU in its place."""
    net = spec(1)
    one = supernet(net, ONE)
    (tmp_path / "here").mkdir()
    one.train(tmp_path / "here", lambda _: None)
    trained(net, ONE, tmp_path / "there")
    for name in (STATE, WEIGHTS):
        assert (tmp_path / "here" / name).read_bytes() == (tmp_path / "there" / name).read_bytes()


@pytest.mark.slow
def test_what_cannot_be_written_ends_all_processes(tmp_path: Path) -> None:
    with pytest.raises(RunError) as caught:
        devices.train(supernet(spec(1), TWO), tmp_path / "missing", lambda _: None)
    assert caught.value.code == "E084"
    assert "missing" in str(caught.value)


def search(out: Path, options: Options, progress: Callable[[Event], None] | None = None) -> None:
    run(spec(6), out, options=options, progress=progress)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A search with two devices that nothing happened to."""
    out = tmp_path_factory.mktemp("whole")
    epochs: list[int] = []
    search(out, Options(devices=2, threads=1), lambda e: epochs.append(e.done) if e.stage == "supernet" else None)
    assert epochs == [1, 2, 3, 4, 5, 6]
    return out


def same(out: Path, whole: Path) -> None:
    assert history(out) == history(whole)
    for name in ("best.bcg", "run.json", STATE, WEIGHTS):
        assert (out / name).read_bytes() == (whole / name).read_bytes(), name
    assert {p.name for p in out.iterdir()} - {"workers.json"} == {p.name for p in whole.iterdir()}


PROGRAM = """
import sys
from pathlib import Path
from bcgraph.search import Options
from tests.search.test_devices import search
search(Path(sys.argv[1]), Options(devices=2, threads=1))
"""


@pytest.mark.slow
@pytest.mark.usefixtures("_new_processes")
def test_killed_in_the_middle_and_gone_on_with(whole: Path, tmp_path: Path) -> None:
    driver = subprocess.Popen([sys.executable, "-c", PROGRAM, str(tmp_path)], cwd=ROOT)
    limit = time.monotonic() + 120
    while not (tmp_path / STATE).exists() and driver.poll() is None and time.monotonic() < limit:
        time.sleep(0.005)
    started = children(driver.pid)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    assert len(started) == 2
    until = time.monotonic() + 10
    while any(map(alive, started)):
        assert time.monotonic() < until, "they end with the driver"
        time.sleep(0.01)
    assert not (tmp_path / WEIGHTS).exists(), "it was not in the middle"
    with pytest.raises(RunError, match="a process that trains was ended by SIGKILL") as caught:
        search(tmp_path, Options(devices=2, threads=1), killing)
    assert caught.value.code == "E093"
    assert not (tmp_path / WEIGHTS).exists(), "it was not in the middle"
    search(tmp_path, Options(devices=2, threads=1))
    same(tmp_path, whole)


def killing(event: Event) -> None:
    """Kill one of the processes as soon as there is progress."""
    if event.stage == "supernet":
        with suppress(ProcessLookupError):  # as it is when the others have ended for want of it
            os.kill(max(children(os.getpid())), signal.SIGKILL)


@pytest.mark.slow
def test_with_workers(whole: Path, tmp_path: Path) -> None:
    needs.package("ray")
    search(tmp_path, Options(devices=2, workers=1))
    same(tmp_path, whole)


def test_the_devices_are_part_of_a_run(tmp_path: Path) -> None:
    net = landscape.spec()

    def go(**options: Any) -> None:
        run(net, tmp_path, options=Options(**options), evaluators=landscape.Fake())

    def refused(**options: Any) -> str:
        with pytest.raises(RunError) as caught:
            go(**options)
        assert caught.value.code == "E085"
        return str(caught.value)

    go()
    assert "options.devices: 1 there, 2 here" in refused(devices=2)
    assert 'options.precision: "32" there, "bf16-mixed" here' in refused(precision="bf16-mixed")
    # As in a directory of a time when there was nothing to say about it.
    identity = json.loads((tmp_path / "run.json").read_text())
    # Somebody's edit, in a file of a version that sealed nothing.
    del identity[seals.NAME]
    assert not {"devices", "accelerator", "evaluated_on", "precision"} & identity["options"].keys()
    identity["options"] |= {"devices": 2, "accelerator": "cuda", "evaluated_on": "cuda"}
    (tmp_path / "run.json").write_text(json.dumps(identity))
    assert "options.devices: 2 there, 1 here" in refused()
    for name in ("accelerator", "evaluated_on"):
        assert f'options.{name}: "cuda" there, "cpu" here' in refused(devices=2)


def test_a_supernet_in_half_precision(tmp_path: Path) -> None:
    """Its convolutions are rounded, its weights are not, and it is resumed with the same bits."""
    net, states = spec(2), {}
    for name, machine in (("half", HALF), ("single", ONE)):
        (tmp_path / name).mkdir()
        made = supernet(net, machine, torch.float32)
        made.train(tmp_path / name, lambda _: None, process_group(machine))
        states[name] = state(made)
    half, single = states["half"], states["single"]
    assert all(value.dtype == single[name].dtype for name, value in half.items())
    assert not torch.equal(half["conv1.weight"], single["conv1.weight"])
    # Some digits are lost, and a few of the spikes are others then.
    far = (half["conv1.weight"] - single["conv1.weight"]).norm() / single["conv1.weight"].norm()
    assert far < 0.5
    stopped = supernet(net, HALF, torch.float32)
    (tmp_path / "again").mkdir()
    next(stopped.epochs(tmp_path / "again", process_group(HALF)))
    resumed = supernet(net, HALF, torch.float32)
    resumed.train(tmp_path / "again", lambda _: None, process_group(HALF))
    assert all(torch.equal(value, half[name]) for name, value in state(resumed).items())


def test_precisions_that_a_search_does_not_have() -> None:
    with pytest.raises(SearchError, match=r"cannot train in the precision `16-mixed`[\s\S]*`bf16-mixed`"):
        Options(precision="16-mixed")


def test_a_checkpoint_of_other_devices_is_refused(tmp_path: Path) -> None:
    net = spec(1)
    supernet(net, ONE).train(tmp_path, lambda _: None)
    supernet(net, ONE).take(tmp_path)
    for machine in (TWO, training.Options("cuda"), HALF):
        with pytest.raises(RunError) as caught:
            supernet(net, machine).take(tmp_path)
        assert caught.value.code == "E085"


@pytest.mark.parametrize(
    ("options", "batch", "code", "says"),
    [
        (Options(accelerator="tpu"), 131, "E041", "one of cpu, cuda, mps, auto"),
        (Options(accelerator="cuda", devices=1000), 2000, "E074", "does not have 1000 devices of the kind `cuda`"),
        (Options(devices=2), 3, "E041", "a batch of 3 cannot be computed in 2 parts"),
        (Options(accelerator="mps", precision="bf16-mixed"), 131, "E074", "of the kind `mps`"),
    ],
    ids=["unknown", "too many", "too small a batch", "not there"],
)
def test_devices_that_cannot_be_had(tmp_path: Path, options: Options, batch: int, code: str, says: str) -> None:
    with pytest.raises(BcgraphError) as caught:
        run(spec(1, batch), tmp_path / "run", options=options)
    assert caught.value.code == code
    assert says in str(caught.value)
    assert not (tmp_path / "run").exists(), "found out about before anything is computed or written"


def test_auto_takes_what_there_is(tmp_path: Path) -> None:
    there = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    assert devices.settled(spec(1), tmp_path, training.Options("auto")) == training.Options(there)
    # Once the supernet is trained, the search goes on anywhere.
    (tmp_path / WEIGHTS).touch()
    assert devices.settled(spec(1), tmp_path, training.Options("cuda", 1000)).devices == 1000


def test_a_gpu_evaluates_unless_workers_do(tmp_path: Path) -> None:
    assert Options(accelerator="cuda").device == "cuda"
    assert Options(accelerator="cuda", workers=2).device == "cpu"
    assert Options(devices=2).device == Options(accelerator="mps").device == "cpu"
    (tmp_path / WEIGHTS).touch()
    if not torch.cuda.is_available():
        with pytest.raises(RunError) as caught:
            devices.settled(spec(1), tmp_path, training.Options("cuda"), evaluates=True)
        assert caught.value.code == "E074"


@pytest.mark.parametrize(("accelerator", "code"), [("tpu", "E041"), ("mps", "E074"), ("cuda", "E074")])
def test_what_cannot_evaluate(accelerator: str, code: str) -> None:
    if accelerator == "cuda" and torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(RunError) as caught:
        devices.evaluator(accelerator)
    assert caught.value.code == code


def test_what_evaluates() -> None:
    assert devices.evaluator("cpu") == "cpu"
    assert devices.evaluator("auto") == ("cuda" if torch.cuda.is_available() else "cpu")

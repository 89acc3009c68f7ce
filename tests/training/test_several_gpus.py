"""CUDA graphs of a train step that two processes share, on an imitation of two GPUs.

Both processes start once, for all tests. What each of them finds is sent to the test; in the imitation they exchange
tensors by gloo. A check that one of them fails ends both, and one that waits for ever does after some minutes.
"""

from __future__ import annotations

import faulthandler
import os
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from bcgraph import compiler, dsl, training, weights
from bcgraph.data.split import Split
from bcgraph.errors import BcgraphError, BcgraphWarning, DataError, RunError
from bcgraph.nn.graphs.capture import CudaCapture, Run
from bcgraph.nn.graphs.recordings import Recordings
from bcgraph.training.batches import Batch
from bcgraph.training.checkpoint import collect
from bcgraph.training.distributed import launcher, local
from bcgraph.training.distributed.devices import process_group
from bcgraph.training.distributed.sync_batch_norm import synchronize
from bcgraph.training.ema import EMA
from bcgraph.training.graphed_step import GraphedStep
from bcgraph.training.optimizers import optimizer
from bcgraph.training.options import Options
from bcgraph.training.session import TrainingRun
from bcgraph.training.train_step import TrainStep
from tests import forked
from tests.imitated_gpu import State, gpus
from tests.training import captured as steps
from tests.training.test_on_a_gpu import TEXT, StoppedError

pytestmark = pytest.mark.slow

LIMIT = 480
"""Seconds after which processes that wait for each other are ended."""

ADAMW = "loss = tet; optimizer = adamw(lr=0.01, weight_decay=0.1); clip = 0.5; accumulate = 2; ema = 0.9"
SGD = "optimizer = sgd(lr=0.1, momentum=0.9)"

# Shares of 7 are 3 and 4, of which the second alone could be computed in two parts.
SIZES = (8, 8, 7, 7, 8, 7, 8, 7)
ITEMS = 2 * 8 + 7


def rank() -> int:
    return int(os.environ["LOCAL_RANK"])


def trained(
    train: str, kind: str, sizes: tuple[int, ...] = SIZES, *, precision: Any = "32", graphs: Any = "on"
) -> tuple[dict[str, Tensor], list[float], list[int]]:
    """All that training changes, in each process, its losses and counts of correct samples.

    `kind` is `captured`, or `plain`: by torch's DistributedDataParallel, as without graphs.
    """
    network = dsl.parse(TEXT.format(train=train, dropout=0.2))
    options = Options("cuda", devices=2, graphs=graphs, precision=precision)
    group = process_group(options, captured=kind == "captured")
    model = compiler.compile(network, dtype=options.dtype, device=group.device).train()
    # A weight that does not learn.
    next(model.parameters()).requires_grad_(train is ADAMW)
    synchronize(model)
    # All begin with the weights and running statistics of the first.
    with torch.no_grad():
        for value in (*model.parameters(), *model.buffers()):
            value.add_(rank())
    update = optimizer(model, network.train.optimizer, captured=True)
    wrapped, own = group.setup(model, update)
    average = EMA(model, network.train.ema)
    step: TrainStep | GraphedStep
    step = TrainStep(network, network.train, group, wrapped, own, options.dtype)
    with ExitStack() as stack:
        if kind == "captured":
            # As many as others leave: these processes keep their own.
            step = GraphedStep(step, model, update, average, Recordings(CudaCapture(), 1), graphs)
            stack.enter_context(step.released())
        losses, correct = [], []
        for number, size in enumerate(sizes):
            torch.manual_seed(2 * number + rank())
            whole = steps.batch(size, number)
            mine = slice(size * rank() // 2, size * (rank() + 1) // 2)
            result = step(Batch(whole.x[mine], whole.y[mine], size), 0.01 / (1 + number))
            if not step.updates_average:
                average.update()
            losses.append(float(result.loss))
            correct.append(int(result.correct))
    return {**collect(model, update), **average.tensors()}, losses, correct


def assert_same(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        assert torch.equal(ours[name].cpu(), value.cpu()), name


def assert_same_everywhere(tensors: dict[str, Tensor]) -> None:
    for name, value in tensors.items():
        first = value.detach().cpu().clone().reshape(-1).contiguous()
        dist.broadcast(first, 0)
        assert torch.equal(first, value.detach().cpu().reshape(-1)), name


def steps_are_those_of_plain_ones(gpu: State, _: Path) -> None:
    for train, precision in ((ADAMW, "32"), (SGD, "bf16-mixed")):
        before = gpu.replays
        ours, losses, correct = trained(train, "captured", precision=precision)
        # Two comparisons of each kind, and all that comes after the first.
        assert gpu.replays == before + 2 * (2 + 3)
        theirs, wanted, counts = trained(train, "plain", precision=precision)
        assert (losses, correct) == (wanted, counts)
        assert_same(ours, theirs)
        assert_same_everywhere(ours)


@contextmanager
def failing_in_one(kind: str) -> Iterator[None]:
    """In the second process a capture, or its replay, is not right."""
    record, update = CudaCapture.record, EMA.update

    def recorded(self: CudaCapture, run: Run, device: torch.device) -> Run:
        replay = record(self, run, device)
        return lambda: tuple(output + 1 for output in replay())

    def updated(self: EMA) -> None:
        update(self)
        if torch.cuda.is_current_stream_capturing():
            float(next(iter(self.values.values())).sum())

    changes = {"capture": (EMA, "update", updated), "replay": (CudaCapture, "record", recorded)}
    with mock.patch.object(*changes[kind]) if rank() == 1 else ExitStack():
        yield


SAID = {
    "capture": "CUDA error: operation not permitted when stream is capturing (in process 2 of 2)",
    "replay": "a replay gives other numbers than a plain call (in process 2 of 2)",
}


def a_failure_in_one_process_makes_all_run_plain(_: State, __: Path) -> None:
    # The capture of a kind of batches fails at its second call, or is compared there.
    sizes = (8, 7, 8, 7)
    theirs, wanted, _counts = trained(ADAMW, "plain", sizes)
    for kind, said in SAID.items():
        with failing_in_one(kind), warnings.catch_warnings(record=True, action="always") as found:
            ours, losses, _counts = trained(ADAMW, "captured", sizes, graphs="auto")
        told = [str(each.message) for each in found if isinstance(each.message, BcgraphWarning)]
        # For each kind of batches.
        assert told == [f"the train step runs without CUDA graphs: {said}"] * 2
        assert losses == wanted
        assert_same(ours, theirs)
        assert_same_everywhere(ours)


class Items:
    """A data set."""

    def __init__(self) -> None:
        self.x = torch.rand((ITEMS, 1, 8, 8), generator=torch.Generator().manual_seed(0))

    def __len__(self) -> int:
        return ITEMS

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.x[index], index % 10


def run(out: Path, graphs: Any = "on", epochs: int = 4) -> None:
    network = dsl.parse(TEXT.format(train=f"epochs = {epochs}; mixup = 0.4; {ADAMW}", dropout=0.2))
    items = Items()
    training.train(network, items, items, out=out, options=Options("cuda", devices=2, graphs=graphs))


def a_run_is_that_of_plain_steps_stopped_or_not(gpu: State, folder: Path) -> None:
    epoch = TrainingRun._epoch
    done: list[int] = []

    def stopping(self: TrainingRun, number: int, *others: Any) -> Any:
        if number == 2 and not done:
            done.append(number)
            raise StoppedError
        return epoch(self, number, *others)

    with mock.patch.object(CudaCapture, "takes", return_value=False):
        run(folder / "plain")
    assert not gpu.captures
    run(folder / "whole")
    assert gpu.replays
    with mock.patch.object(TrainingRun, "_epoch", stopping):
        with pytest.raises(StoppedError):
            run(folder / "parts")
        run(folder / "parts")
    assert done
    dist.barrier()
    wanted = weights.unpack(folder / "plain" / "state.safetensors")
    for name in ("whole", "parts"):
        tensors, described = weights.unpack(folder / name / "state.safetensors")
        assert_same(tensors, wanted[0])
        ours, theirs = ([{**each, "seconds": 0} for each in d["history"]] for d in (described, wanted[1]))
        assert ours == theirs
        assert_same(*(weights.load(folder / each / "last.safetensors") for each in (name, "plain")))


def with_auto_a_run_is_the_plain_one(gpu: State, folder: Path) -> None:
    said = "2 processes exchange their gradients in it, which only `--graphs on` captures"
    with warnings.catch_warnings(record=True, action="always") as found:
        for graphs in ("auto", "off"):
            run(folder / graphs, graphs, 1)
    told = [str(each.message) for each in found if "CUDA graphs" in str(each.message)]
    assert told == [f"the train step runs without CUDA graphs: {said}"] * (rank() == 0)
    dist.barrier()
    assert_same(*(weights.unpack(folder / each / "state.safetensors")[0] for each in ("auto", "off")))
    assert not gpu.captures


def refused(kind: str) -> Callable[[State, Path], None]:
    def check(_: State, folder: Path) -> None:
        with failing_in_one(kind), pytest.raises(RunError) as caught:
            run(folder)
        assert caught.value.code == "E074"
        assert caught.value.diagnostics[0].message == f"the train step cannot run as a CUDA graph: {SAID[kind]}"
        assert not dist.is_initialized()

    return check


def an_error_of_reading_ends_all(gpu: State, folder: Path) -> None:
    take = Split.take
    shares: list[int] = []

    def taken(self: Split, indices: Any, *others: Any) -> Any:
        # An evaluation takes more.
        if len(indices) <= 4:
            shares.append(len(indices))
            # In the last epoch, when both kinds of batches are replayed. What is mixed are two shares a batch.
            if rank() == 1 and len(shares) > 2 * 3 * 3:
                raise DataError("E081", "an item is gone")
        return take(self, indices, *others)

    with mock.patch.object(Split, "take", taken), pytest.raises(DataError, match="an item is gone"):
        run(folder)
    assert len(shares) > 2 * 3 * 3
    assert gpu.replays
    assert not dist.is_initialized()


CHECKS: dict[str, Callable[[State, Path], None]] = {
    "a run is that of plain steps, stopped or not": a_run_is_that_of_plain_steps_stopped_or_not,
    "with auto a run is the plain one": with_auto_a_run_is_the_plain_one,
    "steps are those of plain ones": steps_are_those_of_plain_ones,
    "a failure in one process makes all run plain": a_failure_in_one_process_makes_all_run_plain,
    "a capture that fails in one process is one error in all": refused("capture"),
    "a replay that differs in one process is one error in all": refused("replay"),
    "an error of reading ends all": an_error_of_reading_ends_all,
}


@dataclass(frozen=True)
class Target:
    """All checks, in each process; sends what has gone wrong in each."""

    folder: Path

    def __call__(self, send: launcher.Send) -> None:
        faulthandler.dump_traceback_later(LIMIT, exit=True)
        for number, (name, check) in enumerate(CHECKS.items()):
            if not dist.is_initialized():
                os.environ[local.STORE] = str(self.folder / f"store{number}")
            try:
                with gpus(2) as gpu:
                    check(gpu, self.folder / str(number))
            # Also what ends a test.
            except BaseException:
                send((name, traceback.format_exc()))
                raise
            send((name, None))


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str | None]]:
    told: dict[str, list[str | None]] = {}
    with forked.launched(), pytest.MonkeyPatch.context() as patched:
        patched.delenv("MASTER_ADDR", raising=False)
        try:
            target = Target(tmp_path_factory.mktemp("two"))
            launcher.run(target, 2, lambda each: told.setdefault(each[0], []).append(each[1]))
        except (RuntimeError, BcgraphError) as error:
            told["the end"] = [str(error)]
    return told


@pytest.mark.parametrize("name", CHECKS)
def test_two_processes(found: dict[str, list[str | None]], name: str) -> None:
    assert found.get(name) == [None, None], "\n".join(filter(None, chain(*found.values())))

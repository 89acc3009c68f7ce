"""Captured calls do what plain calls do, from the first on, and leave the same state.

Here a capture calls again, so that all around it runs without a GPU; `tests/test_cuda.py` has real captures.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from unittest import mock

import pytest
import torch
from torch import Tensor, nn

from bcgraph import compiler, dsl, schema
from bcgraph.errors import BcgraphWarning, RunError
from bcgraph.nn.graphs.capture import CallAgain, CudaCapture, Run
from bcgraph.nn.graphs.graphed import COMPARED, WARM_UPS, Graphed
from bcgraph.nn.graphs.module import GraphedCall, captured
from bcgraph.nn.graphs.recordings import Recordings
from bcgraph.training.distributed.devices import process_group
from bcgraph.training.ema import EMA
from bcgraph.training.graphed_step import GraphedStep, captures
from bcgraph.training.optimizers import optimizer
from bcgraph.training.options import Options
from bcgraph.training.train_step import TrainStep
from tests.training import captured as steps
from tests.training.captured import batch

TEXT = """
bcg 1
network five {{
  input = image(1, 8, 8); steps = 2; backbone = tiny(width=4, classes=10); neuron = plif()
  backward @2 -> @1
}}
data = digits(batch=8)
train {{ loss = tet; epochs = 2; clip = 0.5; accumulate = 2; ema = 0.9; optimizer = {optimizer} }}
"""


def spec(optimizer: str = "adamw(lr=0.01, weight_decay=0.1)") -> schema.NetworkSpec:
    return dsl.parse(TEXT.format(optimizer=optimizer))


def trained(network: schema.NetworkSpec, capture: CallAgain | None) -> tuple[dict[str, Tensor], list[float], list[int]]:
    """See `captured.trained`."""
    return steps.trained(network, Options(precision="64"), capture, capturable=capture is not None)


@pytest.mark.parametrize("call", ["adamw(lr=0.01, weight_decay=0.1)", "sgd(lr=0.1, momentum=0.9)", "sgd(lr=0.1)"])
def test_a_captured_train_step_trains_as_a_plain_one(call: str) -> None:
    network = spec(call)
    ours, losses, correct = trained(network, CallAgain())
    theirs, wanted, counts = trained(network, None)
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, rtol=1e-12, atol=1e-14, msg=name)
    assert losses == pytest.approx(wanted, rel=1e-12)
    assert correct == counts


class Counted:
    """A call with a buffer, a generator and a count of how often it ran."""

    def __init__(self) -> None:
        self.buffer = torch.zeros(3, dtype=torch.float64)
        self.late: list[Tensor] = []
        self.calls = 0

    def run(self, x: Tensor) -> tuple[Tensor, ...]:
        self.calls += 1
        self.buffer.mul_(0.5).add_(x)
        if not self.late:
            self.late.append(torch.zeros_like(x))
        self.late[0].add_(1)
        return (self.buffer + torch.rand(3, dtype=torch.float64), self.late[0] * 1)

    def state(self) -> list[Tensor]:
        return [self.buffer, *self.late]


def test_warm_ups_leave_nothing_behind() -> None:
    ours, theirs = Counted(), Counted()
    graphed = Graphed(ours.run, ours.state, Recordings(CallAgain()), "a call")
    for seed in range(5):
        x = torch.full((3,), float(seed), dtype=torch.float64)
        torch.manual_seed(seed)
        given = graphed("key", x)
        after = torch.rand(1)
        torch.manual_seed(seed)
        wanted = theirs.run(x)
        assert torch.equal(after, torch.rand(1))
        for a, b in zip((*given, *ours.state()), (*wanted, *theirs.state()), strict=True):
            assert torch.equal(a, b)
    assert ours.calls == 5 + WARM_UPS + 3 * COMPARED


def test_results_belong_to_the_caller() -> None:
    graphed = Graphed(lambda x: (x,), list, Recordings(CallAgain()), "a call")
    graphed("", torch.zeros(2))
    first = graphed("", torch.zeros(2))[0]
    graphed("", torch.ones(2))
    assert torch.equal(first, torch.zeros(2))


def test_each_kind_of_call_is_captured_once_and_few_are_kept() -> None:
    counted = Counted()
    recordings = Recordings(CallAgain(), limit=3)
    graphed = Graphed(lambda x: (x * 2,), counted.state, recordings, "a call")
    x = torch.zeros(4, 4, 2, 2)
    kinds: list[Callable[[], object]] = [
        lambda: graphed("a", x),
        lambda: graphed("b", x),
        lambda: graphed("a", x[:2]),
        lambda: graphed("a", x.double()),
        lambda: graphed("a", x.contiguous(memory_format=torch.channels_last)),
    ]
    for number, kind in enumerate(kinds):
        kind()
        held = recordings.of(graphed.number)
        kind()
        assert recordings.of(graphed.number) == held
        assert len(held) == min(number + 1, 3)
    with torch.no_grad():
        graphed("a", x)
    with torch.autocast("cpu"):
        graphed("a", x)
    assert len(recordings) == 3
    other = Graphed(lambda x: (x + 2,), list, recordings, "another call")
    other("a", x)
    assert (len(recordings.of(other.number)), len(recordings)) == (1, 3)


def test_a_program_takes_its_captures_with_it() -> None:
    class Elsewhere(CallAgain):
        def record(self, run: Run, device: torch.device) -> Run:
            outputs = run()
            return lambda: outputs

    recordings = Recordings(Elsewhere())
    kept, dropped = (Graphed(lambda x: (x * 2,), list, recordings, "a call") for _ in range(2))
    for _ in range(2):
        kept("", torch.ones(2))
        dropped("", torch.ones(2))
    assert len(recordings) == 2
    del dropped
    assert len(recordings) == len(recordings.of(kept.number)) == 1


class Broken(CallAgain):
    def record(self, run: Run, device: torch.device) -> Run:
        raise RuntimeError("operation not permitted when stream is capturing\nmore")


class BrokenLater(CallAgain):
    def record(self, run: Run, device: torch.device) -> Run:
        def replay() -> tuple[Tensor, ...]:
            run()
            raise RuntimeError("an illegal memory access\nmore")

        return replay


class Wrong(CallAgain):
    def record(self, run: Run, device: torch.device) -> Run:
        return lambda: tuple(output + 1 for output in run())


class Twice(CallAgain):
    """Changes the state twice, as a capture whose warm-ups were not taken back."""

    def record(self, run: Run, device: torch.device) -> Run:
        return lambda: (run(), run())[0]


class Baked(CallAgain):
    """Gives what the first inputs gave, as a capture that has taken a number for a constant."""

    def record(self, run: Run, device: torch.device) -> Run:
        first: list[tuple[Tensor, ...]] = []

        def replay() -> tuple[Tensor, ...]:
            outputs = run()
            first.extend([tuple(o.clone() for o in outputs)] if not first else [])
            return first[0]

        return replay


@pytest.mark.parametrize(
    ("capture", "said"),
    [
        (Broken(), "not permitted when"),
        (BrokenLater(), "an illegal memory access"),
        (Wrong(), "gives other numbers"),
        (Twice(), "leaves other numbers|gives other numbers"),
        (Baked(), "gives other numbers"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, CallAgain) else "",
)
def test_a_failed_capture_is_said_once_and_the_call_runs_plain(capture: CallAgain, said: str) -> None:
    ours, theirs = Counted(), Counted()
    graphed = Graphed(ours.run, ours.state, Recordings(capture), "a call")
    for seed in range(5):
        x = torch.full((3,), float(seed), dtype=torch.float64)
        torch.manual_seed(seed)
        if seed == (2 if isinstance(capture, Baked) else 1):
            with pytest.warns(BcgraphWarning, match=said):
                given = graphed("", x)
        else:
            with warnings.catch_warnings(action="error"):
                given = graphed("", x)
        torch.manual_seed(seed)
        for a, b in zip((*given, *ours.state()), (*theirs.run(x), *theirs.state()), strict=True):
            assert torch.equal(a, b)


@contextmanager
def counting(module: nn.Module) -> Iterator[list[int]]:
    calls: list[int] = []
    original = module._call_impl

    def call(*inputs: Tensor) -> object:
        calls.append(1)
        return original(*inputs)

    module._compiled_call_impl = GraphedCall(module, call, Recordings(CallAgain()))  # type: ignore[assignment]
    yield calls


@pytest.mark.parametrize("schedule", ["unrolled", "step"])
def test_a_captured_network_computes_what_a_plain_one_does(schedule: str) -> None:
    network = spec()
    plain = compiler.compile(network, schedule, dtype=torch.float64)
    model = compiler.compile(network, schedule, dtype=torch.float64)
    with counting(model) as calls, torch.no_grad():
        for seed, (size, training) in enumerate([(4, False), (4, True), (3, True)] + 2 * [(4, True), (4, False)]):
            x = torch.rand((size, 1, 8, 8), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
            inputs = (x, *plain.initial_states(x)) if schedule == "step" else (x,)
            given, wanted = (m.train(training)(*inputs) for m in (model, plain))
            flat = (given, wanted) if schedule == "step" else ((given,), (wanted,))
            for a, b in zip(*flat, strict=True):
                assert torch.equal(a, b)
            for name, value in plain.state_dict().items():
                assert torch.equal(model.state_dict()[name], value)
        before = len(calls)
        model(*inputs)
        assert len(calls) == before + 1, "replayed"
        model.double().load_state_dict({k: v.clone() for k, v in plain.state_dict().items()}, assign=True)
        model(*inputs)
        model(*inputs)
        assert len(calls) == before + 3 + WARM_UPS + 3, "weights in other places are captured anew"
        looked: list[int] = []
        model.get_submodule("conv1").register_forward_hook(lambda *_: looked.append(1))
        before = len(calls)
        model(*inputs)
        model(*inputs)
        assert (len(calls) - before, len(looked)) == (2, 2), "a network with hooks runs plain"


class WithoutAverage(CallAgain):
    """Leaves out what a step of an average with a decay of 0.9999 changes: next to nothing."""

    def __init__(self) -> None:
        self.average: EMA | None = None

    def record(self, run: Run, device: torch.device) -> Run:
        def replay() -> tuple[Tensor, ...]:
            assert self.average is not None
            before = [value.clone() for value in self.average.values.values()]
            outputs = run()
            for value, old in zip(self.average.values.values(), before, strict=True):
                value.copy_(old)
            return outputs

        return replay


def test_a_step_that_leaves_out_an_average_is_found() -> None:
    network = dsl.parse(TEXT.format(optimizer="sgd(lr=0.001)").replace("ema = 0.9", "ema = 0.9999"))
    group = process_group(Options())
    model = compiler.compile(network).train()
    update = optimizer(model, network.train.optimizer, captured=True)
    wrapped, own = group.setup(model, update)
    capture = WithoutAverage()
    average = capture.average = EMA(model, 0.9999)
    plain = TrainStep(network, network.train, group, wrapped, own, torch.float32)
    step = GraphedStep(plain, model, update, average, Recordings(capture))
    step(batch(8, 0), 0.001)
    with pytest.warns(BcgraphWarning, match="the train step runs without CUDA graphs: a replay leaves other numbers"):
        step(batch(8, 1), 0.001)


def test_a_call_that_two_plain_calls_give_otherwise_may_differ_as_much() -> None:
    class Noisy(Counted):
        """Adds in any order: the last bits of a step are others each time."""

        def run(self, x: Tensor) -> tuple[Tensor, ...]:
            self.calls += 1
            self.buffer.add_(x * (1 + 1e-6 * (self.calls % 3)))
            return (self.buffer.sum(),)

    noisy = Noisy()
    graphed = Graphed(noisy.run, noisy.state, Recordings(CallAgain()), "a call")
    with warnings.catch_warnings(action="error"):
        for _ in range(4):
            graphed("", torch.ones(3, dtype=torch.float64))

    class Still(CallAgain):
        def record(self, run: Run, device: torch.device) -> Run:
            return lambda: (noisy.buffer.sum(),)

    graphed = Graphed(noisy.run, noisy.state, Recordings(Still()), "a call")
    graphed("", torch.ones(3, dtype=torch.float64))
    with pytest.warns(BcgraphWarning, match="other numbers"):
        graphed("", torch.ones(3, dtype=torch.float64))


def test_where_captures_are_asked_for_a_failed_one_is_an_error() -> None:
    counted = Counted()
    graphed = Graphed(counted.run, counted.state, Recordings(Broken()), "a call", required=True)
    x = torch.ones(3, dtype=torch.float64)
    graphed("", x)
    with pytest.raises(RunError, match="a call cannot run as a CUDA graph: operation not permitted") as caught:
        graphed("", x)
    assert caught.value.code == "E074"


def test_which_steps_are_captured() -> None:
    gpu, cpu = torch.device("cuda"), torch.device("cpu")
    auto = Options()
    assert captures(auto, gpu)
    assert not captures(replace(auto, graphs="off"), gpu)
    with warnings.catch_warnings(action="error"):
        assert not captures(auto, cpu), "nobody expects a capture there"
        assert not captures(replace(auto, devices=2), gpu, tells=False)
    for other, said in (
        (replace(auto, devices=2), "2 processes exchange their gradients"),
        (replace(auto, precision="16-mixed"), "gradient scaler"),
    ):
        with pytest.warns(BcgraphWarning, match=said):
            assert not captures(other, gpu)
        with pytest.raises(RunError, match=said):
            captures(replace(other, graphs="on"), gpu)
    with pytest.raises(RunError, match="there is no GPU"):
        captures(replace(auto, graphs="on"), cpu)


def test_several_processes_capture_where_it_is_asked_for() -> None:
    gpu, cpu = torch.device("cuda"), torch.device("cpu")
    auto = Options(devices=2)
    with pytest.warns(BcgraphWarning, match="in it, which only `--graphs on` captures"):
        assert not captures(auto, gpu, exchanges=True)
    with warnings.catch_warnings(action="error"):
        assert not captures(auto, gpu, tells=False, exchanges=True)
        assert captures(replace(auto, graphs="on"), gpu, exchanges=True)
    for other, device, said in (
        (replace(auto, precision="16-mixed"), gpu, "gradient scaler"),
        (auto, cpu, "there is no GPU"),
    ):
        with pytest.raises(RunError, match=said):
            captures(replace(other, graphs="on"), device, exchanges=True)


def test_a_capture_that_another_process_has_not_is_given_up() -> None:
    """Before and after each step that one process may fail in, all are asked."""
    counted = Counted()
    for said in range(6):
        asked: list[str | None] = []

        def agreed(wrong: str | None, failing: int = said, asked: list[str | None] = asked) -> str | None:
            asked.append(wrong)
            return "no room (in process 2 of 2)" if len(asked) == failing + 1 else wrong

        graphed = Graphed(counted.run, counted.state, Recordings(CallAgain()), "a call", agreed=agreed)
        x = torch.ones(3, dtype=torch.float64)
        graphed("", x)
        assert not asked
        with warnings.catch_warnings(record=True, action="always") as found:
            graphed("", x)
            graphed("", x)
        told = [str(each.message) for each in found]
        assert told == ["a call runs without CUDA graphs: no room (in process 2 of 2)"]
        before = len(asked)
        assert before == said + 1
        graphed("", x)
        assert asked == [None] * before


def test_what_one_process_is_set_to_decides_nothing_for_several() -> None:
    counted = Counted()
    recordings = Recordings(CallAgain())
    graphed = Graphed(counted.run, counted.state, recordings, "a call", agreed=lambda wrong: wrong)
    x = torch.ones(3, dtype=torch.float64)
    for _ in range(3):
        graphed("", x)
    with torch.no_grad():
        graphed("", x)
    assert len(recordings) == 1
    graphed.release()
    assert not len(recordings)


@pytest.mark.parametrize("required", [False, True])
def test_a_call_that_fails_while_others_wait_for_it_is_not_agreed_upon(required: bool) -> None:
    counted = Counted()
    asked: list[str | None] = []

    def run(x: Tensor, *, failing: int) -> tuple[Tensor, ...]:
        if counted.calls == failing:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return counted.run(x)

    def agreed(wrong: str | None) -> str | None:
        asked.append(wrong)
        return wrong

    x = torch.ones(3, dtype=torch.float64)
    # The first warm-up, the first of two plain calls, and the replay.
    for failing, times in ((1, 1), (1 + WARM_UPS, 3), (1 + WARM_UPS + 2, 3)):
        counted.calls = 0
        asked.clear()
        called, recordings = partial(run, failing=failing), Recordings(CallAgain())
        graphed = Graphed(called, counted.state, recordings, "a call", required=required, agreed=agreed)
        graphed("", x)
        with pytest.raises(RunError if required else torch.OutOfMemoryError, match="out of memory"):
            graphed("", x)
        assert asked == [None] * times


@pytest.mark.parametrize("name", ["Kept", "flaw"])
def test_a_check_for_which_there_is_no_room(name: str) -> None:
    counted = Counted()
    graphed = Graphed(counted.run, counted.state, Recordings(CallAgain()), "a call")
    x = torch.ones(3, dtype=torch.float64)
    graphed("", x)
    full = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
    with mock.patch(f"bcgraph.nn.graphs.graphed.{name}", side_effect=full):
        with pytest.warns(BcgraphWarning, match="a call runs without CUDA graphs: CUDA out of memory"):
            graphed("", x)
        graphed("", x)
    assert counted.late[0].tolist() == [3, 3, 3]


def test_a_replay_that_gives_no_number_where_a_plain_call_does_not_is_right() -> None:
    """A loss that is nan is told by its own error."""
    state = torch.ones(3, dtype=torch.float64)

    def run(x: Tensor) -> tuple[Tensor, ...]:
        state.mul_(x)
        return (state.sum() / 0 - state.sum() / 0, state * 1)

    graphed = Graphed(run, lambda: [state], Recordings(CallAgain()), "a call", required=True)
    for _ in range(4):
        found = graphed("", torch.tensor([1.0, torch.nan, torch.inf], dtype=torch.float64))
        assert found[0].isnan()
    wrong = Graphed(run, lambda: [state], Recordings(Wrong()), "a call")
    state.fill_(1)
    wrong("", torch.ones(3, dtype=torch.float64))
    with pytest.warns(BcgraphWarning, match="gives other numbers"):
        wrong("", torch.ones(3, dtype=torch.float64))


def test_off_a_gpu_graphs_change_nothing() -> None:
    assert not CudaCapture().takes(torch.device("cpu"))
    model = compiler.compile(spec(), graphs=True)
    x = torch.rand(2, 1, 8, 8)
    with torch.no_grad():
        assert torch.equal(model.eval()(x), compiler.compile(spec()).eval()(x))
    assert captured(model, "auto", torch.device("cpu")) is model

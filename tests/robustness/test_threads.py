"""Two calls at a time, from two threads or one in the middle of the other, give what each gives alone."""

from __future__ import annotations

import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
import torch
from torch import Tensor, nn

import bcgraph
from bcgraph import data, process, schema
from bcgraph.data import generators
from bcgraph.errors import RunError
from bcgraph.nn import defaults, determinism
from bcgraph.nn.conv import onednn
from bcgraph.nn.graphs.capture import CallAgain
from bcgraph.nn.graphs.graphed import Graphed
from bcgraph.nn.graphs.recordings import Recordings
from bcgraph.nn.transforms import traced
from bcgraph.search.evaluators import OnThreads
from bcgraph.search.supernet.supernet import Supernet
from bcgraph.training import Event, Options, train
from bcgraph.training.accuracy import evaluating
from bcgraph.training.distributed.devices import one_at_a_time
from bcgraph.viz.arcs import STYLE
from bcgraph.viz.styled import styled
from bcgraph.weights import load

SOON = 0.3
"""Seconds after which a thread that does not come is taken to wait."""

TEXT = """bcg 1
block small() {
  conv = conv(4, 3, padding=1); bn = bn(); lif = lif(); drop = dropout(0.5); flatten(); fc = linear(10)
}
network n { input = image(1, 8, 8); steps = 3; backbone = small(); backward lif -> lif }
data = digits(batch=400)
train { epochs = 1 }
"""


@pytest.fixture
def two() -> Iterator[tuple[ThreadPoolExecutor, ThreadPoolExecutor]]:
    with ThreadPoolExecutor(1) as first, ThreadPoolExecutor(1) as second:
        yield first, second


Threads = tuple[ThreadPoolExecutor, ThreadPoolExecutor]

MODEL = nn.Sequential(nn.Dropout(), nn.Linear(2, 2))


def get(of: Any, name: str) -> Callable[[], Any]:
    return lambda: getattr(of, name)


OVERLAPPING: dict[str, tuple[Callable[[], AbstractContextManager[Any]], Callable[[], Any]]] = {
    "default type": (defaults.ordinary_defaults, torch.get_default_dtype),
    "swapped parameters": (defaults.ordinary_modes, torch.__future__.get_swap_module_params_on_conversion),
    "deterministic": (determinism.reproducible, get(torch.backends.cudnn, "deterministic")),
    "benchmark": (determinism.reproducible, get(torch.backends.cudnn, "benchmark")),
    "convolutions": (determinism.full_precision, get(torch.backends.cudnn.conv, "fp32_precision")),
    "products": (determinism.full_precision, get(torch.backends.cuda.matmul, "fp32_precision")),
    "standard output": (process.printed_as_messages, get(sys, "stdout")),
    "modes of a network": (lambda: evaluating(MODEL), lambda: [m.training for m in MODEL.modules()]),
}


@pytest.fixture
def unusual() -> Iterator[None]:
    """Settings that differ from those that the blocks set."""
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    before = cudnn.benchmark, cudnn.conv.fp32_precision, matmul.fp32_precision
    torch.set_default_dtype(torch.float64)
    torch.__future__.set_swap_module_params_on_conversion(True)
    cudnn.benchmark, cudnn.conv.fp32_precision, matmul.fp32_precision = True, "tf32", "tf32"
    yield
    torch.set_default_dtype(torch.float32)
    torch.__future__.set_swap_module_params_on_conversion(False)
    cudnn.benchmark, cudnn.conv.fp32_precision, matmul.fp32_precision = before


@pytest.mark.parametrize("kind", OVERLAPPING)
@pytest.mark.usefixtures("unusual")
def test_a_setting_lasts_as_long_as_its_last_block(kind: str, two: Threads) -> None:
    make, read = OVERLAPPING[kind]
    before = read()
    stacks = ExitStack(), ExitStack()
    for thread, stack in zip(two, stacks, strict=True):
        thread.submit(stack.enter_context, make()).result()
    inside = read()
    assert inside != before
    two[0].submit(stacks[0].close).result()
    assert read() == inside
    two[1].submit(stacks[1].close).result()
    assert read() == before


TAKING_TURNS: dict[str, tuple[Callable[[], AbstractContextManager[Any]], Callable[[], Any]]] = {
    "matplotlib": (lambda: styled({**STYLE, "font.size": 99}), lambda: dict(mpl.rcParams)),
    "warnings": (lambda: process.ignored(ResourceWarning), lambda: list(warnings.filters)),
    "random numbers": (generators.restored, torch.get_rng_state),
}


@pytest.mark.parametrize("kind", TAKING_TURNS)
def test_blocks_that_take_turns_put_back_what_they_found(kind: str, two: Threads) -> None:
    make, read = TAKING_TURNS[kind]
    before = read()
    stacks = ExitStack(), ExitStack()
    two[0].submit(stacks[0].enter_context, make()).result()
    second = two[1].submit(stacks[1].enter_context, make())
    with pytest.raises(TimeoutError):
        second.result(SOON)
    two[0].submit(stacks[0].close).result()
    second.result()
    two[1].submit(stacks[1].close).result()
    after = read()
    assert torch.equal(after, before) if isinstance(after, Tensor) else after == before


def trained(out: Path, seed: int, progress: Callable[[Event], None] | None = None) -> dict[str, Tensor]:
    train(bcgraph.parse(TEXT), out=out, seed=seed, progress=progress)
    return load(out / "last.safetensors")


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def supernet(out: Path, seed: int) -> dict[str, Tensor]:
    spec = bcgraph.parse(f"{TEXT}\nsearch {{ supernet {{ epochs = 1 }} }}")
    out.mkdir()
    made = Supernet(spec, seed, data.load(spec.data, spec.input, spec.steps).train.subset(range(400)))
    made.train(out, lambda _: None)
    return {name: value.clone() for name, value in made.full.state_dict().items()}


@pytest.mark.parametrize("trained", [trained, supernet])
def test_two_threads_train_with_dropout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, two: Threads, trained: Callable[[Path, int], dict[str, Tensor]]
) -> None:
    """The second thread comes to its dropout while the first one is about to draw, or waits for its turn."""
    alone = [trained(tmp_path / f"alone{seed}", seed) for seed in range(2)]
    generator = torch.get_rng_state()
    dropout, drawn, futures = nn.functional.dropout, threading.Event(), []
    first = two[0].submit(threading.get_ident).result()

    def late(*given: Any, **named: Any) -> Tensor:
        if threading.get_ident() != first:
            drawn.set()
        elif not futures:
            futures.append(two[1].submit(trained, tmp_path / "second", 1))
            drawn.wait(2 * SOON)
        return dropout(*given, **named)

    monkeypatch.setattr(nn.functional, "dropout", late)
    assert same(two[0].submit(trained, tmp_path / "first", 0).result(), alone[0])
    assert same(futures[0].result(), alone[1])
    assert torch.equal(torch.get_rng_state(), generator)


def test_training_in_the_middle_of_training(tmp_path: Path) -> None:
    alone = [trained(tmp_path / f"alone{seed}", seed) for seed in range(2)]
    inner: list[dict[str, Tensor]] = []

    def progress(_: Event) -> None:
        inner.append(trained(tmp_path / f"inner{len(inner)}", 1))

    generator = torch.get_rng_state()
    assert same(trained(tmp_path / "outer", 0, progress), alone[0])
    assert len(inner) == 4  # three updates and an epoch
    assert all(same(each, alone[1]) for each in inner)
    assert torch.equal(torch.get_rng_state(), generator)


def test_several_devices_train_one_network_at_a_time(tmp_path: Path, two: Threads) -> None:
    """Each process runs the program by itself, and threads would begin in another order in each of them."""
    spec, both = bcgraph.parse(TEXT), Options(devices=2)
    error = two[0].submit(train, spec, out=tmp_path / "run", options=both).exception(60)
    assert isinstance(error, RunError)
    assert error.diagnostics[0].code == "E074"
    assert "in a thread" in str(error)
    with one_at_a_time(both), pytest.raises(RunError, match="in the middle of another"):
        train(spec, out=tmp_path / "run", options=both)
    with one_at_a_time(both), one_at_a_time(Options()):
        pass
    assert not (tmp_path / "run").exists()


class Items:
    """A dataset that draws, and calls `between` in the middle of an item."""

    between: Callable[[], object] = staticmethod(lambda: None)

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        first = torch.rand(1, 4, 4)
        self.between()
        return first + torch.rand(1, 4, 4) + float(np.random.random()), index % 2


def test_two_threads_read_items_that_draw(two: Threads) -> None:
    spec = bcgraph.parse(TEXT.replace("image(1, 8, 8)", "image(1, 4, 4)").replace("linear(10)", "linear(2)"))
    splits = [bcgraph.data.of(spec, (Items(), Items())).train for _ in range(2)]
    alone = [split.take([0, 1, 2, 3], seed)[0] for seed, split in enumerate(splits)]
    second: list[Any] = []

    def between() -> None:
        if not second:
            second.append(two[1].submit(splits[1].take, [0, 1, 2, 3], 1))
            with pytest.raises(TimeoutError):
                second[0].result(SOON)

    splits[0].part.samples.dataset.between = between
    assert torch.equal(splits[0].take([0, 1, 2, 3], 0)[0], alone[0])
    assert torch.equal(second[0].result()[0], alone[1])


def test_a_capture_waits_until_others_have_drawn(two: Threads) -> None:
    """A capture puts the generators back, which must not come between two draws of another thread."""
    inside, drawn = threading.Event(), threading.Event()

    def run(x: Tensor) -> tuple[Tensor, ...]:
        inside.set()
        drawn.wait(SOON)
        return (x + torch.rand(()),)

    def draws() -> list[Tensor]:
        with determinism.seeded(5, torch.device("cpu")):
            first = torch.rand(3)
            drawn.set()
            captured.result(2 * SOON) if not captured.running() else threading.Event().wait(2 * SOON)
            return [first, torch.rand(3)]

    with determinism.forked(5):
        wanted = [torch.rand(3), torch.rand(3)]
    graphed = Graphed(run, list, Recordings(CallAgain()), "a call")
    graphed("", torch.ones(2))
    inside.clear()
    captured = two[0].submit(graphed, "", torch.ones(2))
    assert inside.wait(10)
    found = two[1].submit(draws).result()
    assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))


def compiled(**options: Any) -> nn.Module:
    return bcgraph.compile(bcgraph.parse(TEXT), seed=0, **options)


def test_a_call_in_the_middle_of_a_recomputation(monkeypatch: pytest.MonkeyPatch, two: Threads) -> None:
    """In eval mode a module with `recompute` may be called while another call's backward pass runs it again."""
    model = compiled(recompute=True).eval()
    buffers = dict(model.named_buffers())
    x = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(0), requires_grad=True)
    (wanted,) = torch.autograd.grad(model(x).sum(), x)
    linear, between = nn.functional.linear, []

    def late(*given: Any) -> Tensor:
        monkeypatch.setattr(nn.functional, "linear", linear)
        between.append(two[1].submit(model, x).result())
        monkeypatch.setattr(nn.functional, "linear", late)
        return linear(*given)

    output = model(x).sum()
    monkeypatch.setattr(nn.functional, "linear", late)
    assert torch.equal(torch.autograd.grad(output, x)[0], wanted)
    monkeypatch.setattr(nn.functional, "linear", linear)
    assert between
    assert all(torch.equal(torch.autograd.grad(each.sum(), x)[0], wanted) for each in between)
    assert all(value is buffers[name] for name, value in model.named_buffers())


class Around(nn.Module):
    """A module that calls `between` in the middle of its forward pass."""

    def __init__(self, inner: nn.Module, between: Callable[[], object]) -> None:
        super().__init__()
        self.inner = inner
        self.between = between

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.inner(x)
        self.between()
        return result


def test_a_call_while_another_thread_exports(two: Threads) -> None:
    """Torch's flag for an export is one for all threads; our kernels run all the same.

    Torch itself does without oneDNN meanwhile, in all threads, so that sums round otherwise.
    """
    other = compiled()
    x = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))

    def called() -> list[Tensor]:
        other.zero_grad()
        output = other.eval()(x)
        output.sum().backward()
        return [output.detach(), *(p.grad.clone() for p in other.parameters() if p.grad is not None)]

    wanted = called()
    found: list[Any] = []
    seen: list[tuple[bool, bool, bool]] = []

    def between() -> None:
        if not found:
            found.append(two[1].submit(called).result())
            seen.append((traced(), torch.compiler.is_compiling(), two[1].submit(traced).result()))

    exported = torch.export.export(Around(compiled().eval(), between), (x,))
    assert seen == [(True, True, False)]
    assert all(torch.allclose(a, b, atol=1e-4) for a, b in zip(found[0], wanted, strict=True))
    assert torch.equal(exported.module()(x), compiled().eval()(x))


def test_two_threads_score_one_network(two: Threads) -> None:
    spec = bcgraph.parse(TEXT)
    model, x = bcgraph.compile(spec), torch.rand((20, 1, 8, 8), generator=torch.Generator().manual_seed(0))
    wanted = bcgraph.scores.n_score(model, x)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    other: list[Future[float]] = []
    begun, ended = threading.Event(), threading.Event()

    def overlap(*_: object) -> None:
        """The second call begins in the middle of the first, which ends in the middle of the second."""
        if threading.current_thread() is not threading.main_thread():
            begun.set()
            ended.wait(SOON)
        elif not other:
            other.append(two[0].submit(bcgraph.scores.n_score, model, x))
            begun.wait(SOON)

    model.get_submodule("conv").register_forward_hook(overlap)
    assert bcgraph.scores.n_score(model, x) == wanted
    ended.set()
    assert [each.result() for each in other] == [wanted]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.training


def test_two_threads_write_pt2_files(tmp_path: Path, two: Threads) -> None:
    spec = bcgraph.parse(TEXT)
    futures = [two[n].submit(bcgraph.export, spec, tmp_path / f"{n}.pt2") for n in range(2)]
    for future in futures:
        future.result()
    x = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    for n in range(2):
        assert torch.allclose(torch.export.load(tmp_path / f"{n}.pt2").module()(x), compiled().eval()(x), atol=1e-6)


def test_an_import_while_another_thread_calls_modules(two: Threads) -> None:
    """Torch calls the hooks of an import for the modules of all threads."""

    def module(between: Callable[[], object]) -> nn.Module:
        inner = nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU())
        return nn.Sequential(Around(inner, between), nn.Flatten(), nn.Linear(192, 10)).eval()

    def imported(between: Callable[[], object]) -> schema.NetworkSpec:
        return bcgraph.from_torch(module(between), torch.rand(1, 1, 8, 8), steps=2).spec

    inside, done = threading.Event(), threading.Event()
    stranger = nn.ReLU()
    # The hooks of the import come first, so they take this module for one that is running until the import is done.
    stranger.register_forward_pre_hook(lambda *_: (inside.set(), done.wait(10), None)[-1])
    called: list[Any] = []

    def between() -> None:
        if not called:
            called.append(two[1].submit(stranger, torch.ones(2)))
            assert inside.wait(10)

    try:
        assert imported(between) == imported(lambda: None)
    finally:
        done.set()
    assert torch.equal(called[0].result(), torch.ones(2))


class _Counted:
    """Stands for evaluators of a search, and says on how many threads it computes."""

    def finish(self, progress: object) -> Callable[[Any], Iterator[float]]:
        return lambda jobs: (float(torch.get_num_threads()) for _ in jobs)


def test_between_results_torch_has_its_own_number_of_threads() -> None:
    before = torch.get_num_threads()
    results = OnThreads(_Counted(), before + 1).finish(lambda _: None)([None] * 2)  # type: ignore[arg-type]
    assert next(results) == before + 1
    assert torch.get_num_threads() == before
    assert next(results) == before + 1
    assert torch.get_num_threads() == before


def test_networks_for_inference_are_used_by_eight_threads() -> None:
    """Luck, beside the tests above: threads change places as often as Python lets them."""
    options: list[dict[str, str]] = [{}, {"schedule": "folded"}, {"weights": "int16"}]
    models = [compiled(inference=True, **more) for more in options]
    xs = [torch.rand(n + 1, 1, 8, 8, generator=torch.Generator().manual_seed(n)) for n in range(8)]

    def call(n: int) -> list[Tensor]:
        with torch.no_grad():
            return [model(xs[n]) for _ in range(10) for model in models]

    wanted = [call(n) for n in range(8)]
    onednn.can_pack.cache_clear()
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(call, range(8)))
    finally:
        sys.setswitchinterval(before)
    assert all(torch.equal(a, b) for f, w in zip(found, wanted, strict=True) for a, b in zip(f, w, strict=True))

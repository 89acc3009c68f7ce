"""What runs only on a GPU, on an imitation of one: a replay does what was captured, and no line of Python.

`tests/test_cuda.py` has a real one.
"""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import bcgraph
from bcgraph import compiler, dsl, schema, training, weights
from bcgraph.errors import BcgraphWarning
from bcgraph.nn.graphs.capture import CudaCapture
from bcgraph.nn.graphs.graphed import Graphed
from bcgraph.nn.graphs.module import GraphedCall
from bcgraph.nn.graphs.recordings import Recordings
from bcgraph.nn.neuron.gpu import launch
from bcgraph.training.checkpoint import collect, restore
from bcgraph.training.distributed.devices import process_group
from bcgraph.training.ema import EMA
from bcgraph.training.optimizers import optimizer
from bcgraph.training.options import Options
from bcgraph.training.train_step import TrainStep
from tests.imitated_gpu import StalePointerError, State, gpus
from tests.training import captured as steps
from tests.training.captured import batch

TEXT = """
bcg 1
block small() {{
  conv1 = conv(4, 3, padding=1); bn1 = bn(); lif1 = neuron()
  conv2 = conv(4, 3, padding=1); bn2 = bn(); lif2 = neuron()
  dropout({dropout}); flatten(); fc = linear(10)
}}
network five {{
  input = image(1, 8, 8); steps = 2; backbone = small(); neuron = plif()
  backward @1 -> @0
}}
data = digits(batch=8)
train {{ {train} }}
"""


@pytest.fixture
def gpu() -> Iterator[State]:
    with gpus() as found, warnings.catch_warnings(action="error", category=BcgraphWarning):
        yield found


def spec(train: str = "loss = tet; optimizer = adamw(lr=0.01)", dropout: float = 0.2) -> schema.NetworkSpec:
    return dsl.parse(TEXT.format(train=train, dropout=dropout))


def trained(
    network: schema.NetworkSpec, precision: Any, captured: bool
) -> tuple[dict[str, Tensor], list[float], list[int]]:
    """See `captured.trained`; the optimizer is always one that can be captured."""
    options = Options("cuda", precision=precision, graphs="on")

    def evaluate(model: nn.Module, average: EMA) -> None:
        with average.applied(), torch.no_grad():
            model.eval()(torch.zeros(3, 1, 8, 8, device="cuda", dtype=options.dtype))
            model.train()

    return steps.trained(network, options, CudaCapture() if captured else None, between=evaluate)


SETTINGS = {
    "adamw": "loss = tet; optimizer = adamw(lr=0.01, weight_decay=0.1); clip = 0.5; accumulate = 2; ema = 0.9",
    "sgd": "loss = tet; optimizer = sgd(lr=0.1, momentum=0.9, nesterov=true); label_smoothing = 0.1; ema = 0.99",
    "plain sgd": "optimizer = sgd(lr=0.1); accumulate = 3",
}


@pytest.mark.parametrize(
    ("name", "precision"),
    [("adamw", "32"), ("adamw", "bf16-mixed"), ("sgd", "64"), ("sgd", "32"), ("plain sgd", "bf16-mixed")],
)
def test_a_replayed_step_gives_the_bits_of_a_plain_one(gpu: State, name: str, precision: str) -> None:
    network = spec(SETTINGS[name])
    ours, losses, correct = trained(network, precision, captured=True)
    assert gpu.captures
    assert gpu.replays > 2 * 3
    theirs, wanted, counts = trained(network, precision, captured=False)
    assert losses == wanted
    assert correct == counts
    assert ours.keys() == theirs.keys()
    for key, value in theirs.items():
        assert torch.equal(ours[key], value), key


def test_an_update_on_the_device_is_the_one_of_python(gpu: State) -> None:
    """Torch counts steps on a device in float32, where `1 - 0.999**step` has lost four digits at the first steps."""
    del gpu
    found: list[list[Tensor]] = []
    for captured in (True, False):
        network = spec("optimizer = adamw(lr=0.01, weight_decay=0.1)")
        model = compiler.compile(network, dtype=torch.float64, device="cuda").train()
        update = optimizer(model, network.train.optimizer, captured=captured)
        for step in range(5):
            for number, weight in enumerate(model.parameters()):
                drawn = torch.Generator().manual_seed(100 * step + number)
                weight.grad = torch.randn(weight.shape, generator=drawn, dtype=torch.float64).to("cuda")
            update.step()
        found.append([weight.detach().cpu() for weight in model.parameters()])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-13, atol=1e-15)


class StoppedError(Exception):
    """In place of a kill."""


@pytest.mark.parametrize("graphs", ["auto", "off"])
def test_a_training_run_resumes(gpu: State, tmp_path: Path, graphs: Any) -> None:
    del gpu
    text = TEXT.format(train="epochs = 2; optimizer = adamw(lr=0.01); ema = 0.9; mixup = 0.4", dropout=0.2)
    network = dsl.parse(text.replace("batch=8", "batch=500"))
    options = Options("cuda", graphs=graphs)

    def stop(event: object) -> None:
        if isinstance(event, training.Epoch):
            raise StoppedError

    whole = training.train(network, out=tmp_path / "whole", options=options)
    with pytest.raises(StoppedError):
        training.train(network, out=tmp_path / "parts", options=options, progress=stop)
    parts = training.train(network, out=tmp_path / "parts", options=options)
    assert [e.loss for e in parts.history] == [e.loss for e in whole.history]
    ours, theirs = (weights.load(each.path) for each in (parts, whole))
    for name, value in theirs.items():
        assert torch.equal(ours[name], value), name


@pytest.mark.parametrize("call", ["adamw(lr=0.01)", "sgd(lr=0.1, momentum=0.9)"])
def test_restored_state_is_laid_out_as_its_weights_are(gpu: State, call: str) -> None:
    """A fused update takes one layout for a weight, its gradient and its momentum. Files have none."""
    del gpu
    network = bcgraph.parse(
        "bcg 1\nnetwork wide { input = image(1, 8, 8); steps = 1; backbone = tiny(width=32); neuron = plif() }\n"
        f"train {{ optimizer = {call} }}"
    )

    def step(model: nn.Module, update: torch.optim.Optimizer) -> None:
        update.zero_grad()
        model(torch.ones(2, 1, 8, 8, device="cuda")).square().sum().backward()
        update.step()

    def made() -> tuple[nn.Module, torch.optim.Optimizer]:
        model = compiler.compile(network, device="cuda").train()
        return model, optimizer(model, network.train.optimizer, captured=True)

    model, update = made()
    step(model, update)
    other, resumed = made()
    kept = {name: value.cpu().contiguous() for name, value in collect(model, update).items()}
    restore(kept, other, resumed)
    assert any(not p.is_contiguous() for p in other.parameters()), "channels-last"
    for parameter in other.parameters():
        for key, value in resumed.state[parameter].items():
            assert value.device == parameter.device
            assert key == "step" or value.stride() == parameter.stride()
    step(model, update)
    step(other, resumed)
    for ours, theirs in zip(other.parameters(), model.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_weights_that_autocast_keeps_are_no_part_of_a_capture(gpu: State) -> None:
    del gpu
    layer = nn.Conv2d(1, 2, 3).cuda()
    graphed = Graphed(lambda x: (layer(x),), list, Recordings(CudaCapture()), "a call", required=True)
    x = torch.rand(2, 1, 5, 5, device="cuda")
    with torch.no_grad():
        for _ in range(6):
            layer.weight.add_(1)
            with torch.autocast("cuda", torch.bfloat16):
                assert torch.equal(layer(x), graphed("", x)[0])


def test_a_replay_of_memory_that_is_gone_is_found(gpu: State) -> None:
    """Of the imitation itself: what a GPU would not say."""
    del gpu
    held = [torch.ones(2, device="cuda")]
    graphed = Graphed(lambda x: (x + held[0],), list, Recordings(CudaCapture()), "a call", required=True)
    x = torch.ones(2, device="cuda")
    for _ in range(4):
        assert graphed("", x)[0].tolist() == [2, 2]
    held[0] = torch.zeros(2, device="cuda")
    with pytest.raises(StalePointerError):
        graphed("", x)


def dropped(x: Tensor) -> tuple[Tensor, ...]:
    return (nn.functional.dropout(x) * 2,)


def test_after_a_capture_that_fails_others_succeed(gpu: State) -> None:
    recordings = Recordings(CudaCapture())
    before = torch.cuda.current_stream()

    def waits(x: Tensor) -> tuple[Tensor, ...]:
        return (dropped(x)[0] + float(x.sum()),)

    failing = Graphed(waits, list, recordings, "one")
    others = [Graphed(dropped, list, recordings, "another", required=True) for _ in range(2)]
    x = torch.ones(4, device="cuda")

    def check(graphed: Graphed, run: Callable[..., tuple[Tensor, ...]]) -> None:
        torch.manual_seed(0)
        found = graphed("", x)[0]
        torch.manual_seed(0)
        assert torch.equal(found, run(x)[0])

    for _ in range(3):
        check(others[0], dropped)
    check(failing, waits)
    with pytest.warns(BcgraphWarning, match="one runs without CUDA graphs: .*not permitted when stream is capturing"):
        check(failing, waits)
    assert torch.cuda.current_stream() == before
    assert not gpu.recording
    captures = gpu.captures
    for _ in range(4):
        for each in others:
            check(each, dropped)
        check(failing, waits)
    assert gpu.captures > captures


def test_a_capture_beside_which_a_plain_call_has_no_room(gpu: State) -> None:
    recordings = Recordings(CudaCapture())
    state = torch.zeros(3, device="cuda")

    def run(x: Tensor) -> tuple[Tensor, ...]:
        captured = any(not isinstance(kept, str) for kept in recordings._found.values())
        if captured and gpu.capture is None:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        state.add_(x)
        return (state * 2,)

    graphed = Graphed(run, lambda: [state], recordings, "a call")
    x = torch.ones(3, device="cuda")
    assert graphed("", x)[0].tolist() == [2, 2, 2]
    with pytest.warns(BcgraphWarning, match="a call runs without CUDA graphs: CUDA out of memory"):
        assert graphed("", x)[0].tolist() == [4, 4, 4]
    assert graphed("", x)[0].tolist() == [6, 6, 6]


def test_two_gpus_in_one_process() -> None:
    with gpus(2), warnings.catch_warnings(action="error", category=BcgraphWarning):
        graphed = Graphed(lambda x: (x * 2,), list, Recordings(CudaCapture()), "a call", required=True)
        for value in range(5):
            for device in ("cuda:0", "cuda:1"):
                x = torch.full((3,), float(value), device=device)
                found = graphed("", x)[0]
                assert found.device == x.device
                assert torch.equal(found, x * 2)


def test_a_kernel_starts_on_the_gpu_of_its_tensors(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[int] = []

    class Kernel:
        def __getitem__(self, grid: tuple[int, ...]) -> Callable[..., None]:
            return lambda *_, **__: started.append(torch.cuda.current_device())

    monkeypatch.setattr(launch, "loaded", lambda _: Kernel())
    with gpus(2):
        for device in ("cuda:1", "cuda:0", "cuda:1"):
            launch.pack(torch.ones(1, 2, 3, 3, device=device))
    assert started == [1, 0, 1]


def test_captures_take_few_streams_and_their_memory_goes_with_them(gpu: State) -> None:
    capture = CudaCapture()
    recordings = Recordings(capture)
    several = [Graphed(dropped, list, recordings, "a call", required=True) for _ in range(5)]
    made = next(gpu.numbers)
    for _ in range(4):
        for each in several:
            each("", torch.ones(4, device="cuda"))
    assert gpu.captures == 5 + 1
    # A pool has a number of its own.
    assert next(gpu.numbers) == made + 1 + 1 + 1
    assert len(capture._pools) == 1
    del each
    several.clear()
    gc.collect()
    assert not capture._pools


@pytest.mark.parametrize("schedule", ["unrolled", "folded", "step"])
@pytest.mark.parametrize("inference", [False, True])
def test_a_replayed_network_gives_the_bits_of_a_plain_one(gpu: State, schedule: str, inference: bool) -> None:
    network = spec(dropout=0.0)
    plain, graphed = (compiler.compile(network, schedule, inference=inference, device="cuda") for _ in range(2))
    call = GraphedCall(graphed, graphed, Recordings(CudaCapture()), required=True)
    generator = torch.Generator().manual_seed(0)
    for number, size in enumerate((4, 4, 3, 4, 3, 3, 4, 4)):
        x = torch.rand((size, 1, 8, 8), generator=generator).cuda()
        inputs = (x, *plain.initial_states(x)) if schedule == "step" else (x,)
        if not inference:
            plain.train(number % 3 == 2)
            graphed.train(number % 3 == 2)
        with torch.no_grad():
            found, wanted = call(*inputs), plain(*inputs)
        for a, b in zip(*((found, wanted) if schedule == "step" else ((found,), (wanted,))), strict=True):
            assert torch.equal(a, b)
        for name, value in plain.state_dict().items():
            assert torch.equal(graphed.state_dict()[name], value), name
    assert gpu.replays


def test_a_step_leaves_no_graph_of_autograd(gpu: State) -> None:
    """One that lives on in a cycle holds the stream on which a later capture would add up gradients."""
    del gpu
    network = spec(SETTINGS["adamw"])
    group = process_group(Options("cuda"))
    model = compiler.compile(network, device=group.device).train()
    update = optimizer(model, network.train.optimizer, captured=True)
    step = TrainStep(network, network.train, group, *group.setup(model, update), torch.float32)

    def marks() -> list[dict[str, object]]:
        return [p.expand_as(p).grad_fn.next_functions[0][0].metadata for p in model.parameters()]  # type: ignore[union-attr]

    gc.collect()
    gc.disable()
    try:
        held = [p.expand_as(p) for p in model.parameters()]
        for each in marks():
            each["before"] = True
        assert all(each.get("before") for each in marks())
        del held
        assert not any(each.get("before") for each in marks())

        def marking(*_: object) -> None:
            for each in marks():
                each["in the step"] = True

        handle = model.register_forward_hook(marking)
        step(batch(8, 0, True), 0.01)
        handle.remove()
        assert not any(each.get("in the step") for each in marks())
    finally:
        gc.enable()

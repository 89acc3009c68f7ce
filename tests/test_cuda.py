"""What a GPU computes is what the CPU computes: scores, accuracies, trainings, whole searches, in the same bits again.

Without a GPU nothing of it is tested. `BCGRAPH_TEST_DEVICE=cuda pytest tests/equivalence` holds every schedule against
the reference on one.
"""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import bcgraph
from bcgraph import scores, training, weights
from bcgraph.errors import BcgraphWarning, RunError
from bcgraph.nn.determinism import full_precision, reproducible
from bcgraph.nn.graphs.capture import CudaCapture
from bcgraph.nn.graphs.graphed import Graphed, Graphs
from bcgraph.nn.graphs.recordings import Recordings
from bcgraph.schema import NetworkSpec
from bcgraph.search import Options, history, run
from bcgraph.search.events import Event
from bcgraph.search.scores.precision import PRECISIONS
from bcgraph.search.scores.scorer import Scorer
from bcgraph.search.supernet import devices
from bcgraph.search.supernet.checkpoint import STATE, WEIGHTS
from bcgraph.search.supernet.one_shot import OneShot
from bcgraph.search.supernet.supernet import Supernet
from tests.search.test_incremental import NETWORKS, batch, candidates, network

GPU = training.Options("cuda")

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no GPU")

TEXT = """
bcg 1
network five { input = image(1, 8, 8); steps = 2; backbone = tiny(width=4, classes=10) }
data = digits(batch=%d)
search {
  init { pool = 6; keep = 3; batch = 20 }
  supernet { epochs = %d; recalibrate = %d }
  evolve { iterations = 2; top = 2; population = 3; offspring = 1 }
}
train { loss = tet; epochs = 3 }
"""


class StoppedError(Exception):
    """In place of a kill."""


def spec(epochs: int = 2, batch: int = 120, recalibrate: int = 0) -> NetworkSpec:
    return bcgraph.parse(TEXT % (batch, epochs, recalibrate))


# --- Kernels ----------------------------------------------------------------------------------------------


def flags() -> tuple[object, ...]:
    cudnn = torch.backends.cudnn
    precision = cudnn.conv.fp32_precision, torch.backends.cuda.matmul.fp32_precision
    return (cudnn.deterministic, cudnn.benchmark, *precision)


def test_settings_are_as_before_behind_it() -> None:
    before = flags()
    with full_precision(), reproducible():
        assert flags() == (True, False, "ieee", "ieee")
    assert flags() == before
    with suppress(StoppedError), full_precision():
        raise StoppedError
    assert flags() == before


@needs_gpu
def test_every_digit_of_float32() -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(64, 64, 3, bias=False).cuda()
    x = torch.randn(8, 64, 16, 16, device="cuda")
    wanted = conv.double()(x.double())

    def error() -> float:
        return float((conv.float()(x).double() - wanted).abs().max() / wanted.abs().max())

    plain = error()
    with full_precision():
        assert error() < 1e-5 < plain


# --- Scores -----------------------------------------------------------------------------------------------


def scorer(net: NetworkSpec, device: str, precision: str = "float64", incremental: bool = True) -> Scorer:
    how = PRECISIONS[precision]
    return Scorer(batch(net), 3, ("n", "e"), precision=how, incremental=incremental, device=device)


@needs_gpu
@pytest.mark.parametrize("incremental", [True, False], ids=["incremental", "whole"])
@pytest.mark.parametrize("name", NETWORKS)
def test_scores_are_those_of_the_cpu(name: str, incremental: bool) -> None:
    net = network(name)
    many = candidates(net, 4)
    wanted = list(scorer(net, "cpu")(many))
    found = list(scorer(net, "cuda", incremental=incremental)(many))
    for ours, theirs in zip(found, wanted, strict=True):
        assert dict(ours.reasons) == dict(theirs.reasons)
        for measure in ("n", "e"):
            assert ours.value(measure) == pytest.approx(theirs.value(measure), rel=1e-6)


@needs_gpu
@pytest.mark.parametrize("precision", ["float32", "mixed", "bfloat16", "int16"])
def test_scores_in_the_same_bits_again(precision: str) -> None:
    net = network("resnet18")
    many = candidates(net, 4)
    found = list(scorer(net, "cuda", precision)(many))
    assert all(not e.reasons for e in found)
    assert list(scorer(net, "cuda", precision)(many)) == found
    assert list(scorer(net, "cuda", precision)(many[::-1]))[::-1] == found


@needs_gpu
def test_scores_of_a_compiled_network() -> None:
    net = network("image").with_backward([(3, 1)])
    x, y = batch(net).x.double(), batch(net).y
    model = bcgraph.compile(net, dtype=torch.float64)
    wanted = scores.n_score(model, x), scores.e_score(model, x, y)
    model, x, y = model.cuda(), x.cuda(), y.cuda()
    assert (scores.n_score(model, x), scores.e_score(model, x, y)) == pytest.approx(wanted, rel=1e-6)


# --- The supernet -----------------------------------------------------------------------------------------


def train(net: NetworkSpec, out: Path, told: Callable[[object], None] = lambda _: None) -> None:
    out.mkdir(exist_ok=True)
    devices.train(Supernet(net, 7, devices.divided(net, 7)[0], machine=GPU), out, told)


@needs_gpu
def test_a_supernet_in_the_same_bits_again_interrupted_or_not(tmp_path: Path) -> None:
    def stop(_: object) -> None:
        raise StoppedError

    net = spec()
    train(net, tmp_path / "one")
    with pytest.raises(StoppedError):
        train(net, tmp_path / "two", told=stop)
    assert not (tmp_path / "two" / WEIGHTS).exists()
    train(net, tmp_path / "two")
    for name in (STATE, WEIGHTS):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


@needs_gpu
@pytest.mark.parametrize("recalibrate", [0, 2])
def test_accuracies_are_those_of_the_cpu(tmp_path: Path, recalibrate: int) -> None:
    net = spec(4, batch=40)
    train(net, tmp_path)
    split, validation = devices.divided(net, 7)
    many = [net.with_backward(pairs) for pairs in ([], [(4, 0)], [(2, 2), (3, 1)])]
    found = []
    for device in ("cpu", "cuda"):
        supernet = Supernet(net, 7, split, dtype=torch.float64, machine=GPU, device=device)
        values = weights.load(tmp_path / WEIGHTS, spec=supernet._named())
        weights.apply(supernet.full, {k: v.double() if v.is_floating_point() else v for k, v in values.items()})
        found.append([e.accuracy for e in OneShot(supernet, validation, recalibrate)(many)])
    assert found[0] == found[1]
    assert all(accuracy is not None and accuracy > 0.1 for accuracy in found[0])


# --- Searches and trainings -------------------------------------------------------------------------------


@needs_gpu
@pytest.mark.parametrize("stage", ["init", "supernet", "evolve"])
def test_a_search_interrupted_or_not(tmp_path: Path, stage: str) -> None:
    def stop(event: Event) -> None:
        if event.stage == stage:
            raise StoppedError

    options = Options(accelerator="cuda")
    whole = run(spec(), tmp_path / "whole", options=options)
    with pytest.raises(StoppedError):
        run(spec(), tmp_path / "other", options=options, progress=stop)
    other = run(spec(), tmp_path / "other", options=Options(accelerator="auto"))
    assert history(tmp_path / "whole")["evaluations"] == history(tmp_path / "other")["evaluations"]
    assert other.chosen.architecture == whole.chosen.architecture
    with pytest.raises(RunError) as caught:
        run(spec(), tmp_path / "other")
    assert 'options.evaluated_on: "cuda" there, "cpu" here' in str(caught.value)


@needs_gpu
@pytest.mark.filterwarnings("ignore:the train step runs without CUDA graphs. the gradient scaler")
@pytest.mark.parametrize("precision", ["32", "64", "bf16-mixed", "16-mixed"])
def test_a_training_in_the_same_bits_again(tmp_path: Path, precision: training.options.Precision) -> None:
    def stop(event: object) -> None:
        if isinstance(event, training.Epoch):
            raise StoppedError

    net = spec().with_backward([(4, 0), (1, 1)])
    options = training.Options("cuda", precision=precision)
    whole = training.train(net, out=tmp_path / "whole", options=options)
    assert [e.loss for e in whole.history] == sorted((e.loss for e in whole.history), reverse=True)
    assert whole.accuracy > 0.2
    with pytest.raises(StoppedError):
        training.train(net, out=tmp_path / "other", options=options, progress=stop)
    training.train(net, out=tmp_path / "other", options=options)
    files = [weights.load(tmp_path / name / "last.safetensors", spec=net) for name in ("whole", "other")]
    for name, value in files[0].items():
        assert torch.equal(value, files[1][name]), name


@needs_gpu
def test_commands(tmp_path: Path) -> None:
    net = tmp_path / "net.bcg"
    net.write_text(bcgraph.format(spec(1).with_backward([(4, 0)])), encoding="utf-8")

    def asked(*arguments: str) -> dict[str, object]:
        command = [sys.executable, "-m", "bcgraph", *arguments, "--accelerator", "cuda", "--json"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == 0, done.stderr
        found: dict[str, object] = json.loads(done.stdout)
        return found

    assert isinstance(asked("score", str(net), "--score-dtype", "float64")["n"], float)
    assert asked("score", str(net), "--audit", "--candidates", "3")["candidates"] == 3
    found = asked("search", str(net), "--out", str(tmp_path / "found"), "--audit", "3")
    assert found["onnx"] is not None
    asked("train", str(net), "--out", str(tmp_path / "trained"))
    accuracy = asked("eval", str(tmp_path / "trained"), "--dtype", "bfloat16")["accuracy"]
    assert isinstance(accuracy, float)
    assert accuracy > 0.1


@needs_gpu
def test_export_of_weights_on_a_gpu(tmp_path: Path) -> None:
    net = spec().with_backward([(4, 0)])
    model = bcgraph.compile(net, device="cuda")
    for name in ("net.onnx", "net.pt2"):
        bcgraph.export(net, tmp_path / name, state_dict=model.state_dict())
        assert (tmp_path / name).stat().st_size > 0


@needs_gpu
def test_memory_of_inference_does_not_grow_with_the_steps() -> None:
    def peak(steps: int) -> int:
        body = f"input = image(3, 32, 32); steps = {steps}; backbone = resnet18(width=16, classes=10)"
        net = bcgraph.parse(f"bcg 1\nnetwork n {{ {body} }}").with_backward([(16, 0)])
        model = bcgraph.compile(net, inference=True, device="cuda")
        x = torch.randn(32, 3, 32, 32, device="cuda")
        with torch.no_grad():
            model(x)
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
            model(x)
        return torch.cuda.max_memory_allocated() - before

    assert peak(16) < 1.05 * peak(3)


@needs_gpu
def test_more_gpus_than_there_are(tmp_path: Path) -> None:
    many = torch.cuda.device_count() + 1
    with pytest.raises(RunError) as caught:
        run(spec(batch=960), tmp_path / "run", options=Options(accelerator="cuda", devices=many))
    assert caught.value.code == "E074"


# --- Triton kernels and CUDA graphs -----------------------------------------------------------------------


@needs_gpu
@pytest.mark.parametrize("schedule", ["unrolled", "folded", "step"])
@pytest.mark.parametrize("training_mode", [False, True])
def test_a_captured_network_computes_what_a_plain_one_does(schedule: str, training_mode: bool) -> None:
    plain, graphed = (
        bcgraph.compile(spec(), schedule, dtype=torch.float64, device="cuda", graphs=graphs) for graphs in (False, True)
    )
    for seed, size in enumerate((4, 4, 3, 4)):
        x = torch.rand((size, 1, 8, 8), generator=torch.Generator().manual_seed(seed)).to("cuda", torch.float64)
        inputs = (x, *plain.initial_states(x)) if schedule == "step" else (x,)
        with torch.no_grad(), warnings.catch_warnings(action="error"):
            given, wanted = (m.train(training_mode)(*inputs) for m in (graphed, plain))
        for a, b in zip(*((given, wanted) if schedule == "step" else ((given,), (wanted,))), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)
        for name, value in plain.state_dict().items():
            torch.testing.assert_close(graphed.state_dict()[name], value, rtol=1e-9, atol=1e-12, msg=name)


@needs_gpu
@pytest.mark.parametrize("optimizer", ["adamw(lr=0.01)", "sgd(lr=0.1, momentum=0.9)"])
def test_a_captured_training_run_is_the_plain_one(optimizer: str, tmp_path: Path) -> None:
    text = TEXT % (120, 2, 0)
    told = bcgraph.parse(text.replace("epochs = 3 }", f"epochs = 2; ema = 0.9; clip = 1.0; optimizer = {optimizer} }}"))
    found = []
    modes: tuple[Graphs, ...] = ("on", "off")
    for graphs in modes:
        options = training.Options("cuda", precision="64", graphs=graphs)
        with warnings.catch_warnings(action="error", category=BcgraphWarning):
            result = training.train(told, out=tmp_path / graphs, options=options)
        found.append((result, weights.load(result.path)))
    (ours, values), (theirs, wanted) = found
    assert [e.loss for e in ours.history] == pytest.approx([e.loss for e in theirs.history], rel=1e-6)
    for name, value in wanted.items():
        torch.testing.assert_close(values[name], value, rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="this machine has no two GPUs")
def test_two_gpus_capture_the_step_that_they_share(tmp_path: Path) -> None:
    net = tmp_path / "net.bcg"
    text = (TEXT % (120, 2, 0)).replace("epochs = 3 }", "epochs = 2; accumulate = 2; ema = 0.9; clip = 1.0 }")
    net.write_text(text, encoding="utf-8")
    for graphs in ("on", "off"):
        out = str(tmp_path / graphs)
        where = ["--accelerator", "cuda", "--devices", "2", "--precision", "64", "--graphs", graphs]
        command = [sys.executable, "-m", "bcgraph", "train", str(net), "--out", out, *where]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == 0, done.stderr
        assert "CUDA graphs" not in done.stderr
    values, wanted = (weights.load(tmp_path / graphs / "last.safetensors") for graphs in ("on", "off"))
    for name, value in wanted.items():
        torch.testing.assert_close(values[name], value, rtol=1e-4, atol=1e-6, msg=name)


@needs_gpu
@pytest.mark.parametrize("precision", ["32", "bf16-mixed"])
def test_a_captured_training_run_resumes(precision: Any, tmp_path: Path) -> None:
    options = training.Options("cuda", precision=precision)

    def stop(event: object) -> None:
        if isinstance(event, training.Epoch) and event.epoch == 2:
            raise StoppedError

    with warnings.catch_warnings(action="error", category=BcgraphWarning):
        whole = training.train(spec(), out=tmp_path / "whole", options=options)
        with pytest.raises(StoppedError):
            training.train(spec(), out=tmp_path / "parts", options=options, progress=stop)
        parts = training.train(spec(), out=tmp_path / "parts", options=options)
    assert [e.loss for e in parts.history] == pytest.approx([e.loss for e in whole.history], rel=1e-2)


@needs_gpu
def test_after_a_capture_that_fails_others_succeed() -> None:
    recordings = Recordings(CudaCapture())
    before = torch.cuda.current_stream()

    def drops(x: Tensor) -> tuple[Tensor, ...]:
        return (nn.functional.dropout(x) * 2,)

    def waits(x: Tensor) -> tuple[Tensor, ...]:
        return (drops(x)[0] + float(x.sum()),)

    def check(graphed: Graphed, run: Callable[[Tensor], tuple[Tensor, ...]]) -> None:
        torch.manual_seed(0)
        found = graphed("", x)[0]
        torch.manual_seed(0)
        assert torch.equal(found, run(x)[0])

    x = torch.ones(1000, device="cuda")
    first, later = (Graphed(drops, list, recordings, "a call", required=True) for _ in range(2))
    failing = Graphed(waits, list, recordings, "one that waits")
    for _ in range(3):
        check(first, drops)
    check(failing, waits)
    with pytest.warns(BcgraphWarning, match="one that waits runs without CUDA graphs"):
        check(failing, waits)
    assert torch.cuda.current_stream() == before
    for _ in range(4):
        check(first, drops)
        check(later, drops)
        check(failing, waits)


@needs_gpu
def test_weights_that_autocast_keeps_are_no_part_of_a_capture() -> None:
    layer = nn.Conv2d(8, 8, 3).cuda()
    graphed = Graphed(lambda x: (layer(x),), list, Recordings(CudaCapture()), "a call", required=True)
    x = torch.rand(2, 8, 9, 9, device="cuda")
    with torch.no_grad(), reproducible():
        for _ in range(6):
            layer.weight.add_(1)
            with torch.autocast("cuda", torch.bfloat16):
                torch.testing.assert_close(graphed("", x)[0], layer(x))


@needs_gpu
@pytest.mark.parametrize("optimizer", ["adamw(lr=0.01)", "sgd(lr=0.1, momentum=0.9)"])
def test_a_training_run_with_weights_laid_out_channels_last_resumes(optimizer: str, tmp_path: Path) -> None:
    """On its fused update depends that state from a file has the layout of its weights."""
    text = (TEXT % (120, 2, 0)).replace("width=4", "width=32")
    told = bcgraph.parse(text.replace("epochs = 3 }", f"epochs = 2; optimizer = {optimizer} }}"))

    def stop(event: object) -> None:
        if isinstance(event, training.Epoch):
            raise StoppedError

    options = training.Options("cuda")
    with warnings.catch_warnings(action="error", category=BcgraphWarning):
        whole = training.train(told, out=tmp_path / "whole", options=options)
        with pytest.raises(StoppedError):
            training.train(told, out=tmp_path / "parts", options=options, progress=stop)
        parts = training.train(told, out=tmp_path / "parts", options=options)
    assert [e.loss for e in parts.history] == pytest.approx([e.loss for e in whole.history], rel=1e-2)

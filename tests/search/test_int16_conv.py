"""Convolutions of spikes with 16-bit weights, in scores and on the supernet."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import bcgraph
from bcgraph import data
from bcgraph.compiler import lower
from bcgraph.errors import SearchError
from bcgraph.nn.conv import int16 as int16_conv
from bcgraph.nn.conv.input_gradient import conv2d_frozen_weight
from bcgraph.nn.conv.int16 import LARGEST, Int16Weight, Settings, fits
from bcgraph.schema import NetworkSpec
from bcgraph.search import Options, run
from bcgraph.search.distributed.tasks import Accuracy
from bcgraph.search.scores.precision import PRECISIONS
from bcgraph.search.scores.scorer import Scorer, ScoringBatch
from bcgraph.search.space.search_space import architecture_of
from bcgraph.search.supernet.lowered import Lowered
from bcgraph.search.supernet.one_shot import OneShot
from bcgraph.search.supernet.shared_weights import FoldedModules, SharedWeights, spike_readers
from bcgraph.search.supernet.supernet import Supernet
from bcgraph.training.accuracy import evaluate
from tests.imitated_gpu import gpus

SHAPES = {
    "3x3": (16, 24, 8, 3, 1, 1),
    "odd": (5, 7, 9, 3, 2, 1),
    "projection": (12, 8, 4, 1, 1, 0),
    "vector": (20, 3, 1, 1, 1, 0),
    "wide": (128, 4, 2, 3, 1, 1),
}


def drawn(name: str) -> tuple[Tensor, Tensor, Tensor, Tensor, Settings]:
    """Spikes, weight, factor, bias and settings."""
    inward, outward, size, kernel, stride, padding = SHAPES[name]
    g = torch.Generator().manual_seed(0)
    spikes = (torch.rand(6, inward, size, size, generator=g) < 0.3).float()
    weight = torch.randn(outward, inward, kernel, kernel, generator=g)
    factor, bias = torch.rand(outward, generator=g) + 0.5, torch.randn(outward, generator=g)
    return spikes, weight, factor, bias, ((stride, stride), (padding, padding), (1, 1), 1)


def rounded(weight: Tensor) -> Tensor:
    """The weight in 16 bits, as float64, by the definition."""
    scale = weight.abs().amax((1, 2, 3), keepdim=True).double() / LARGEST
    return torch.where(scale > 0, torch.round(weight.double() / scale) * scale, 0.0)


def on_tensor_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a GPU does, on the CPU, whose float32 holds the sums as well."""
    monkeypatch.setattr(int16_conv, "kernels_are_exact", lambda: False)
    monkeypatch.setattr(int16_conv, "_runs_on_tensor_cores", lambda weight: True)


@pytest.mark.parametrize("kernels", ["processor", "tensor cores", "none"])
@pytest.mark.parametrize("name", SHAPES)
def test_the_current_is_that_of_the_rounded_weight(name: str, kernels: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if kernels == "none":
        monkeypatch.setattr(int16_conv, "kernels_are_exact", lambda: False)
    if kernels == "tensor cores":
        on_tensor_cores(monkeypatch)
    spikes, weight, factor, bias, settings = drawn(name)
    size = (spikes.shape[2], spikes.shape[3])
    found = Int16Weight.of(weight, settings, size, factor, bias)(spikes)
    plain = F.conv2d(spikes.double(), rounded(weight), None, *settings)
    torch.testing.assert_close(
        found.double(),
        plain * factor.double().view(1, -1, 1, 1) + bias.double().view(1, -1, 1, 1),
        rtol=3e-6,
        atol=3e-6,
    )
    assert float((rounded(weight) - weight).abs().max()) <= float(weight.abs().max()) / LARGEST / 2 * 1.01
    assert found.dtype == torch.float32


@pytest.mark.skipif(not int16_conv.kernels_are_exact(), reason="this processor has no exact kernels for 8 bits")
@pytest.mark.parametrize("name", SHAPES)
def test_nothing_but_the_spikes_matters(name: str) -> None:
    spikes, weight, factor, bias, settings = drawn(name)
    convolve = Int16Weight.of(weight, settings, (spikes.shape[2], spikes.shape[3]), factor, bias)
    expected = convolve(spikes)
    assert torch.equal(convolve(spikes.contiguous(memory_format=torch.channels_last)), expected)
    assert torch.equal(torch.cat([convolve(one[None]) for one in spikes]), expected)
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            assert torch.equal(convolve(spikes), expected)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("name", SHAPES)
def test_nothing_but_the_spikes_matters_on_tensor_cores(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    on_tensor_cores(monkeypatch)
    spikes, weight, factor, bias, settings = drawn(name)
    convolve = Int16Weight.of(weight, settings, (spikes.shape[2], spikes.shape[3]), factor, bias)
    assert convolve.shape == tuple(weight.shape)
    expected = convolve(spikes)
    last = weight.contiguous(memory_format=torch.channels_last)
    other = Int16Weight.of(last, settings, (spikes.shape[2], spikes.shape[3]), factor, bias)
    assert torch.equal(other(spikes.contiguous(memory_format=torch.channels_last)), expected)
    assert torch.equal(torch.cat([convolve(one[None]) for one in spikes]), expected)


def test_the_halves_of_a_weight_fit_tf32() -> None:
    """11 bits hold whole numbers up to 2048, and no sum of the halves of a weight that fits reaches 2**24."""
    numbers = torch.tensor([LARGEST, -LARGEST, 0, 1, 127, 128, -128, 254, 255, 256], dtype=torch.float64)
    high, low = int16_conv._halves(numbers)
    assert torch.equal(255 * high + low, numbers)
    assert max(float(high.abs().max()), float(low.abs().max())) <= 127
    assert 66_052 * 127 < 2**24


def test_a_gpu_whose_sums_are_not_exact_takes_the_rounded_weight(monkeypatch: pytest.MonkeyPatch) -> None:
    with gpus():
        _, weight, factor, bias, settings = drawn("3x3")
        moved = weight.to("cuda")
        made = Int16Weight.of(moved, settings, (8, 8), factor.to("cuda"), bias.to("cuda"))
        assert made.limbs is not None
        assert made.rounded is None
        plain = int16_conv._tf32_sums
        int16_conv._tensor_cores_are_exact.cache_clear()
        monkeypatch.setattr(int16_conv, "_tf32_sums", lambda *given: plain(*given) * (1 + 2**-20))
        made = Int16Weight.of(moved, settings, (8, 8), factor.to("cuda"), bias.to("cuda"))
        assert made.limbs is None
        assert made.rounded is not None
    int16_conv._tensor_cores_are_exact.cache_clear()


def test_a_weight_of_zeros() -> None:
    spikes, weight, _, bias, settings = drawn("3x3")
    weight[0] = 0.0
    found = Int16Weight.of(weight, settings, (8, 8), None, bias)(spikes)
    assert torch.equal(found[:, 0], bias[0].expand(6, 8, 8))


def test_which_weights_fit() -> None:
    assert fits(torch.empty(4, 512, 3, 3), 1)
    assert not fits(torch.empty(4, 2, 3, 3), 2)
    # 66,052 spikes with the largest weight of all are as much as 32 bits hold.
    assert fits(torch.empty(1, 66_052, 1, 1, device="meta"), 1)
    assert not fits(torch.empty(1, 66_053, 1, 1, device="meta"), 1)


@pytest.mark.skipif(not int16_conv.kernels_are_exact(), reason="this processor has no exact kernels for 8 bits")
def test_the_largest_sum_is_exact() -> None:
    spikes, weight = torch.ones(1, 66_052, 1, 1), torch.ones(1, 66_052, 1, 1)
    settings: Settings = ((1, 1), (0, 0), (1, 1), 1)
    assert float(Int16Weight.of(weight, settings, (1, 1))(spikes)) == pytest.approx(66_052, rel=1e-6)


def test_the_gradient_is_that_of_the_weight_itself() -> None:
    spikes, weight, _, _, settings = drawn("3x3")
    spikes.requires_grad_()
    found = conv2d_frozen_weight(spikes, weight, None, *settings, int16=Int16Weight.of(weight, settings, (8, 8)))
    outward = torch.randn(found.shape, generator=torch.Generator().manual_seed(1))
    (ours,) = torch.autograd.grad(found, spikes, outward)
    (theirs,) = torch.autograd.grad(F.conv2d(spikes, weight, None, *settings), spikes, outward)
    assert torch.equal(ours, theirs)


@pytest.mark.parametrize(
    "text",
    [
        "input = image(3, 16, 16); steps = 2; backbone = resnet18(width=4, classes=10)",
        "input = sequence(2, 16, 16); steps = 2; backbone = vggsnn(width=4, classes=10)",
    ],
)
def test_who_reads_spikes(text: str) -> None:
    spec = bcgraph.parse(f"bcg 1\nnetwork n {{ {text} }}").with_backward([(4, 1), (3, 3)])
    graph = lower(spec)
    convolutions = {n.module for n in graph.nodes if n.op == "conv"}
    first = {n.module for n in graph.nodes if n.op == "conv" and n.inputs[0].value in {v.name for v in graph.inputs}}
    readers = spike_readers(graph)
    assert {"backward.4_1.conv", "backward.3_3.conv"} <= readers < convolutions
    assert not first & readers
    # After an average pool there are fractions.
    pooled = {n.output.name for n in graph.nodes if n.op == "avgpool"}
    fractions = {n.module for n in graph.nodes if n.op == "conv" and n.inputs[0].value in pooled}
    assert readers == convolutions - first - fractions


def network(more: str = "readout = mean", backbone: str = "tiny(width=8, classes=10)") -> NetworkSpec:
    return bcgraph.parse(
        f"bcg 1\nnetwork n {{ input = image(1, 8, 8); steps = 3; {more}; backbone = {backbone} }}\n"
        "data = digits(batch=40)\nsearch { init { batch = 20 }; supernet { epochs = 1 } }"
    )


def candidates(spec: NetworkSpec) -> list[NetworkSpec]:
    return [spec.with_backward(pairs) for pairs in ((), ((4, 0),), ((2, 2), (4, 1)), ((3, 3),))]


def test_scores_are_the_same_with_and_without_the_cache() -> None:
    x = torch.randn(20, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    given = ScoringBatch(x, torch.arange(4).repeat(5))
    many = candidates(network())
    ours, plain = (
        list(Scorer(given, 0, ("n", "e"), precision=PRECISIONS["int16"], incremental=how)(many))
        for how in (True, False)
    )
    exact = list(Scorer(given, 0, ("n",), precision=PRECISIONS["float64"])(many))
    for one, other, reference in zip(ours, plain, exact, strict=True):
        assert one.n == other.n
        assert one.value("e") == pytest.approx(other.value("e"), rel=0.02)
        assert one.value("n") == pytest.approx(reference.value("n"), rel=1e-3)


def test_scored_convolutions_are_in_whole_numbers() -> None:
    given = ScoringBatch(torch.randn(20, 1, 8, 8), torch.arange(4).repeat(5))
    weights = Scorer(given, 0, ("n",), precision=PRECISIONS["int16"]).weights()
    weights.root(network().with_backward([(4, 0)]))
    marked = {name for name, module in weights.modules.items() if getattr(module, "int16", False)}
    assert marked == spike_readers(lower(network().with_backward([(4, 0)])))
    assert marked
    assert not any(getattr(m, "int16", False) for m in Scorer(given, 0, ("n",)).weights().modules.values())


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Supernet, data.Split]:
    spec = network()
    split = data.load(spec.data, spec.input, spec.steps).train.subset(range(300)).divide(0.8, 0)
    supernet = Supernet(spec, 7, split[0])
    supernet.train(tmp_path_factory.mktemp("supernet"), lambda _: None)
    return supernet, split[1]


def rounded_model(supernet: Supernet, candidate: NetworkSpec) -> torch.nn.Module:
    """The candidate in float64 with the supernet's weights, in 16 bits where they meet spikes."""
    model = bcgraph.compile(candidate, dtype=torch.float64)
    values = dict(supernet.model(architecture_of(candidate)).state_dict())
    for name in spike_readers(lower(candidate)):
        values[f"{name}.weight"] = rounded(values[f"{name}.weight"])
    model.load_state_dict(values)
    return model


def test_accuracies_are_those_of_the_rounded_weights(trained: tuple[Supernet, data.Split]) -> None:
    supernet, validation = trained
    many = candidates(supernet.spec)
    found = [e.accuracy for e in OneShot(supernet, validation, whole=True)(many)]
    for candidate, accuracy in zip(many, found, strict=True):
        model = rounded_model(supernet, candidate)
        # A membrane within rounding of the threshold may still flip in float32.
        assert accuracy == pytest.approx(evaluate(model, validation), abs=1.5 / len(validation))
    assert found == [next(OneShot(supernet, validation, whole=True)([c])).accuracy for c in many]


def test_in_float64_they_are_those_of_the_rounded_weights_exactly(tmp_path: Path) -> None:
    spec = network("norm = bn(statistics=per_step)")
    split = data.load(spec.data, spec.input, spec.steps).train.subset(range(300)).divide(0.8, 0)
    for statistics in (spec, network()):
        supernet = Supernet(statistics, 7, split[0], dtype=torch.float64)
        out = tmp_path / statistics.norm.statistics
        out.mkdir()
        supernet.train(out, lambda _: None)
        many = candidates(statistics)
        found = [e.accuracy for e in OneShot(supernet, split[1], whole=True)(many)]
        for candidate, accuracy in zip(many, found, strict=True):
            assert evaluate(rounded_model(supernet, candidate), split[1]) == accuracy


def test_workers_evaluate_in_whole_numbers_too(trained: tuple[Supernet, data.Split]) -> None:
    supernet, validation = trained
    shot = OneShot(supernet, validation, whole=True)
    wirings = [(((4, 0, 1),), ()), (((2, 2, 1), (4, 1, 1)), ())]
    work = Accuracy.of(shot).start()
    many = [supernet.spec.with_connections(*wiring) for wiring in wirings]
    assert work((wirings, range(len(validation)))) == shot.tally(many)
    assert Accuracy.of(shot).whole
    assert not Accuracy.of(OneShot(supernet, validation)).whole


def test_evaluation_modules_are_made_once(trained: tuple[Supernet, data.Split]) -> None:
    supernet, _ = trained
    shared = FoldedModules(supernet.weights, whole=True)
    first, second = (shared.assemble(Lowered.of(supernet.spec.with_backward(b))) for b in ([(4, 0)], [(4, 0), (1, 1)]))
    name = "layer2.0.conv2"
    assert first.get_submodule(name) is second.get_submodule(name)
    assert first.get_submodule(name) is not supernet.weights.modules[name]
    # Layers that read no spikes are built once as well: they have their norms folded in.
    assert first.get_submodule("conv1") is second.get_submodule("conv1")
    assert first.get_submodule("conv1") is not supernet.weights.modules["conv1"]


def test_frozen_means_frozen_before_the_first_module() -> None:
    weights = SharedWeights(0)
    weights.root(network())
    with pytest.raises(AssertionError):
        weights.freeze()


def test_options_that_do_not_go_together(tmp_path: Path) -> None:
    with pytest.raises(SearchError) as unknown:
        Options(accuracy_dtype="int61")
    assert unknown.value.code == "E089"
    assert unknown.value.hint == "did you mean `int16`?"
    spec = bcgraph.parse(bcgraph.format(network()).replace("recalibrate = 0", "recalibrate = 2"))
    assert spec.search.supernet.recalibrate == 2
    with pytest.raises(SearchError) as both:
        run(spec, tmp_path, options=Options(accuracy_dtype="int16"))
    assert "recalibrate = 2" in str(both.value)
    assert not list(tmp_path.iterdir())
    # A run that has the default says nothing of it, as runs did before there was a choice.
    assert "accuracy_dtype" not in Options().as_data()
    assert Options(accuracy_dtype="int16").as_data()["accuracy_dtype"] == "int16"

"""Modules become texts that compute what they do; what cannot be said is refused with its path and its line."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import bcgraph
from bcgraph import dsl, weights
from bcgraph.importing import ImportFailedError, from_torch
from bcgraph.importing.source import load
from tests.importing import own

IMAGE = torch.randn(2, 3, 24, 24, generator=torch.Generator().manual_seed(0))


def lively(module: nn.Module) -> nn.Module:
    """The module with statistics under which its norms show."""
    torch.manual_seed(1)
    for each in module.modules():
        if isinstance(each, nn.BatchNorm2d | nn.BatchNorm1d):
            assert each.running_mean is not None
            assert each.running_var is not None
            each.running_mean.uniform_(-0.2, 0.2)
            each.running_var.uniform_(0.5, 1.5)
    return module.eval()


def test_a_module_of_a_users_own(tmp_path: Path) -> None:
    """Kept as it is, the network equals the module; as a spiking one it has the same weights and takes feedback."""
    module = lively(own.Net())
    module.mixed.gamma.data.uniform_(0.2, 0.9)
    kept = from_torch(module, IMAGE, keep_activations=True, steps=1)
    assert kept.error <= 1e-9
    assert "the softmax at the end is left out: losses have their own" in kept.notes
    found = bcgraph.compile(kept.spec, dtype=torch.float64).eval()
    found.load_state_dict({k: v.double() if v.is_floating_point() else v for k, v in kept.state_dict.items()})
    wanted = module.double()(IMAGE.double())
    assert torch.allclose(found(IMAGE.double())[0].log_softmax(1), wanted, atol=1e-9, rtol=0)

    spiking = from_torch(module, IMAGE, name="own", steps=2)
    assert dsl.format_text(spiking.text) == spiking.text
    assert bcgraph.parse(spiking.text) == spiking.spec == bcgraph.parse(bcgraph.format(spiking.spec))
    assert "repeat i in range(1, 4)" in spiking.text
    # Both stages are one block, and the units of all of them one.
    assert spiking.text.count("block residual") == 2
    assert spiking.text.count("block stages") == 1
    names = set(spiking.state_dict)
    assert {"stem.conv.weight", "stages.0.0.one.norm.running_var", "stages.1.3.two.bias", "mixed.gamma.weight"} <= names
    assert names - set(module.state_dict()) == {"mixed.gamma.weight"}
    text, beside = spiking.save(tmp_path / "own.bcg")
    spec = bcgraph.load(text).with_backward([(len(spiking.spec.ports) - 1, 0), (3, 1)])
    model = bcgraph.compile(spec)
    fit = weights.apply(model, weights.load(beside), partial=True)
    assert all(name.startswith("backward.") for name in fit.missing)
    assert not fit.unexpected
    assert not fit.misshaped
    assert model(IMAGE).shape == (2, 2, 5)


def test_weights_are_those_of_the_module_bit_for_bit() -> None:
    module = lively(own.Net())
    found = from_torch(module, IMAGE).state_dict
    for name, value in module.state_dict().items():
        if name != "mixed.gamma":
            assert torch.equal(found[name].reshape(value.shape).to(value.dtype), value), name


# --- what is refused --------------------------------------------------------------------------------------


class Decides(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        if x.sum() > 0:
            x = x.relu()
        return x.mean((2, 3))


class Shared(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.conv(x))
        return F.relu(self.conv(x)).mean((2, 3))


class InPlace(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        y = x.relu()
        part = y[:, :1]
        part.mul_(2)
        return y.mean((2, 3))


class Complex(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.fft.fft(x.relu().mean((2, 3)))


class Several(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = x.relu().mean((2, 3))
        return x, x


class Everything(nn.Module):
    """Several things that cannot be said: one report has all of them."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.ReLU(), nn.Conv2d(3, 3, 3, padding=1, padding_mode="reflect"))
        self.other = nn.PReLU()

    def forward(self, x: Tensor) -> Tensor:
        a = self.inner(x)
        b = self.other(x)
        c = torch.cumsum(x.relu(), dim=1)
        return torch.cat([a, b, c], 1).mean((2, 3))


class Crossed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = (nn.Conv2d(3, 3, 1) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        a = self.a(x).relu()
        b = self.b(x).relu()
        return (torch.cat([self.c(a) + b, a], 1)).mean((2, 3))


REFUSED: list[tuple[type[nn.Module], list[tuple[str, str, str]]]] = [
    (Decides, [("E111", "if x.sum() > 0:", "values of a tensor decide")]),
    (Shared, [("E113", "return F.relu(self.conv(x)).mean((2, 3))", "`conv` is called twice")]),
    (InPlace, [("E112", "part.mul_(2)", "a view is changed in place")]),
    (Complex, [("E113", "return torch.fft.fft(x.relu().mean((2, 3)))", "fft_fft")]),
    (Several, [("E110", "", "returns a tuple of 2")]),
    (
        Everything,
        [
            ("E113", "a = self.inner(x)", "padding by `reflect`"),
            ("E113", "b = self.other(x)", "`prelu`"),
            ("E113", "c = torch.cumsum(x.relu(), dim=1)", "`cumsum`"),
        ],
    ),
    (Crossed, [("E114", "a = self.a(x).relu()", "no branches can express")]),
]


@pytest.mark.parametrize(("kind", "wanted"), REFUSED, ids=[kind.__name__ for kind, _ in REFUSED])
def test_refusals(kind: type[nn.Module], wanted: list[tuple[str, str, str]]) -> None:
    with pytest.raises(ImportFailedError) as caught:
        from_torch(kind(), IMAGE)
    found = caught.value.diagnostics
    assert [each.code for each in found] == [code for code, _, _ in wanted]
    source, first = inspect.getsourcelines(kind)
    for each, (_, line, part) in zip(found, wanted, strict=True):
        assert part in each.message
        if line:
            assert each.span is not None
            assert each.excerpt is not None
            assert Path(each.span.file) == Path(__file__)
            assert each.excerpt.strip() == line == source[each.span.line - first].strip()


def test_the_path_of_a_module_is_in_its_refusal() -> None:
    with pytest.raises(ImportFailedError) as caught:
        from_torch(Everything(), IMAGE)
    assert ("in `inner.1`",) in [each.notes for each in caught.value.diagnostics]


@pytest.mark.parametrize(
    ("example", "part"),
    [
        (torch.randn(2, 1, 24, 24), "fails on the example of 2x1x24x24"),
        (torch.randn(2, 3, 2, 2), "too small"),
        (torch.zeros(2, 3, 24, 24, dtype=torch.int64), "tensor of floats"),
        (torch.randn(3), "tensor of floats"),
        ("image", "not str"),
    ],
)
def test_examples_that_do_not_fit(example: Any, part: str) -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.MaxPool2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(36, 2))
    with pytest.raises(ImportFailedError) as caught:
        from_torch(module, example)
    assert caught.value.code == "E110"
    assert part in caught.value.diagnostics[0].message


def test_a_file_that_ends_python_is_a_message(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text("raise SystemExit(3)\n")
    with pytest.raises(ImportFailedError, match=r"net.py:Net` fails: 3"):
        load(f"{tmp_path}/net.py:Net")


class Leaving(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        raise SystemExit("done")


def test_a_module_that_ends_python_is_a_message() -> None:
    with pytest.raises(ImportFailedError, match="fails on the example of 2x3: done"):
        from_torch(Leaving(), torch.rand(1, 3))


def test_weights_that_are_one_are_told() -> None:
    net = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    net[2].weight = net[0].weight
    found = from_torch(net, torch.randn(2, 4))
    assert found.notes == ("`0.weight` and `2.weight` are one in the module, and two here",)
    assert torch.equal(found.state_dict["0.weight"], found.state_dict["2.weight"])


def test_a_module_that_is_none() -> None:
    with pytest.raises(ImportFailedError, match="not int"):
        from_torch(3, IMAGE)  # type: ignore[arg-type]


def test_a_module_that_draws_is_found_out() -> None:
    class Draws(nn.Module):
        calls = 0.0

        def forward(self, x: Tensor) -> Tensor:
            Draws.calls += 1.0
            return (x * Draws.calls).relu().mean((2, 3))

    class Noise(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.relu().mean((2, 3)) * torch.rand(3, dtype=x.dtype)

    # A number that was used is a constant of the network; what is drawn is a factor, the one that was drawn.
    assert from_torch(Draws(), IMAGE, keep_activations=True).error <= 1e-9
    assert from_torch(Noise(), IMAGE, keep_activations=True).error <= 1e-9


# --- vectors, signals, names ------------------------------------------------------------------------------


def test_vectors_and_signals() -> None:
    dense = nn.Sequential(nn.Linear(7, 9), nn.BatchNorm1d(9), nn.ReLU(), nn.Linear(9, 3, bias=False))
    found = from_torch(lively(dense), torch.randn(4, 7))
    assert found.error <= 1e-9
    assert "vector(7)" in found.text
    signal = nn.Sequential(
        nn.Conv1d(2, 4, 5, 2), nn.BatchNorm1d(4), nn.ELU(), nn.AvgPool1d(2), nn.Conv1d(4, 4, 3, padding="same"),
        nn.LeakyReLU(), nn.AdaptiveAvgPool1d(2), nn.Flatten(), nn.Linear(8, 3),
    )  # fmt: skip
    found = from_torch(lively(signal), torch.randn(4, 2, 31), keep_activations=True)
    assert found.error <= 1e-9
    assert "signal(2, 31)" in found.text


def test_names_that_no_text_may_have() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.block = nn.Conv2d(3, 4, 1)
            self.sum = nn.BatchNorm2d(4)
            self.add_module("1-odd", nn.Conv2d(4, 4, 1))
            self.code = nn.BatchNorm2d(4)
            self.lif = nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            x = self.lif(self.code(self.sum(self.block(x))))
            return getattr(self, "1-odd")(x).mean((2, 3))

    found = from_torch(lively(Odd()), IMAGE)
    assert found.renamed == (("block", "block_"), ("sum", "sum_"), ("code", "code_"), ("1-odd", "part_1_odd"))
    assert {"block_.weight", "sum_.bias", "part_1_odd.bias"} <= set(found.state_dict)


def test_equal_modules_are_one_block_and_rows_of_them_a_repetition() -> None:
    class Cell(nn.Module):
        def __init__(self, channels: int, kernel: int) -> None:
            super().__init__()
            self.conv = nn.Conv2d(channels, channels, kernel, padding=kernel // 2)
            self.act = nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            return x + self.act(self.conv(x))

    net = nn.Sequential(*(Cell(3, 3) for _ in range(4)), Cell(3, 5), nn.Flatten(), nn.LazyLinear(2))
    net(IMAGE)
    found = from_torch(net, IMAGE, name="cells")
    assert found.text.count("block ") == 2
    assert "block cell(kernel) {" in found.text
    assert "repeat i in range(4)" in found.text
    assert "4 = cell(5)" in found.text
    assert found.spec.ports == ("0.act", "1.act", "2.act", "3.act", "4.act")


# --- torchvision ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "shufflenet_v2_x0_5", "squeezenet1_1"])
def test_torchvision(name: str) -> None:
    models = pytest.importorskip("torchvision.models")
    module = lively(getattr(models, name)(num_classes=4))
    found = from_torch(module, torch.randn(1, 3, 64, 64), name=name)
    assert found.error <= 1e-9
    assert len(found.spec.ports) == {"resnet18": 17, "squeezenet1_1": 26, "shufflenet_v2_x0_5": 37}.get(name, 42)
    assert sum(v.numel() for v in found.state_dict.values()) == sum(v.numel() for v in module.state_dict().values())


def test_resnet18_is_the_network_of_the_paper_with_its_names() -> None:
    models = pytest.importorskip("torchvision.models")
    found = from_torch(lively(models.resnet18(num_classes=4)), torch.randn(1, 3, 64, 64))
    own_names = set(bcgraph.compile(bcgraph.parse(NET)).state_dict())
    assert set(found.state_dict) == own_names


NET = "bcg 1\nnetwork n { input = image(3, 64, 64); steps = 1; backbone = resnet18(classes=4) }\n"


# --- peers ------------------------------------------------------------------------------------------------


def test_neurons_of_spikingjelly() -> None:
    pytest.importorskip("spikingjelly.activation_based.neuron")
    from spikingjelly.activation_based import functional, layer, neuron, surrogate

    net = nn.Sequential(
        layer.Conv2d(3, 6, 3, padding=1, bias=False), layer.BatchNorm2d(6),
        neuron.LIFNode(tau=3.0, v_threshold=0.4, surrogate_function=surrogate.ATan()),
        layer.MaxPool2d(2), layer.Conv2d(6, 6, 3), neuron.IFNode(v_threshold=0.3, v_reset=None),
        layer.Conv2d(6, 6, 3), neuron.ParametricLIFNode(init_tau=2.5, v_threshold=0.2, detach_reset=True),
        layer.Flatten(), layer.Linear(6 * 64, 5),
    )  # fmt: skip
    lively(net)
    found = from_torch(net, IMAGE, steps=4)
    assert found.error <= 1e-9
    model = bcgraph.compile(found.spec, dtype=torch.float64).eval()
    model.load_state_dict({k: v.double() if v.is_floating_point() else v for k, v in found.state_dict.items()})
    functional.reset_net(net.double())
    wanted = torch.stack([net(IMAGE.double()) for _ in range(4)])
    assert torch.allclose(model(IMAGE.double()), wanted, atol=1e-9, rtol=0)
    assert wanted.std() > 0


@pytest.mark.parametrize("reset", ["subtract", "zero"])
def test_neurons_of_snntorch(reset: str) -> None:
    snn = pytest.importorskip("snntorch")
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 6, 5), nn.MaxPool2d(2), snn.Leaky(beta=0.8, init_hidden=True, reset_mechanism=reset),
        nn.Flatten(), nn.Linear(600, 5), snn.Leaky(beta=0.6, threshold=0.1, init_hidden=True, output=True),
    )  # fmt: skip
    found = from_torch(net, 4 * IMAGE, steps=4)
    assert found.error <= 1e-9
    model = bcgraph.compile(found.spec).eval()
    model.load_state_dict(dict(found.state_dict), strict=False)
    for each in net:
        if isinstance(each, snn.Leaky):
            each.reset_mem()
    wanted = torch.stack([net(4 * IMAGE)[0] for _ in range(4)])
    assert torch.equal(model(4 * IMAGE), wanted)
    assert 0 < wanted.mean() < 1


def test_loops_over_steps_are_told_apart() -> None:
    snn = pytest.importorskip("snntorch")

    class Loop(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc1, self.lif1 = nn.Linear(7, 5), snn.Leaky(beta=0.9)

        def forward(self, x: Tensor) -> Tensor:
            mem = self.lif1.init_leaky()
            for _ in range(3):
                spikes, mem = self.lif1(self.fc1(x), mem)
            return spikes

    with pytest.raises(ImportFailedError) as caught:
        from_torch(Loop(), torch.randn(2, 7))
    assert "twice" in caught.value.diagnostics[0].message or "from step to step" in caught.value.diagnostics[0].message

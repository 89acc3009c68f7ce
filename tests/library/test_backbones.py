"""The standard backbones compute what the peers' models do with the same weights, and have as many of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import bcgraph
from bcgraph import schema
from bcgraph.profile import profile

# The neuron that SpikingJelly has by default: the current decays with the membrane, and it fires at the threshold too.
NODE = """
bcg 1
neuron node(tau=2.0, threshold=1.0) {
  state v = 0
  u = v + (I - v) / tau
  s = spike(u - threshold + 1e-12, atan())
  v = u * (1 - s)
}
network n { input = INPUT; steps = STEPS; neuron = NEURON; backbone = BACKBONE }
"""


def network(backbone: str, given: str, *, steps: int = 2, neuron: str = "node()") -> schema.NetworkSpec:
    text = NODE.lstrip().replace("INPUT", given).replace("STEPS", str(steps))
    return bcgraph.parse(text.replace("NEURON", neuron).replace("BACKBONE", backbone))


def draw(module: nn.Module) -> None:
    """Values under which norms show and neurons fire."""
    torch.manual_seed(0)
    for each in module.modules():
        if isinstance(each, nn.BatchNorm1d | nn.BatchNorm2d):
            assert each.running_mean is not None
            assert each.running_var is not None
            each.running_mean.uniform_(-0.3, 0.1)
            each.running_var.uniform_(0.2, 0.8)
            nn.init.uniform_(each.weight, 0.5, 1.5)
            nn.init.uniform_(each.bias, 0.0, 0.4)
        elif isinstance(each, nn.Conv1d | nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(each.weight)


def run(spec: schema.NetworkSpec, state: Mapping[str, Tensor], x: Tensor) -> Tensor:
    model = bcgraph.compile(spec, dtype=torch.float64, schedule="folded").eval()
    missing = set(model.state_dict()) ^ set(state)
    assert all(name.endswith("num_batches_tracked") for name in missing), sorted(missing)[:8]
    model.load_state_dict({**model.state_dict(), **state})
    with torch.no_grad():
        found: Tensor = model(x)
    return found


def by_order(spec: schema.NetworkSpec, module: nn.Module) -> dict[str, Tensor]:
    """The module's values under the names of the network, in the order in which both have them."""
    own = bcgraph.compile(spec).state_dict()
    given = module.state_dict()
    assert [tuple(v.shape) for v in own.values()] == [tuple(v.shape) for v in given.values()]
    return dict(zip(own, given.values(), strict=True))


def same(found: Tensor, wanted: Tensor) -> None:
    assert found.shape == wanted.shape
    assert float(wanted.std()) > 0
    assert float((found - wanted).abs().max()) <= 1e-9 * max(1.0, float(wanted.abs().max()))


@torch.no_grad()
def several(module: nn.Module, x: Tensor, steps: int) -> Tensor:
    return torch.stack([module(x) for _ in range(steps)])


X = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 2


# --- SpikingJelly -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("depth", "connect", "peer"),
    [(18, "add", "ADD"), (18, "mul", "AND"), (18, "iand", "IAND"), (34, "add", "ADD"), (50, "mul", "AND")],
)
# Its bottleneck silences the block by its input, the other way around than the paper (equation 5) and its basic block.
def test_sew_resnet(depth: int, connect: str, peer: str) -> None:
    sew = pytest.importorskip("spikingjelly.activation_based.model.sew_resnet")
    from spikingjelly.activation_based import neuron

    module = getattr(sew, f"sew_resnet{depth}")(spiking_neuron=neuron.LIFNode, cnf=peer, num_classes=10)
    draw(module)
    spec = network(f"sew_resnet{depth}(connect={connect}, stem=imagenet)", "image(3, 32, 32)")
    same(run(spec, module.state_dict(), X), several(module.double().eval(), X, 2))


@pytest.mark.parametrize("depth", [18, 34])
def test_ms_resnet(depth: int) -> None:
    ms = pytest.importorskip("spikingjelly.activation_based.model.ms_resnet")
    from spikingjelly.activation_based import neuron

    layers = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}[depth]
    module = ms.MSResNet(2, 3, 10, layers, base_channels=16, spiking_neuron=neuron.LIFNode)
    draw(module)
    state = {name.replace("head.", "fc."): value for name, value in module.state_dict().items()}
    spec = network(f"ms_resnet{depth}(width=16, stem=imagenet)", "image(3, 32, 32)")
    with torch.no_grad():
        same(run(spec, state, X).mean(0), module.double().eval()(X))


@pytest.mark.parametrize("depth", [11, 16])
def test_vgg(depth: int) -> None:
    vgg = pytest.importorskip("spikingjelly.activation_based.model.spiking_vgg")
    from spikingjelly.activation_based import layer, neuron

    with torch.device("meta"):
        whole = getattr(vgg, f"spiking_vgg{depth}_bn")(spiking_neuron=neuron.LIFNode, num_classes=10)
    counted = network(f"vgg{depth}(size=7)", "image(3, 224, 224)")
    assert profile(counted).parameters == sum(p.numel() for p in whole.parameters())
    narrow = [v if v == "M" else v // 8 for v in vgg.cfgs[{11: "A", 16: "D"}[depth]]]
    module = nn.Module()
    module.features = vgg.SpikingVGG.make_layers(narrow, True, neuron=neuron.LIFNode)
    module.classifier = nn.Sequential(
        layer.Linear(64, 32), neuron.LIFNode(), layer.Dropout(), layer.Linear(32, 32), neuron.LIFNode(),
        layer.Dropout(), layer.Linear(32, 10),
    )  # fmt: skip
    draw(module)
    spec = network(f"vgg{depth}(width=8, hidden=32)", "image(3, 32, 32)")
    state = module.state_dict()
    module.double().eval()
    found = run(spec, state, 2 * X)
    with torch.no_grad():
        wanted = [module.classifier(module.features(2 * X).flatten(1)) for _ in range(2)]
    same(found, torch.stack(wanted))


def test_spikformer() -> None:
    peer = pytest.importorskip("spikingjelly.activation_based.model.spikformer")
    module = peer.Spikformer(
        T=2, img_size_h=32, img_size_w=32, patch_size=4, num_classes=10, embed_dims=64, num_heads=8, depths=2
    )
    draw(module)
    spec = network("spikformer(width=64, depth=2)", "image(3, 32, 32)")
    state = by_order(spec, module)
    with torch.no_grad():
        same(run(spec, state, X), module.double().eval()(X))


def test_spike_driven_transformer() -> None:
    peer = pytest.importorskip("spikingjelly.activation_based.model.spike_driven_transformer")
    module = peer.SpikeDrivenTransformer(T=2, num_classes=10, embed_dims=64, depths=2, pooling_stat="0011")
    draw(module)
    spec = network("sdt(width=64)", "image(3, 32, 32)")
    own, given = bcgraph.compile(spec).state_dict(), module.state_dict()

    # Both name the same layers, in another order.
    def key(name: str) -> str:
        name = name.replace("patch_embed.stages.", "patch_embed.").replace(
            "patch_embed.final_stage.0", "patch_embed.conv"
        )
        name = name.replace("patch_embed.final_stage.1", "patch_embed.bn")
        for stage in range(3):
            name = name.replace(f"patch_embed.{stage}.0.", f"patch_embed.{stage}.conv.")
            name = name.replace(f"patch_embed.{stage}.1.", f"patch_embed.{stage}.bn.")
        return name

    state = {key(name): value for name, value in given.items()}
    assert {n: v.shape for n, v in state.items()} == {n: v.shape for n, v in own.items()}
    # Its last step is of the mean over time, so the readout is.
    with torch.no_grad():
        same(run(spec, state, X).mean(0), module.double().eval()(X))


# --- torchvision ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("backbone", "name"),
    [
        ("resnet18_imagenet()", "resnet18"),
        ("resnet34_imagenet()", "resnet34"),
        ("resnet50_imagenet()", "resnet50"),
        ("mobilenet_v2(stem=imagenet)", "mobilenet_v2"),
    ],
)
def test_torchvision(backbone: str, name: str) -> None:
    models = pytest.importorskip("torchvision.models")
    module = getattr(models, name)(num_classes=10)
    draw(module)
    for each in list(module.modules()):
        for child, inner in list(each.named_children()):
            if isinstance(inner, nn.ReLU6):
                setattr(each, child, nn.ReLU())  # the neuron below does not end at 6
    spec = network(backbone, "image(3, 32, 32)", steps=1, neuron="relu()")
    with torch.no_grad():
        same(run(spec, module.state_dict(), X)[0], module.double().eval()(X))


# --- independent classes ----------------------------------------------------------------------------------


class Unit(nn.Module):
    """One neuron of a plain network: its membrane is kept between calls."""

    def __init__(self) -> None:
        super().__init__()
        self.v: Tensor | float = 0.0

    def forward(self, x: Tensor) -> Tensor:
        u = self.v + (x - self.v) / 2.0
        s = (u >= 1.0).to(x.dtype)
        self.v = u * (1 - s)
        return s


def vgg9() -> nn.Module:
    def unit(a: int, b: int) -> list[nn.Module]:
        return [nn.Conv2d(a, b, 3, padding=1, bias=False), nn.BatchNorm2d(b), Unit()]

    return nn.Sequential(
        *unit(3, 8), *unit(8, 8), nn.AvgPool2d(2), *unit(8, 16), *unit(16, 16), nn.AvgPool2d(2),
        *unit(16, 32), *unit(32, 32), *unit(32, 32), nn.AvgPool2d(2), nn.Flatten(),
        nn.Linear(512, 128), Unit(), nn.Linear(128, 10),
    )  # fmt: skip


def rsnn() -> nn.Module:
    return nn.Sequential(nn.Linear(20, 16), Unit(), nn.Linear(16, 16), Unit(), nn.Linear(16, 10))


def conv1d() -> nn.Module:
    def unit(a: int, b: int, kernel: int, stride: int = 1) -> list[nn.Module]:
        return [nn.Conv1d(a, b, kernel, stride, kernel // 2, bias=False), nn.BatchNorm1d(b), Unit()]

    return nn.Sequential(
        *unit(2, 8, 9, 2), *unit(8, 8, 3), nn.MaxPool1d(2), *unit(8, 16, 3), nn.MaxPool1d(2), *unit(16, 32, 3),
        nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(32, 10),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("backbone", "given", "make", "x"),
    [
        ("vgg9(width=8)", "image(3, 32, 32)", vgg9, 3 * X),
        ("rsnn(width=16)", "vector(20)", rsnn, 8 * torch.rand(3, 20, dtype=torch.float64)),
        ("conv1d(width=8)", "signal(2, 64)", conv1d, 4 * torch.rand(3, 2, 64, dtype=torch.float64)),
    ],
)
def test_plain_networks(backbone: str, given: str, make: Callable[[], nn.Module], x: Tensor) -> None:
    module = make()
    draw(module)
    spec = network(backbone, given, steps=4)
    state = by_order(spec, module)
    same(run(spec, state, x), several(module.double().eval(), x, 4))


def test_feedback_of_a_recurrent_network() -> None:
    """`rsnn` with feedback from each layer to itself is the recurrent network of the textbooks, its norm aside."""
    text = bcgraph.format(network("rsnn(width=16)", "sequence(20)", steps=3))
    spec = bcgraph.parse(text).with_backward([(0, 0), (1, 1)])
    model = bcgraph.compile(spec, dtype=torch.float64).eval()
    state: dict[str, Any] = model.state_dict()
    x = 8 * torch.rand(3, 2, 20, dtype=torch.float64)
    spikes = [torch.zeros(2, 16, dtype=torch.float64)] * 2
    v = [torch.zeros(2, 16, dtype=torch.float64)] * 2
    for t in range(3):
        now = x[t]
        for port in range(2):
            now = F.linear(now, state[f"fc{port + 1}.weight"], state[f"fc{port + 1}.bias"])
            if t:
                back = F.linear(spikes[port], state[f"backward.{port}_{port}.conv.weight"][:, :, 0, 0])
                now = now + back / (1 + 1e-5) ** 0.5
            u = v[port] + (now - v[port]) / 2.0
            spikes[port] = (u > 1.0).to(u.dtype)
            v[port] = u * (1 - spikes[port])
            now = spikes[port]
        wanted = F.linear(now, state["fc3.weight"], state["fc3.bias"])
        assert torch.allclose(model(x)[t], wanted, atol=1e-9, rtol=0)


QK = """
block qk(width, heads) {
  qk_conv = conv(2 * width, kernel=1); qk_bn = bn(); qk_lif = neuron()
  mul {
    branch { select(0, width); SUM; attn_lif = neuron(threshold=0.5) }
    branch { select(width, width) }
  }
  proj_conv = conv(width, kernel=1); proj_bn = bn(); proj_lif = neuron()
  flatten()
}
"""


@pytest.mark.parametrize(("kind", "added"), [("token", "channel_sum(heads)"), ("channel", "place_sum()")])
def test_qk_attention(kind: str, added: str) -> None:
    """Q-K attention of Zhou et al. (2024), written as a product, on tokens and on channels."""
    attention = pytest.importorskip("spikingjelly.activation_based.layer.attention")
    module = attention.QKAttention(16, 4, kind)
    draw(module)
    text = NODE.lstrip().replace("network n", QK.replace("SUM", added) + "network n")
    for name, value in (
        ("INPUT", "signal(16, 9)"),
        ("STEPS", "3"),
        ("NEURON", "node()"),
        ("BACKBONE", "qk(width=16, heads=4)"),
    ):
        text = text.replace(name, value)
    spec = bcgraph.parse(text)
    x = 4 * torch.rand(2, 16, 9, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    state = by_order(spec, module)
    with torch.no_grad():
        same(run(spec, state, x), module.double().eval()(x.repeat(3, 1, 1, 1)).flatten(2))


@pytest.mark.parametrize(
    ("backbone", "given", "shape"),
    [
        ("vgg11(width=4, hidden=32, norm={})", "image(3, 32, 32)", (16, 3, 32, 32)),
        ("rsnn(width=32, norm={})", "sequence(12)", (6, 16, 12)),
    ],
)
def test_norm_wakes_the_vector_layers_of_a_fresh_network(backbone: str, given: str, shape: tuple[int, ...]) -> None:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    rates = {}
    for norm in ("false", "true"):
        spec = network(backbone.format(norm), given, steps=len(x) if "sequence" in given else 2)
        with torch.no_grad(), torch.random.fork_rng():
            torch.manual_seed(0)  # of dropout
            seen = bcgraph.record(bcgraph.compile(spec).train(), x, values=["s"])
        rates[norm] = float(seen[spec.ports[-1]]["s"].mean())
    assert rates["false"] < 0.01 < 0.02 < rates["true"]

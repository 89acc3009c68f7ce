"""The backbones and the complete networks that come along: what is in them, and that all of it is in order."""

from pathlib import Path

import pytest

from bcgraph import dsl, schema, shapes
from bcgraph.dsl.elaboration.library import standard_names
from bcgraph.dsl.elaboration.settings import DATA_SETS
from bcgraph.errors import CODES

SPECS = Path(__file__).parents[2] / "specs"
NETWORKS = sorted(SPECS.glob("*.bcg"))
BACKBONES = {
    "conv1d": ("sequence(1, 64)", 4, 139_338),
    "mobilenet_v2": ("image(3, 32, 32)", 35, 2_236_682),
    "ms_resnet18": ("image(3, 32, 32)", 17, 11_173_962),
    "ms_resnet34": ("image(3, 32, 32)", 33, 21_282_122),
    "resnet18": ("image(3, 32, 32)", 17, 11_173_962),
    "resnet18_imagenet": ("image(3, 64, 64)", 17, 11_181_642),
    "resnet34_imagenet": ("image(3, 64, 64)", 33, 21_289_802),
    "resnet50_imagenet": ("image(3, 64, 64)", 49, 23_528_522),
    "rsnn": ("sequence(40)", 2, 23_050),
    "sdt": ("image(3, 32, 32)", 19, 10_234_378),
    "sew_resnet18": ("image(3, 32, 32)", 20, 11_173_962),
    "sew_resnet34": ("image(3, 32, 32)", 36, 21_282_122),
    "sew_resnet50": ("image(3, 32, 32)", 53, 23_520_842),
    "spikformer": ("image(3, 32, 32)", 25, 9_310_906),
    "resnet19": ("image(3, 32, 32)", 18, 12_697_994),
    "resnet34": ("image(3, 32, 32)", 33, 21_282_122),
    "tiny": ("image(3, 32, 32)", 5, 19_994),
    "vgg11": ("image(3, 32, 32)", 10, 28_149_514),
    "vgg16": ("image(3, 32, 32)", 15, 33_646_666),
    "vgg9": ("image(3, 32, 32)", 8, 5_942_218),
    "vggsnn": ("sequence(2, 48, 48)", 8, 9_268_746),
}


def network(call: str, form: str = "image(3, 32, 32)") -> schema.NetworkSpec:
    return dsl.parse(f"bcg 1\nnetwork net {{ input = {form}; steps = 4; backbone = {call} }}\n")


def trained(body: schema.Body, shape: shapes.Shape) -> dict[str, int]:
    """The number of trained values of each layer that has any."""
    found: dict[str, int] = {}
    for layer in body:
        if isinstance(layer, schema.Join):
            for branch in layer.branches:
                found |= trained(branch, shape)
        elif count := shapes.parameters(layer, shape):
            found[layer.name] = count
        shape = shapes.infer(layer, shape)
    return found


def shape(spec: schema.NetworkSpec) -> shapes.Shape:
    return spec.input.shape


def test_every_backbone_file_has_a_row() -> None:
    names = standard_names()
    assert set(names) == {path.stem for path in (SPECS / "backbones").glob("*.bcg")}
    # These hold parts.
    assert set(names) - {"residual", "sew", "ms", "vgg"} == set(BACKBONES)


@pytest.mark.parametrize("name", BACKBONES)
def test_backbone(name: str) -> None:
    form, ports, parameters = BACKBONES[name]
    spec = network(f"{name}()", form)
    assert len(spec.ports) == ports
    assert sum(trained(spec.backbone.body, shape(spec)).values()) == parameters
    assert shapes.run(spec.backbone.body, shape(spec)) == (10,)
    assert spec.backbone.source == ""
    assert dsl.parse(dsl.format_spec(spec)) == spec
    wider = network(f"{name}(width=8, classes=100)", form)
    assert wider.ports == spec.ports
    assert shapes.run(wider.backbone.body, shape(wider)) == (100,)


def residual_names(stages: tuple[int, ...], channels: tuple[int, ...]) -> list[str]:
    """The layers with trained values of a residual network as torchvision names them, in its order of parameters."""
    found = ["conv1", "bn1"]
    before = channels[0]
    for stage, (blocks, width) in enumerate(zip(stages, channels, strict=True), 1):
        for block in range(blocks):
            prefix = f"layer{stage}.{block}."
            found += [prefix + name for name in ("conv1", "bn1", "conv2", "bn2")]
            if before != width or (stage > 1 and block == 0):
                found += [prefix + "downsample.0", prefix + "downsample.1"]
            before = width
    return found


@pytest.mark.parametrize(
    ("call", "stages", "channels", "end"),
    [
        ("resnet18()", (2, 2, 2, 2), (64, 128, 256, 512), ["fc"]),
        ("resnet34(width=8)", (3, 4, 6, 3), (8, 16, 32, 64), ["fc"]),
        ("resnet19()", (3, 3, 2), (128, 256, 512), ["fc1", "fc2"]),
        ("tiny()", (1, 1), (16, 32), ["fc"]),
    ],
)
def test_names_follow_torchvision(
    call: str, stages: tuple[int, ...], channels: tuple[int, ...], end: list[str]
) -> None:
    spec = network(call)
    assert list(trained(spec.backbone.body, (3, 32, 32))) == residual_names(stages, channels) + end
    ports = ["lif1"]
    for stage, blocks in enumerate(stages, 1):
        ports += [f"layer{stage}.{block}.lif{number}" for block in range(blocks) for number in (1, 2)]
    assert list(spec.ports) == ports + (["lif2"] if "resnet19" in call else [])


def test_parameters_of_resnet18_layer_by_layer() -> None:
    counts = trained(network("resnet18()").backbone.body, (3, 32, 32))
    assert counts["conv1"] == 3 * 64 * 9
    assert counts["bn1"] == 128
    assert counts["layer2.0.conv1"] == 64 * 128 * 9
    assert counts["layer2.0.downsample.0"] == 64 * 128
    assert counts["layer4.1.conv2"] == 512 * 512 * 9
    assert counts["fc"] == 512 * 10 + 10


def test_spikes_follow_the_sum() -> None:
    body = network("tiny()").backbone.body
    kinds = [layer.kind for layer in body]
    joins = [number for number, kind in enumerate(kinds) if kind == "sum"]
    assert len(joins) == 2
    assert [kinds[number + 1] for number in joins] == ["neuron", "neuron"]
    first, second = (body[number] for number in joins)
    assert isinstance(first, schema.Sum)
    assert isinstance(second, schema.Sum)
    assert first.branches[1] == ()
    assert [layer.kind for layer in second.branches[1]] == ["conv", "bn"]


def test_without_residuals_nothing_is_added() -> None:
    plain = network("resnet18(residual=false)")
    assert plain.ports == network("resnet18()").ports
    assert {layer.kind for layer in schema.walk(plain.backbone.body)} == {
        "conv", "bn", "neuron", "adaptive_avgpool", "flatten", "linear",
    }  # fmt: skip
    assert not any("downsample" in name for name in trained(plain.backbone.body, (3, 32, 32)))


def test_sizes_within_the_backbones() -> None:
    body = network("vggsnn()", "sequence(2, 48, 48)").backbone.body
    current: shapes.Shape = (2, 48, 48)
    sizes = []
    for layer in body:
        current = shapes.infer(layer, current)
        if layer.kind in ("conv", "avgpool"):
            sizes.append(current)
    assert sizes == [
        (64, 48, 48), (128, 48, 48), (128, 24, 24), (256, 24, 24), (256, 24, 24), (256, 12, 12),
        (512, 12, 12), (512, 12, 12), (512, 6, 6), (512, 6, 6), (512, 6, 6), (512, 3, 3),
    ]  # fmt: skip


@pytest.mark.parametrize("path", NETWORKS, ids=lambda path: path.stem)
def test_complete_network(path: Path) -> None:
    spec = dsl.load(path)
    assert spec.name == path.stem
    assert dsl.parse(dsl.format_spec(spec)) == spec
    assert shapes.run(spec.backbone.body, shape(spec))[1:] == ()


def test_the_digits_networks_fit_their_data() -> None:
    digits = dsl.load(SPECS / "digits.bcg")
    assert (digits.data.name, digits.input, len(digits.ports)) == ("digits", schema.ImageInput(1, 8, 8), 5)
    rows = dsl.load(SPECS / "tiny_digits_rows.bcg")
    assert (rows.data.name, rows.input, rows.steps) == ("digits_rows", schema.SequenceInput(1, 1, 8), 8)
    assert (rows.readout, rows.train.loss) == ("last", "last")


def test_the_language_knows_the_data_sets() -> None:
    from bcgraph.data import catalog

    assert set(DATA_SETS) == set(catalog.names())
    assert "E080" in CODES

"""Every layer of the language computes what the reference says, in all schedules, and what a file of it says."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import bcgraph
from bcgraph import errors, schema
from bcgraph.layers import STANDARD
from bcgraph.profile import profile
from tests.equivalence.support import SCHEDULES, compare
from tests.reference import state_shapes

HEAD = "bcg 1\nblock net() {\n  conv1 = conv(8, kernel=3); lif1 = neuron()\n"
END = "\n  lif2 = neuron(); flatten(); fc = linear(5)\n}\n"
SIGNAL = "sequence(4, 12)"
IMAGE = "image(3, 6, 8)"

BODIES = {
    "rectangular": (
        IMAGE,
        "a = conv(6, kernel=[1, 5], stride=[1, 2], dilation=[1, 2]); bn2 = bn()\n"
        "maxpool([2, 1], padding=[1, 0]); adaptive_avgpool([2, 1])",
    ),
    "rounded-up": (IMAGE, "maxpool(3, stride=2, ceil=true)"),
    "signal": (
        SIGNAL,
        "a = conv(6, kernel=3, stride=2, bias=true, groups=2); bn2 = bn()\nmaxpool(2); avgpool(2, stride=1)",
    ),
    "signal-pooled": (SIGNAL, "adaptive_maxpool(3)"),
    "transposed": (
        IMAGE,
        "a = conv_transpose(6, kernel=3, stride=2, padding=1, output_padding=1, groups=2, bias=true)",
    ),
    "transposed-signal": (SIGNAL, "a = conv_transpose(4, kernel=2, stride=2)"),
    "upsample": (IMAGE, "upsample(2); a = conv(4, kernel=3)"),
    "upsample-signal": (SIGNAL, "upsample(3)"),
    "pad": (IMAGE, "pad(1, 2, 0, 3); a = conv(4, kernel=3, padding=0, stride=2)"),
    "pad-signal": (SIGNAL, "pad(left=2)"),
    "layernorm": (IMAGE, "ln = layernorm(eps=0.001)"),
    "layernorm-plain": (SIGNAL, "ln = layernorm(affine=false)"),
    "static-signal": ("signal(4, 12)", "adaptive_avgpool(4)"),
    "groupnorm": (IMAGE, "gn = groupnorm(2)"),
    "groupnorm-signal": (SIGNAL, "gn = groupnorm(4, affine=false)"),
    "scale": (IMAGE, "s = scale(0.3); times(2.5)"),
    "mul": (
        IMAGE,
        "mul {\nbranch { }\nbranch { adaptive_avgpool(1); a = conv(8, kernel=1, bias=true); sq = neuron() }\n}",
    ),
    "mul-by-vector": (
        IMAGE,
        "mul {\nbranch { }\nbranch { adaptive_avgpool(1); flatten(); a = linear(4); sq = neuron() }\n}",
    ),
    "mul-by-heads": (SIGNAL, "mul {\nbranch { channel_sum(2); qk = neuron() }\nbranch { a = conv(8, kernel=1) }\n}"),
    "iand": (IMAGE, "mul {\nbranch { }\nbranch { a = conv(8, kernel=3); s = neuron(); complement() }\n}"),
    "channels": (
        IMAGE,
        "shuffle(2)\nconcat {\nbranch { select(0, 3) }\nbranch { select(3, 5); a = conv(3, kernel=1) }\n}",
    ),
    "attention": (
        IMAGE,
        "tokens()\nconcat {\nbranch { q = conv(8, kernel=1); qn = neuron() }\n"
        "branch { k = conv(8, kernel=1); kn = neuron() }\nbranch { v = conv(8, kernel=1); vn = neuron() }\n}\n"
        "attention(heads=2, scale=0.5)",
    ),
    "attention-of-few-places": (SIGNAL, "adaptive_avgpool(2); a = conv(24, kernel=1); attn = neuron(); attention(2)"),
    "place-sum": (
        IMAGE,
        "mul {\nbranch { a = conv(8, kernel=3); q = neuron() }\nbranch { place_sum(); kv = neuron() }\n}",
    ),
}


def network(given: str, body: str, backward: str = "") -> schema.NetworkSpec:
    head = f"network n {{\n  input = {given}; steps = 3; backbone = net()\n{backward}\n}}\n"
    return bcgraph.parse(HEAD + body + END + head)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize(("given", "body"), BODIES.values(), ids=BODIES)
def test_schedules_agree(given: str, body: str, training: bool, schedule: str) -> None:
    compare(
        network(given, body, "  backward lif2 -> lif1\n  backward lif2 -> lif2 { delay = 2 }"),
        schedule,
        training=training,
    )


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("given", ["sequence(7)", "vector(7)"])
def test_vectors_as_input(given: str, schedule: str) -> None:
    text = f"""
bcg 1
block net() {{ fc1 = linear(9); bn1 = bn(); lif1 = neuron(); fc2 = linear(4) }}
network n {{ input = {given}; steps = 4; backbone = net(); backward lif1 -> lif1 }}
"""
    compare(bcgraph.parse(text.lstrip()), schedule, training=True)


@pytest.mark.parametrize(("given", "body"), BODIES.values(), ids=BODIES)
def test_text_parameters_and_files(given: str, body: str, tmp_path: Path) -> None:
    """Texts come back as they were, sizes are those of the state dict, and each file proves itself."""
    spec = network(given, body)
    assert bcgraph.parse(bcgraph.format(spec)) == spec
    shapes = state_shapes(spec)
    model = bcgraph.compile(spec)
    assert {name: tuple(value.shape) for name, value in model.state_dict().items()} == shapes
    trained = sum(torch.Size(s).numel() for name, s in shapes.items() if "running" not in name and "num_" not in name)
    assert profile(spec).parameters == trained
    for form in ("unrolled", "step"):
        assert bcgraph.export(spec, tmp_path / f"{form}.onnx", form=form).proof.differing_samples <= 0.05
    assert bcgraph.export(spec, tmp_path / "net.py").proof.differing_samples <= 0.05


def test_every_layer_is_run_above() -> None:
    called = {n.layer for given, body in BODIES.values() for n in schema.walk(network(given, body).backbone.body)
              if isinstance(n, schema.Standard)}  # fmt: skip
    assert called == set(STANDARD)
    assert {target for layer in STANDARD.values() for target in layer.emitters} == {"onnx", "python", "nir", "c"}
    assert all({"onnx", "python"} <= set(layer.emitters) for layer in STANDARD.values())


@pytest.mark.parametrize(
    ("given", "body"),
    [
        (IMAGE, "a = conv(6, kernel=3, stride=[1, 2], dilation=[1, 2]); bn2 = bn(); avgpool([2, 1])"),
        (SIGNAL, "a = conv(6, kernel=3, stride=2, bias=true, groups=2); bn2 = bn()"),
    ],
    ids=["rectangular", "signal"],
)
def test_nir_says_rectangles_and_signals(given: str, body: str, tmp_path: Path) -> None:
    assert bcgraph.export(network(given, body), tmp_path / "net.nir").proof.differing_samples <= 0.05


def test_nir_says_scales_and_refuses_the_rest_by_name(tmp_path: Path) -> None:
    body = "s = scale(0.3); times(2.5)"
    assert bcgraph.export(network(IMAGE, body), tmp_path / "net.nir").proof.differing_samples <= 0.05
    with pytest.raises(errors.CompileError) as caught:
        bcgraph.export(
            network(IMAGE, "upsample(2); a = layernorm(); mul {\nbranch { }\nbranch { b = conv(8) }\n}"),
            tmp_path / "net.nir",
        )
    found = [(d.code, d.span.line, d.message) for d in caught.value.diagnostics]
    assert [line for _, line, _ in found] == [4, 4, 4]
    assert {code for code, _, _ in found} == {"E073"}
    assert [message.split("`")[3] if message.count("`") > 2 else message for _, _, message in found] == [
        "upsample", "layernorm", "`mul` is a product, which NIR does not have",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("body", "code", "part"),
    [
        ("a = conv(6, kernel=[1, 3, 5])", "E040", "two numbers"),
        ("a = conv(6, kernel=[0, 3])", "E041", "cannot be 0"),
        ("adaptive_avgpool(1); flatten(); a = conv(6)", "E050", "needs channels and places"),
        ("tokens(); a = conv(6, kernel=[1, 3])", "E050", "no rows and columns"),
        ("tokens(); tokens()", "E050", "image"),
        ("tokens(); pad(top=1)", "E050", "no top"),
        ("pad(right=-1)", "E050", "at least 0"),
        ("gn = groupnorm(3)", "E050", "do not divide into 3 groups"),
        ("attention(heads=2)", "E050", "Q, K and V"),
        ("select(6, 3)", "E050", "among 8"),
        ("a = conv_transpose(4, kernel=1, padding=9)", "E050", "nothing is left"),
        ("a = conv_transpose(4, output_padding=2)", "E050", "not below the stride"),
        ("ln = layernorm(eps=0.0)", "E050", "eps"),
        ("avgpool(2, ceil=true)", "E042", "ceil"),
        ("mul {\nbranch { }\nbranch { a = conv(3) }\n}", "E051", "do not fit"),
        ("mul { a = conv(3) }", "E035", "does not belong directly in `mul`"),
        ("sea { a = conv(3) }", "E035", "sea"),
    ],
)
def test_mistakes_are_located(body: str, code: str, part: str) -> None:
    with pytest.raises(errors.SpecError) as caught:
        network(IMAGE, body)
    first = caught.value.diagnostics[0]
    assert (first.code, first.span.line if first.span else 0) == (
        code,
        4 + body[: body.find("a = conv(3)")].count("\n") * ("directly" in part),
    )
    assert part in first.message


def test_a_layer_of_today_keeps_its_digest() -> None:
    """A block of an older file may have a new layer's name, and square sizes are written as they were."""
    blocks = "bcg 1\nblock scale(n) { c = conv(n, kernel=SIZE) }\nblock net() { a = scale(4); l = lif(); flatten() }\n"
    text = blocks + "network n { input = image(1, 4, 4); steps = 1; backbone = net() }"
    square, listed = (bcgraph.parse(text.replace("SIZE", size)) for size in ("3", "[3, 3]"))
    assert square.backbone.digest == listed.backbone.digest
    assert [n.name for n in schema.walk(square.backbone.body)] == ["a.c", "l", "flatten"]


def test_nir_refuses_kernels_that_are_not_square(tmp_path: Path) -> None:
    with pytest.raises(errors.CompileError, match="`a` has a kernel that is not square"):
        bcgraph.export(network(IMAGE, "a = conv(6, kernel=[1, 5])"), tmp_path / "net.nir")

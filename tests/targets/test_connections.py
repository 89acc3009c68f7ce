"""Connections of every kind in files: written and proved by targets that can say them, else refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import bcgraph
from bcgraph import runtime, schema
from bcgraph.errors import CompileError
from tests.equivalence.support import state
from tests.equivalence.test_connections import CONNECTED, OWN

EVERY = (
    "backward @2 -> @0; backward @2 -> @0 { delay = 2; read = v }"
    "; backward @3 -> @1 { through = deep(); join = mul }; backward @1 -> @1 { through = branched(); read = u }"
    "; forward @0 -> @2 { delay = 2; through = project(kernel=3) }; forward @2 -> @3 { delay = 0; through = vector() }"
)


def own(connections: str, form: str = "image") -> schema.NetworkSpec:
    return bcgraph.parse(OWN.replace("INPUT", form).replace("CONNECTIONS", connections))


def weights(spec: schema.NetworkSpec) -> dict[str, torch.Tensor]:
    """Values under which the ports fire, so that the proof has something to compare."""
    return {name: value.float() if value.is_floating_point() else value for name, value in state(spec).items()}


FILES = ("unrolled.onnx", "step.onnx", "scan.onnx", "net.py", "net.pt2")


@pytest.mark.parametrize(
    ("file", "form"),
    [
        # Each export of torch takes seconds; tests/targets/test_pt2.py has one of a sequence.
        pytest.param(file, form, marks=[pytest.mark.nightly] if (file, form) == ("net.pt2", "sequence") else [])
        for file in FILES
        for form in ("image", "sequence")
    ],
)
def test_every_kind_of_connection_in_a_file(file: str, form: str, tmp_path: Path) -> None:
    spec = own(EVERY, form)
    options = {"form": file.removesuffix(".onnx")} if file.endswith(".onnx") else {}
    report = bcgraph.export(spec, tmp_path / file, state_dict=weights(spec), **options)
    assert report.proof is not None
    assert 0.05 < report.proof.firing < 0.95
    assert report.proof.differing_spikes == 0.0


def test_the_file_of_a_block_with_a_bias_after_its_norm(tmp_path: Path) -> None:
    """One step has to know that nothing came before the first."""
    spec = own(CONNECTED["a bias after a norm"])
    bcgraph.export(spec, tmp_path / "step.onnx", form="step", state_dict=weights(spec))


def test_the_norms_of_all_connections_share_a_state(tmp_path: Path) -> None:
    """Those with shared statistics are deferred before those with statistics for each step."""
    block = "block own_step(channels) { resize(nearest); bn = bn(statistics=per_step); conv = conv(channels) }\n\n"
    text = OWN.replace("INPUT", "image").replace(
        "CONNECTIONS", "backward @1 -> @0; backward @2 -> @2 { through = own_step() }"
    )
    spec = bcgraph.parse(text.replace("block net()", f"{block}block net()"))
    bcgraph.export(spec, tmp_path / "step.onnx", form="step", state_dict=weights(spec))
    states = runtime.Network(tmp_path / "step.onnx").signature.states
    assert [name for name, _, _ in states if name.startswith("exists")] == ["exists@-1"]


@pytest.mark.parametrize(
    ("file", "connection"),
    [
        ("net.c", CONNECTED["a weight for each channel"]),
        ("net.pt2", CONNECTED["a bias after a norm"]),
        # Nothing in an exported program can be called `forward`.
        ("net.pt2", "forward @0 -> @2 { delay = 2; through = biased() }"),
    ],
)
def test_the_file_of_a_users_own_projection_with_settled_norms(file: str, connection: str, tmp_path: Path) -> None:
    report = bcgraph.export(own(connection), tmp_path / file)
    assert report.proof is not None
    assert report.proof.settled is not None
    assert report.proof.settled.ports[2].firing > 0.1
    assert report.proof.settled.differing_spikes == 0.0


def test_nir_carries_what_it_can_say(tmp_path: Path) -> None:
    spec = own("backward @1 -> @0 { through = branched() }; forward @0 -> @1 { delay = 0 }")
    report = bcgraph.export(spec, tmp_path / "net.nir", state_dict=weights(spec))
    assert report.losses == ()


@pytest.mark.parametrize(
    "layers",
    [
        "c = conv(channels, 3, groups=2)",
        "c = conv(channels, 3, padding=2, dilation=2)",
        "c = conv(channels, 2, padding=1, stride=2)",
        "sum { branch { c = conv(channels, 1, padding=1, stride=3) }; branch { } }",
        "avgpool(3, stride=1, padding=1); adaptive_avgpool(1); c = conv(channels, 1)",
    ],
)
def test_nir_carries_windows_of_vectors(layers: str, tmp_path: Path) -> None:
    """All of a window but one place meets the padding, since a vector counts as an image of 1x1."""
    spec = bcgraph.parse(
        f"bcg 1\nblock p(channels) {{ {layers} }}\nblock b() {{ l1 = linear(8); lif = lif(); l2 = linear(3) }}\n"
        "network n { input = sequence(6); steps = 8; backbone = b(); feedback = p(); backward @0 -> @0 }\n"
    )
    report = bcgraph.export(spec, tmp_path / "net.nir", state_dict=weights(spec))
    assert report.proof.firing > 0.1
    assert report.proof.differing_spikes == 0.0


@pytest.mark.parametrize(
    ("connection", "reason"),
    [
        ("backward @1 -> @0 { join = mul }", "multiplies the current"),
        ("backward @1 -> @0 { read = v }", "it sends `v`"),
        ("backward @2 -> @0", "changes the resolution from 4x4 to 7x7"),
        ("forward @0 -> @1 { delay = 1 }", "closes no loop"),
        ("backward @1 -> @0 { delay = 2 }", "its delay is 2"),
        ("backward @1 -> @0 { delay = 2 }; backward @1 -> @0", "another connection of these ports has 1"),
        ("backward @1 -> @0 { through = pooled() }", "a layer of its projection is a maximum"),
    ],
)
def test_nir_refuses_a_connection_by_name(connection: str, reason: str, tmp_path: Path) -> None:
    pooled = "block pooled(channels) { maxpool(3, stride=1, padding=1); conv = conv(channels, 1) }\n\nblock net()"
    text = OWN.replace("INPUT", "image").replace("CONNECTIONS", connection).replace("block net()", pooled)
    spec = bcgraph.parse(text)
    with pytest.raises(CompileError, match=reason) as refused:
        bcgraph.export(spec, tmp_path / "net.nir", state_dict=weights(spec))
    assert refused.value.code == "E073"
    assert refused.value.diagnostics[0].span is not None
    assert not (tmp_path / "net.nir").exists()


def test_what_is_left_out_of_a_nir_file_leaves_the_others_their_weights(tmp_path: Path) -> None:
    """The further connection of two becomes the only one, under the name that this has."""
    spec = own("backward @1 -> @0 { read = u }; backward @1 -> @0 { delay = 2 }")
    assert sorted(spec.prefixes().values()) == ["backward.1_0", "backward.1_0_2"]
    report = bcgraph.export(spec, tmp_path / "net.nir", state_dict=weights(spec), allow_loss=True)
    assert len(report.losses) == 2

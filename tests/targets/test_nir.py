"""NIR files: run by an interpreter of their own, spike for spike what the reference makes; the rest is refused."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from torch import Tensor

import bcgraph
from bcgraph import schema
from bcgraph.compiler.targets.nir import emitter as target
from bcgraph.compiler.targets.nir import file as nir_file
from bcgraph.compiler.targets.nir import limits, runtime
from bcgraph.errors import BcgraphError, CompileError, RunError
from bcgraph.normalization import Normalization
from bcgraph.schema import NetworkSpec
from bcgraph.search.space.search_space import port_resolutions, space
from tests import neurons
from tests.equivalence import support
from tests.equivalence.support import average, bn, conv, flatten, lif, linear, pool
from tests.reference import Reference
from tests.targets.nir_reader import Reader

BACKBONES = {
    "tiny": ("tiny(width=4, classes=5)", "image(2, 9, 9)"),
    "tiny-frames": ("tiny(width=4, classes=5)", "sequence(2, 9, 9)"),
    "resnet18": ("resnet18(width=4, classes=5)", "image(2, 8, 8)"),
    "resnet18-plain": ("resnet18(width=4, classes=5, residual=false)", "sequence(2, 8, 8)"),
    "resnet19": ("resnet19(width=4, classes=5)", "image(2, 8, 8)"),
    "resnet34": ("resnet34(width=4, classes=5)", "image(2, 8, 8)"),
    "vggsnn": ("vggsnn(width=4, classes=5)", "sequence(2, 48, 48)"),
}


def network(backbone: str, *, backward: str = "") -> NetworkSpec:
    written, given = BACKBONES[backbone]
    settings = f"input = {given}; steps = 4; backbone = {written}\n{backward}"
    return bcgraph.parse(f"bcg 1\nnetwork n {{\n{settings}\n}}\n")


def sets(spec: NetworkSpec) -> list[list[tuple[int, int]]]:
    """No connection, one on the port itself, and as many as possible of the longest that keep the resolution."""
    sizes = port_resolutions(spec)
    last = len(sizes) - 1
    pairs = [(j, i) for j in range(len(sizes)) for i in range(j) if sizes[j] == sizes[i]]
    longest = sorted(pairs, key=lambda pair: pair[0] - pair[1])[-3:]
    return [[], [(last, last), (1, 1)], [*longest, (0, 0)]]


def frames(spec: NetworkSpec, x: Tensor) -> list[np.ndarray]:
    return list(x.numpy()) if spec.input.kind == "sequence" else [x.numpy()] * spec.steps


def same_as_the_reference(spec: NetworkSpec, path: Path, **options: Any) -> Reader:
    """Export `spec` and hold the file to the reference: every spike of every port and step, and the outputs."""
    state, x = support.state(spec), support.batch(spec)
    bcgraph.export(spec, path, state_dict=state, inputs=x, **options)
    expected = Reference(spec, state)(x)
    assert expected.rate() > 0.02
    reader = Reader(path)
    nodes = {label: name for name, label in reader.labels.items() if reader.kind(name) in ("LIF", "IF")}
    assert list(nodes) == [label for label in nodes if label in spec.ports]
    given = x if "normalization" not in options else options["normalization"].raw(x)
    for t, values in enumerate(reader.run(frames(spec, given))):
        for port, name in enumerate(spec.ports):
            wanted = expected.spikes[port, t].detach().numpy()
            assert np.array_equal(values[nodes[name]], wanted), f"spikes of {name} at step {t}"
        np.testing.assert_allclose(values["output"], expected.output[t].detach().numpy(), atol=1e-5)
    return reader


@pytest.mark.parametrize("number", [0, 1, 2], ids=["none", "self", "longest"])
@pytest.mark.parametrize("backbone", BACKBONES)
def test_every_backbone_spike_for_spike(backbone: str, number: int, tmp_path: Path) -> None:
    spec = network(backbone)
    spec = spec.with_backward(sets(spec)[number])
    reader = same_as_the_reference(spec, tmp_path / "net.nir")
    back = {(reader.labels[a], reader.labels[b]) for a, b in reader.back()}
    # Each connection is one edge that leads back, from behind its projection to the current of its target.
    wanted = {(f"backward.{bc.source}_{bc.target}.bn", spec.ports[bc.target]) for bc in spec.backward}
    assert {(a.removesuffix(".vector"), b) for a, b in back} == wanted


@pytest.mark.parametrize("tau", [0.0, 0.3, 0.5, 0.75, 0.9, 1.0])
def test_every_decay(tau: float, tmp_path: Path) -> None:
    neuron = neurons.lif(tau=tau, threshold=0.7)
    spec = support.small(steps=6, neuron=neuron, backward=[(0, 0), (1, 0), (3, 3)])
    reader = same_as_the_reference(spec, tmp_path / "net.nir")
    (lif1,) = [name for name, label in reader.labels.items() if label == "lif1"]
    assert reader.kind(lif1) == ("IF" if tau == 1.0 else "LIF")
    if tau == 0.5:
        assert set(reader.nodes[lif1]["tau"].ravel()) == {np.float32(2e-4)}
        assert set(reader.nodes[lif1]["r"].ravel()) == {2.0}


HANDMADE: dict[str, tuple[list[Any], list[tuple[int, ...]]]] = {
    # Averages in a row, between neurons, and before the layer that takes their factor up.
    "pools": (
        [conv("a", 3), lif("s1"), pool("p1"), pool("p2", 1), lif("s2"), average(), flatten(), linear("fc", 4)],
        [(0, 0), (1, 1)],
    ),
    "padding": (
        [
            conv("a", 4, bias=True),
            lif("s1"),
            schema.Pool(name="p", kind="avgpool", kernel=3, stride=2, padding=1),
            conv("b", 6, groups=2, bias=True, dilation=2, padding=2),
            lif("s2"),
            average(size=3),
            flatten(),
            linear("fc", 4, bias=False),
        ],
        [(1, 1)],
    ),
    # Norms that no convolution takes up, on an image and on a vector.
    "norms": (
        [conv("a", 3), lif("s1"), bn("n1"), lif("s2"), flatten(), linear("f", 5), bn("n2"), lif("s3"), linear("fc", 4)],
        [(1, 0), (2, 2)],
    ),
    # The same value twice in a sum, a sum of different factors, and one that several read.
    "sums": (
        [
            conv("a", 3),
            lif("s1"),
            schema.Sum(name="twice", branches=((), (), (pool("p", 1),))),
            schema.Sum(
                name="mixed", branches=((schema.Pool(name="q", kind="avgpool", kernel=3, stride=1, padding=1),), ())
            ),
            schema.Sum(name="more", branches=((conv("b", 3), bn("b_bn"), lif("s2")), ())),
            flatten(),
            linear("fc", 4),
        ],
        [(1, 0)],
    ),
    "nothing but an average at the end": ([conv("a", 4), lif("s1"), average(), flatten()], [(0, 0)]),
}


@pytest.mark.parametrize("sequence", [False, True], ids=["image", "sequence"])
@pytest.mark.parametrize("name", HANDMADE)
def test_networks_built_by_hand(name: str, sequence: bool, tmp_path: Path) -> None:
    body, backward = HANDMADE[name]
    same_as_the_reference(support.network(body, sequence=sequence, steps=4, backward=backward), tmp_path / "net.nir")


def test_normalization_inside(tmp_path: Path) -> None:
    spec = network("tiny-frames").with_backward([(2, 1)])
    same_as_the_reference(spec, tmp_path / "net.nir", normalization=Normalization((0.4, -0.1), (0.3, 2.0), True))


def test_the_names_are_in_topological_order(tmp_path: Path) -> None:
    spec = network("resnet18").with_backward([(4, 1), (8, 5)])
    bcgraph.export(spec, tmp_path / "net.nir")
    reader = Reader(tmp_path / "net.nir")
    assert next(iter(reader.nodes)) == "input"
    assert list(reader.nodes)[-1] == "output"
    assert len(reader.back()) == 2
    with h5py.File(tmp_path / "net.nir") as file:
        facts = {k: v[()].decode() for k, v in file["node/metadata"].items()}
    assert bcgraph.parse(facts["bcgraph.spec"]) == spec
    assert json.loads(facts["bcgraph.losses"]) == []
    assert facts["bcgraph.dt"] == "0.0001"


REFUSED = {
    "@4 -> @0": "it changes the resolution from 5x5 to 9x9, and NIR has no resize",
    "@2 -> @1": "its delay is 2",
}


def lossy() -> NetworkSpec:
    lines = "backward layer2.0.lif2 -> lif1\nbackward @2 -> @1 { delay = 2 }\nbackward @2 -> @2"
    return network("tiny", backward=lines)


def test_each_edge_that_cannot_be_said_is_named(tmp_path: Path) -> None:
    with pytest.raises(CompileError) as caught:
        bcgraph.export(lossy(), tmp_path / "net.nir")
    found = {d.message.split(" (")[0]: d for d in caught.value.diagnostics}
    assert set(found) == set(REFUSED)
    for edge, reason in REFUSED.items():
        assert found[edge].code == "E073"
        assert reason in found[edge].message
        assert found[edge].span is not None
    assert "--allow-loss" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_losses_are_allowed_and_told(tmp_path: Path) -> None:
    spec = lossy()
    state, x = support.state(spec), support.batch(spec, 16)
    report = bcgraph.export(spec, tmp_path / "net.nir", state_dict=state, inputs=x, allow_loss=True)
    assert len(report.losses) == 2
    assert "written with a delay of 1" in report.losses[0]
    assert "left out" in report.losses[1]
    assert report.changed is not None
    less = spec.with_backward([(2, 1), (2, 2)])
    expected = Reference(less, {k: v for k, v in state.items() if not k.startswith("backward.4_0")})(x).output
    whole = Reference(spec, state)(x).output
    last = [values["output"] for values in Reader(tmp_path / "net.nir").run(frames(spec, x))]
    np.testing.assert_allclose(np.stack(last), expected.detach().numpy(), atol=1e-5)
    changed = (whole.mean(0).argmax(1) != expected.mean(0).argmax(1)).double().mean()
    assert report.changed == pytest.approx(float(changed))


def test_a_connection_without_a_loop(tmp_path: Path) -> None:
    """Between two branches: readers would not delay it at all."""
    branches = ((conv("a", 3), lif("s1"), conv("b", 3)), (conv("c", 3), lif("s2"), conv("d", 3)))
    body = [schema.Sum(name="sum", branches=branches), lif("s3"), flatten(), linear("fc", 4)]
    with pytest.raises(CompileError, match=r"@1 -> @0 \(`s2` -> `s1`\): it closes no loop"):
        bcgraph.export(support.network(body, backward=[(1, 0), (2, 0)]), tmp_path / "net.nir")


def test_a_vector_onto_an_image(tmp_path: Path) -> None:
    body = [conv("a", 3), average(), lif("s1"), flatten(), linear("f", 6), lif("s2"), linear("fc", 4)]
    with pytest.raises(CompileError, match="no such reshape"):
        bcgraph.export(support.network(body, backward=[(1, 0)]), tmp_path / "net.nir")
    # The other way round there is one: a flattening.
    same_as_the_reference(support.network(body, backward=[(0, 0), (1, 1)]), tmp_path / "net.nir")


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ([conv("a", 3), lif("s"), pool("p", kind="maxpool"), flatten(), linear("fc", 4)], "`p` is a maximum"),
        ([conv("a", 3), lif("s"), average(size=4), flatten(), linear("fc", 4)], "windows of different sizes"),
        ([conv("a", 3), lif("s", neurons.lif(reset="soft")), flatten(), linear("fc", 4)], "soft reset"),
        (
            [conv("a", 3), bn("n", schema.Norm(statistics="per_step")), lif("s"), flatten(), linear("fc", 4)],
            "statistics for each step",
        ),
        (
            [schema.Concat(name="c", branches=((conv("a", 3),), ())), lif("s"), flatten(), linear("fc", 4)],
            "`c` is a concatenation",
        ),
    ],
)
def test_backbones_that_cannot_be_said(body: list[Any], reason: str, tmp_path: Path) -> None:
    for allow_loss in (False, True):
        with pytest.raises(CompileError, match=reason) as caught:
            bcgraph.export(support.network(body), tmp_path / "net.nir", allow_loss=allow_loss)
        assert caught.value.code == "E073"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("fault", ["weight", "bias", "feedback", "order", "threshold"])
def test_a_file_that_computes_something_else_is_refused(
    fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = network("tiny").with_backward([(2, 1)])
    real = target.to_nir

    def broken(*arguments: Any) -> Any:
        graph = real(*arguments)
        by_label = {n.metadata.get("bcgraph.name"): (name, n) for name, n in graph.nodes.items()}
        projection, node = by_label["backward.2_1.bn"]
        if fault == "weight":
            node.weight = node.weight * 1.5
        if fault == "bias":
            node.bias = node.bias * 0
        if fault == "feedback":
            graph.edges.remove((projection, by_label["layer1.0.lif1"][0]))
            graph.edges.append((projection, by_label["layer1.0.lif2"][0]))
        if fault == "order":
            # A name that sorts early: the edge into the projection leads back as well.
            graph.nodes["n0000"] = graph.nodes.pop(projection)
            graph.edges = [tuple("n0000" if end == projection else end for end in edge) for edge in graph.edges]
        if fault == "threshold":
            by_label["lif1"][1].v_threshold = by_label["lif1"][1].v_threshold * 0.8
        return graph

    monkeypatch.setattr(target, "to_nir", broken)
    path = tmp_path / "net.nir"
    with pytest.raises(BcgraphError) as caught:
        bcgraph.export(spec, path, state_dict=support.state(spec), inputs=support.batch(spec, 16))
    assert caught.value.code == ("E087" if fault == "order" else "E075")
    assert not path.exists()


def test_files_that_cannot_be_run(tmp_path: Path) -> None:
    good = tmp_path / "net.nir"
    bcgraph.export(network("tiny"), good)

    def edited(name: str, *, group: str = "", **datasets: Any) -> Path:
        path = tmp_path / name
        # Without its seal, by which any edit is noticed.
        path.write_bytes(good.read_bytes().replace(b"bcgraph-sha256", b"no longer seal"))
        with h5py.File(path, "r+") as file:
            del file["node/metadata/bcgraph.seal"]
            for key, value in datasets.items():
                place = f"node/{group}{key.replace('__', '.')}"
                if place in file:
                    del file[place]
                if value is not None:
                    file[place] = value
        return path

    (tmp_path / "text.nir").write_text("this is no network")
    (tmp_path / "cut.nir").write_bytes(good.read_bytes()[:3000])
    neuron = next(f"nodes/{name}/" for name, label in Reader(good).labels.items() if label == "lif1")
    wrong = {
        tmp_path / "missing.nir": "cannot be read",
        tmp_path / "text.nir": "damaged, or no NIR file",
        tmp_path / "cut.nir": "is damaged: its content is not what was written",
        edited("foreign.nir", metadata=None): "was not written by bcgraph",
        edited("steps.nir", group="metadata/", bcgraph__steps="two"): "damaged metadata",
        edited("input.nir", group="metadata/", bcgraph__input=_image(3)): "do not describe",
        edited("time.nir", group="metadata/", bcgraph__dt="soon"): "damaged metadata",
        edited("type.nir", group=neuron, type="os.system"): "damaged, or no NIR file",
        edited("shape.nir", group=neuron, tau=np.ones(3, np.float32)): "damaged, or no NIR file",
        edited("kind.nir", group=neuron, type="Threshold"): "damaged, or no NIR file",
        edited("edges.nir", edges=np.array([[b"input", b"nowhere"]])): "damaged, or no NIR file",
    }
    for path, reason in wrong.items():
        with pytest.raises(RunError, match=reason) as caught:
            runtime.Network(path)
        assert caught.value.code == "E087", path


def _image(channels: int) -> str:
    return json.dumps({"kind": "image", "channels": channels, "height": 9, "width": 9})


def test_inputs_that_do_not_fit(tmp_path: Path) -> None:
    bcgraph.export(network("tiny"), tmp_path / "net.nir")
    loaded = runtime.Network(tmp_path / "net.nir")
    with pytest.raises(RunError, match=r"takes \[N, 2, 9, 9\], but the input is \[3, 2, 9, 8\]"):
        loaded(np.zeros((3, 2, 9, 8)))
    with pytest.raises(RunError, match="takes numbers"):
        loaded(np.full((1, 2, 9, 9), "a"))


def test_without_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nir_file, "find_spec", lambda name: None)
    with pytest.raises(CompileError, match=r"bcgraph\[nir\]") as caught:
        bcgraph.export(network("tiny"), tmp_path / "net.nir")
    assert caught.value.code == "E092"


def test_frames_one_by_one(tmp_path: Path) -> None:
    spec = network("tiny-frames").with_backward([(2, 1)])
    bcgraph.export(spec, tmp_path / "net.nir")
    loaded = runtime.Network(tmp_path / "net.nir")
    x = support.batch(spec, 1).float().numpy()
    expected = loaded(x)[:, 0]
    stream = loaded.stream()
    for _ in range(2):
        for t in range(spec.steps):
            np.testing.assert_allclose(stream.push(x[t, 0]), expected[: t + 1].mean(axis=0), atol=1e-6)
        stream.reset()
    with torch.no_grad():
        model = bcgraph.compile(spec).eval()
        np.testing.assert_allclose(model(torch.from_numpy(x)).numpy()[:, 0], expected, atol=1e-5)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_one_resolution_is_what_nir_carries(backbone: str) -> None:
    """Of the pairs of a standard backbone NIR carries those that `same_resolution = true` allows, and no other."""
    spec = network(backbone)
    ports = range(len(spec.ports))
    allowed = {pair for architecture in space(spec, 1, same_resolution=True) for pair in architecture}
    pairs = [(j, i) for j in ports for i in ports if j >= i]
    for pair in random.Random(0).sample(pairs, min(len(pairs), 40)):
        assert (not limits.losses(spec.with_backward([pair]))) == (pair in allowed), pair

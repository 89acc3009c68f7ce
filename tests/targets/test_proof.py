"""Proofs: what is on the disk is what is run, a quiet network says so, and no mutant of any target gets through."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

import bcgraph
from bcgraph import files
from bcgraph.compiler import driver, pipelines
from bcgraph.compiler.export import proof as proofs
from bcgraph.compiler.ir import Program, TemporalGraph
from bcgraph.compiler.targets.c import file as c_file
from bcgraph.compiler.targets.nir import emitter as nir_emitter
from bcgraph.compiler.targets.onnx import file as onnx_file
from bcgraph.compiler.targets.onnx import int8
from bcgraph.compiler.targets.pt2 import file as pt2_file
from bcgraph.compiler.targets.python import file as python_file
from bcgraph.errors import BcgraphError, RunError
from bcgraph.schema import NetworkSpec
from tests import needs
from tests.targets.test_onnx import inputs, lively

TEXT = """
bcg 1

network n {
  input    = image(2, 8, 8)
  steps    = 3
  neuron   = lif(reset=hard)
  backbone = tiny(width=4)
  backward @2 -> @0
  backward @2 -> @1
}
"""
SPEC = bcgraph.parse(TEXT)
STATE = lively(SPEC)
X = inputs(SPEC, 8)

MUTANTS = ("weight", "state", "delay", "reset")
"""One weight with the wrong sign; two states that are read crosswise; a delay longer by one; the other reset."""

Graph = Program | TemporalGraph
Patch = pytest.MonkeyPatch


def wrong_weights(weights: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    changed = weights["layer1.0.conv1.weight"].copy()
    changed[0, 0, 1, 1] = -changed[0, 0, 1, 1]
    return {**weights, "layer1.0.conv1.weight": changed}


def crossed(graph: Graph, which: int = -1) -> Graph:
    """The graph whose ports 0 and 1 read each other's membrane (`which` = -1)."""
    found = {(n.port, n.step): n for n in graph.nodes if n.op == "neuron" and n.port in (0, 1)}
    nodes = []
    for node in graph.nodes:
        if node.op == "neuron" and node.port in (0, 1) and len(node.inputs) > 1:
            other = found[1 - node.port, node.step].inputs
            own = list(node.inputs)
            own[which] = other[which]
            node = replace(node, inputs=tuple(own))
        nodes.append(node)
    return replace(graph, nodes=tuple(nodes))


def wrong_spec(spec: NetworkSpec, mutant: str) -> NetworkSpec:
    if mutant == "reset":
        return bcgraph.parse(TEXT.replace("reset=hard", "reset=soft"))
    return bcgraph.parse(TEXT.replace("@2 -> @0", "@2 -> @0 { delay = 2 }")) if mutant == "delay" else spec


def mutate_program(patch: Patch, owner: Any, emitters: tuple[str, ...], mutant: str) -> None:
    """Emitters called with a program and weights get others."""
    program = pipelines.program
    patch.setattr(pipelines, "program", lambda spec, *rest: program(wrong_spec(spec, mutant), *rest))
    for name in emitters:
        real = getattr(owner, name)

        def broken(program: Any, weights: Any, *rest: Any, real: Any = real, **more: Any) -> Any:
            program = crossed(program) if mutant == "state" else program
            return real(program, wrong_weights(weights) if mutant == "weight" else weights, *rest, **more)

        patch.setattr(owner, name, broken)


def mutate_pt2(patch: Patch, mutant: str) -> None:
    def broken(spec: NetworkSpec, *rest: Any, **more: Any) -> Any:
        scheduled = pipelines.scheduled
        with pytest.MonkeyPatch.context() as inner:
            if mutant == "state":
                inner.setattr(pipelines, "scheduled", lambda *given: crossed(scheduled(*given)))
            module = driver.compile(wrong_spec(spec, mutant), *rest, **more)
        if mutant == "weight":
            load = module.load_state_dict
            module.load_state_dict = lambda state: load(
                {**state, **{k: torch.from_numpy(v) for k, v in wrong_weights({k: v.numpy() for k, v in state.items()
                 if k == "layer1.0.conv1.weight"}).items()}}
            )  # fmt: skip
        return module

    patch.setattr(pt2_file, "compile", broken)


def mutate_nir(patch: Patch, mutant: str) -> None:
    """NIR has no states: what crosses are the edges that lead back, and a delay is one more node on such an edge."""
    real = nir_emitter.to_nir

    def broken(graph: TemporalGraph, weights: Any, *rest: Any) -> Any:
        import nir

        graph = crossed(graph, 1) if mutant == "state" else graph
        made = real(graph, wrong_weights(weights) if mutant == "weight" else weights, *rest)
        late = next((s, t) for s, t in made.edges if s > t and "backward_2_0" in s)
        if mutant == "delay":
            relay = f"{late[1]}_relay"
            made.nodes[relay] = nir.Scale(np.ones((4, 8, 8), np.float32))
            made.nodes[relay].metadata = {}
            made.edges = [*(e for e in made.edges if e != late), (late[0], relay), (relay, late[1])]
        if mutant == "reset":
            made.nodes[late[1]].v_reset = made.nodes[late[1]].v_reset + 0.5
        return made

    patch.setattr(nir_emitter, "to_nir", broken)


def export(name: str, folder: Path, **options: Any) -> Any:
    return bcgraph.export(SPEC, folder / name, state_dict=STATE, inputs=X, **options)


def mutate_int8(patch: Patch, mutant: str) -> None:
    real = int8.quantize_static

    def broken(source: Path, target: Path, *rest: Any, **more: Any) -> None:
        real(source, target, *rest, **more)
        model = onnx.load(target)
        edit(model, mutant)
        onnx.save(model, target)

    patch.setattr(int8, "quantize_static", broken)


def edit(model: onnx.ModelProto, mutant: str) -> None:
    """A mutant of an unrolled file in 8 bits."""
    neurons = {node.name: node for node in model.graph.node if node.domain == "bcgraph"}
    if mutant == "weight":
        held = next(i for i in model.graph.initializer if i.data_type == onnx.TensorProto.INT8 and len(i.dims) == 4)
        values = numpy_helper.to_array(held).copy()
        values[0, 0, 1, 1] = -values[0, 0, 1, 1] or 1
        held.CopyFrom(numpy_helper.from_array(values, held.name))
    if mutant == "state":
        first, second = neurons["lif1@t1"].input, neurons["layer1.0.lif1@t1"].input
        first[1], second[1] = second[1], first[1]
    if mutant == "delay":
        for node in model.graph.node:
            for index, name in enumerate(node.input):
                if name.startswith("backward.2_0") and "@t1" in name and node.op_type == "Add":
                    node.input[index] = name.replace("@t1", "@t0")
    if mutant == "reset":
        for function in model.functions:
            made = [n for n in function.node if n.output[0] in function.output[1:]]
            for node in made:
                node.input[1] = node.input[0]


def quantized(folder: Path) -> None:
    export("net.onnx", folder)
    int8.quantize(folder / "net.onnx", folder / "int8.onnx", X.numpy())


def test_eight_bits_need_room_for_temporary_files(tmp_path: Path, monkeypatch: Patch) -> None:
    asked = []

    def room(folder: str, size: int) -> None:
        asked.append(size)
        raise files.cannot_write(folder, OSError(28, "No space left on device"))

    export("net.onnx", tmp_path)
    monkeypatch.setattr(files, "room", room)
    with pytest.raises(RunError, match="no space left on device"):
        int8.quantize(tmp_path / "net.onnx", tmp_path / "int8.onnx", X.numpy())
    assert asked == [int8.COPIES * (tmp_path / "net.onnx").stat().st_size]
    assert not (tmp_path / "int8.onnx").exists()


def c_of(int8: bool) -> Callable[[Path], Any]:
    def write(folder: Path) -> Any:
        needs.program("cc", "gcc", "clang")
        return export("net.c", folder, int8=int8)

    return write


Mutate = Callable[[Patch, str], None]
TARGETS: Mapping[str, tuple[Mutate, Callable[[Path], Any]]] = {
    **{
        form: (
            lambda patch, mutant: mutate_program(patch, onnx_file, ("to_onnx", "to_scan"), mutant),
            lambda folder, form=form: export("net.onnx", folder, form=form),
        )
        for form in ("unrolled", "step", "scan")
    },
    "int8": (mutate_int8, quantized),
    "nir": (mutate_nir, lambda folder: export("net.nir", folder)),
    "pt2": (mutate_pt2, lambda folder: export("net.pt2", folder)),
    "py": (
        lambda patch, mutant: mutate_program(patch, python_file, ("_Writer",), mutant),
        lambda folder: export("net.py", folder),
    ),
    "c": (lambda patch, mutant: mutate_program(patch, c_file, ("to_c",), mutant), c_of(False)),
    "c int8": (lambda patch, mutant: mutate_program(patch, c_file, ("to_c",), mutant), c_of(True)),
}


@pytest.mark.parametrize("target", [pytest.param(t, marks=pytest.mark.slow) if t == "pt2" else t for t in TARGETS])
def test_every_mutant_is_killed(target: str, tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    mutate, write = TARGETS[target]
    write(tmp_path)
    for path in tmp_path.iterdir():
        path.unlink()
    survivors: list[str] = []
    for mutant in MUTANTS:
        with pytest.MonkeyPatch.context() as patch:
            mutate(patch, mutant)
            with suppress(BcgraphError):
                write(tmp_path)
                survivors.append(mutant)
    record_property("mutants killed", f"{target}: {len(MUTANTS) - len(survivors)} of {len(MUTANTS)}")
    assert survivors == []
    assert {path.name for path in tmp_path.iterdir()} <= {"net.onnx"}


@pytest.mark.parametrize("ending", [".onnx", ".py", ".c", ".nir"])
def test_what_changes_between_writing_and_reading_is_found(ending: str, tmp_path: Path, monkeypatch: Patch) -> None:
    """Also where no spike depends on it: in this network nothing after the first layers fires."""
    real = Path.write_bytes

    def spoiled(path: Path, data: bytes) -> int:
        middle = len(data) // 2
        return real(path, data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :])

    monkeypatch.setattr(Path, "write_bytes", spoiled)
    with pytest.raises(BcgraphError) as caught:
        bcgraph.export(SPEC, tmp_path / f"net{ending}")
    assert caught.value.code == "E075"
    assert list(tmp_path.iterdir()) == []


def test_a_silent_network_is_proved_with_settled_norms_and_keeps_its_weights(tmp_path: Path) -> None:
    report = bcgraph.export(SPEC, tmp_path / "net.onnx")
    proof = report.proof
    assert [port.name for port in proof.ports] == list(SPEC.ports)
    assert proof.firing_ports < 5
    assert proof.settled is not None
    assert proof.settled.firing_ports == 5
    assert all(0.01 < port.firing < 0.99 for port in proof.settled.ports)
    assert "`layer2.0.lif2`" in proof.warnings[0]
    assert "5 of 5 ports fire" in proof.warnings[1]
    # The file has the weights as they were drawn, with the statistics that norms begin with.
    model = onnx.load(tmp_path / "net.onnx")
    held = {i.name: numpy_helper.to_array(i) for i in model.graph.initializer}
    drawn = bcgraph.compile(SPEC).state_dict()["layer2.0.conv2.weight"].numpy() / np.sqrt(1 + 1e-5)
    assert any(v.shape == drawn.shape and np.allclose(v, drawn, rtol=1e-6) for v in held.values())


def test_a_lively_network_is_proved_once(tmp_path: Path) -> None:
    proof = export("net.onnx", tmp_path).proof
    assert proof.settled is None
    assert proof.warnings == ()
    assert all(port.firing > 0.01 for port in proof.ports)
    assert proof.firing == pytest.approx(
        sum(p.firing * n for p, n in zip(proof.ports, (256, 256, 256, 128, 128), strict=True)) / 1024, abs=1e-6
    )


def test_a_proof_of_few_ports_says_that_it_proves_little(tmp_path: Path) -> None:
    text = TEXT.replace("lif(reset=hard)", "lif(threshold=1000.0)")
    proof = bcgraph.export(bcgraph.parse(text), tmp_path / "net.onnx").proof
    assert proof.firing_ports == 0
    assert proof.warnings[-1] == "this proves little: only 0 of 5 ports fire"


def test_a_saturated_port_is_named(tmp_path: Path) -> None:
    always = "neuron always(surrogate=triangle()) { s = spike(I * I + 1, surrogate) }"
    text = TEXT.replace("lif(reset=hard)", "always()").replace("network", f"{always}\nnetwork", 1)
    proof = bcgraph.export(bcgraph.parse(text), tmp_path / "net.py").proof
    assert all(port.saturated for port in proof.ports)
    assert "always fire on these inputs" in proof.warnings[0]


def test_threads_of_a_proof_do_not_wait_in_a_loop(tmp_path: Path) -> None:
    export("net.onnx", tmp_path)
    session = proofs.session((tmp_path / "net.onnx").read_bytes())
    assert session.get_session_options().get_session_config_entry("session.intra_op.allow_spinning") == "0"

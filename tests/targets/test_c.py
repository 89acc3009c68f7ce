"""C files: strict compilers and sanitizers take them, and they fire as the step form does in onnxruntime."""

from __future__ import annotations

import itertools
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import bcgraph
from bcgraph.compiler.ops import OPS
from bcgraph.compiler.targets.c import emitter, file, machine, storage
from bcgraph.compiler.targets.c.neuron import WRITTEN
from bcgraph.equations.expression import FUNCTIONS
from bcgraph.errors import CompileError
from bcgraph.normalization import Normalization
from bcgraph.schema import NetworkSpec
from tests import needs
from tests.targets import board
from tests.targets.test_onnx import agreeing, chained, inputs, lively, network

SANITIZED = (*machine.STRICT, "-g", "-O1", "-ffp-contract=off", "-fsanitize=address,undefined")

BODY = """
bcg 1

block body() {{
  {layers}
  flatten(); fc = linear(4)
}}

network n {{ input = image(3, 8, 6); steps = 3; neuron = {neuron}; backbone = body(); backward @1 -> @0 }}
"""
PLAIN = "c1 = conv(4); bn1 = bn(); n1 = neuron(); c2 = conv(4, stride=2); bn2 = bn(); n2 = neuron()"


def sanitized(compiler: str, folder: Path) -> tuple[str, ...]:
    """The flags of a strict build, with sanitizers where the compiler comes with them."""
    empty = folder / "empty.c"
    empty.write_text("int main(void) { return 0; }\n")
    done = subprocess.run([compiler, *SANITIZED, empty, "-o", folder / "empty"], capture_output=True, check=False)
    return SANITIZED if done.returncode == 0 else (*machine.STRICT, *machine.EXACT)


@pytest.fixture
def cc() -> str:
    return str(needs.program("cc", "gcc", "clang"))


def frames(spec: NetworkSpec, x: Tensor) -> np.ndarray:
    found = x.transpose(0, 1) if spec.input.kind == "sequence" else x[:, None].expand(-1, spec.steps, *x.shape[1:])
    return found.numpy()


def test_the_table_of_c_names_operations_that_there_are() -> None:
    assert set(emitter.EMIT) <= set(OPS)
    assert set(FUNCTIONS) == WRITTEN


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_strict_compilers_and_sanitizers_find_nothing(compiler: str, tmp_path: Path) -> None:
    found = str(needs.optional(compiler))
    spec = network("tiny(width=4)", sequence=True).with_backward([(4, 0, 2), (2, 2), (3, 1)])
    state, x, flags = lively(spec), inputs(spec, 4), sanitized(found, tmp_path)
    for int8 in (False, True):
        bcgraph.export(spec, tmp_path / "net.c", state_dict=state, inputs=x, int8=int8)
        folder = tmp_path / str(int8)
        folder.mkdir()
        ran = machine.run(found, folder, tmp_path / "net.c", "net", frames(spec, x), flags=flags)
        assert 0.05 < ran.spikes.mean() < 0.9


@pytest.mark.parametrize("sequence", [False, True])
def test_it_fires_as_the_step_form_does_in_onnxruntime(sequence: bool, cc: str, tmp_path: Path) -> None:
    spec = network("tiny(width=4)", sequence=sequence).with_backward([(4, 0, 2), (2, 2), (3, 1)])
    state, x = lively(spec), inputs(spec)
    bcgraph.export(spec, tmp_path / "step.onnx", state_dict=state, form="step", inputs=x)
    report = bcgraph.export(spec, tmp_path / "net.c", state_dict=state, inputs=x)
    assert report.proof.differing_spikes < 1e-3
    ran = machine.run(cc, tmp_path, tmp_path / "net.c", "net", frames(spec, x))
    assert agreeing(ran.outputs.swapaxes(0, 1), chained(tmp_path / "step.onnx", spec, x)) >= 0.95


@pytest.mark.parametrize(
    "neuron", ["lif(reset=soft)", "plif()", "alif()", "cuba()", "klif()", "ilif()", "izhikevich()", "relu()"]
)
def test_any_neuron_is_written_from_its_definition(neuron: str, cc: str, tmp_path: Path) -> None:
    # One of these wants currents of some 10.
    layers = PLAIN.replace("bn()", "bn(gain=40.0)") if neuron == "izhikevich()" else PLAIN
    spec = bcgraph.parse(BODY.format(layers=layers, neuron=neuron))
    state, x = lively(spec), inputs(spec)
    report = bcgraph.export(spec, tmp_path / "net.c", state_dict=state, inputs=x)
    assert report.proof.differing_samples <= 0.05
    assert report.proof.firing > 0


LAYERS = {
    "pools": "c1 = conv(4); bn1 = bn(); n1 = neuron(); maxpool(2); avgpool(3, stride=1, padding=1)",
    "adaptive": "c1 = conv(4); bn1 = bn(); n1 = neuron(); adaptive_maxpool(5); adaptive_avgpool(3)",
    "groups": "c1 = conv(4, bias=true); bn1 = bn(); n1 = neuron(); c2 = conv(8, groups=2, stride=2, dilation=2)",
    "vector": "flatten(); l1 = linear(12); bn1 = bn(); n1 = neuron(); scale1 = scale(initial=1.5); times(factor=2.0)",
    "joined": "c1 = conv(4); bn1 = bn(); n1 = neuron(); concat { branch { c2 = conv(2) }; branch { c3 = conv(3) } }",
    "residual": "c1 = conv(4); bn1 = bn(); n1 = neuron(); sum { branch { c2 = conv(4); bn3 = bn(); n3 = neuron() }; "
    "branch { } }; n4 = neuron()",
}


@pytest.mark.parametrize("layers", LAYERS)
@pytest.mark.parametrize("int8", [False, True])
def test_layers(layers: str, int8: bool, cc: str, tmp_path: Path) -> None:
    body = f"{LAYERS[layers]}\n  bn2 = bn(); n2 = neuron()"
    spec = bcgraph.parse(BODY.format(layers=body, neuron="lif()"))
    report = bcgraph.export(spec, tmp_path / "net.c", state_dict=lively(spec), inputs=inputs(spec), int8=int8)
    assert report.proof.differing_spikes < 1e-2
    assert report.proof.firing_ports >= 2


def test_what_joins_and_reads(cc: str, tmp_path: Path) -> None:
    text = BODY.format(layers=PLAIN, neuron="lif()").replace(
        "backward @1 -> @0", "backward @1 -> @0 { join = mul; read = u }; backward @1 -> @1 { delay = 2 }"
    )
    spec = bcgraph.parse(text)
    assert bcgraph.export(spec, tmp_path / "net.c", state_dict=lively(spec), inputs=inputs(spec)).proof.firing > 0.05


def test_the_file_normalizes_where_it_is_asked_to(cc: str, tmp_path: Path) -> None:
    spec = network("tiny(width=4)").with_backward([(4, 0)])
    inside = Normalization((0.5, 0.25), (0.5, 2.0), True)
    report = bcgraph.export(
        spec, tmp_path / "net.c", state_dict=lively(spec), inputs=inputs(spec), normalization=inside
    )
    assert report.proof.differing_spikes < 1e-2


def test_eight_bits_are_a_step_of_each_channel_and_are_proved_as_such(cc: str, tmp_path: Path) -> None:
    spec = network("tiny(width=4)").with_backward([(4, 0)])
    state = lively(spec)
    report = bcgraph.export(spec, tmp_path / "net.c", state_dict=state, inputs=inputs(spec), int8=True)
    assert report.proof.differing_spikes < 1e-3
    assert report.changed is not None
    assert report.changed <= 0.5
    values = {k: v.numpy() for k, v in state.items()}
    program = bcgraph.compiler.pipelines.program(spec, "step", bcgraph.compiler.pipelines.FILE)
    made = file.rounded(program, values)
    weight = made["fc.weight"]
    steps = np.abs(values["fc.weight"]).max(axis=1, keepdims=True) / 127
    assert np.abs(weight - values["fc.weight"]).max() <= 0.5001 * steps.max()
    assert np.allclose(weight / steps, np.rint(weight / steps), atol=1e-4)
    assert np.array_equal(file.rounded(program, made)["fc.weight"], weight)


def test_a_net_on_the_digits_fits_into_64_kib(cc: str, tmp_path: Path) -> None:
    text = "bcg 1\nnetwork n { input = image(1, 8, 8); steps = 4; backbone = tiny(); backward @4 -> @0 }"
    spec = bcgraph.parse(text)
    state = lively(spec)
    bcgraph.export(spec, tmp_path / "net.c", state_dict=state, int8=True)
    draft_bytes = machine.code_size(cc, tmp_path, tmp_path / "net.c")
    memory = emitter.to_c(
        bcgraph.compiler.pipelines.program(spec, "step", bcgraph.compiler.pipelines.FILE),
        {k: v.numpy() for k, v in state.items()},
        int8=True,
    ).memory
    assert (draft_bytes or 8192) + memory.weights + memory.states + memory.scratch < 64 * 1024


def test_without_a_compiler_it_is_written_and_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "compiler", lambda: None)
    report = bcgraph.export(network("tiny(width=4)"), tmp_path / "net.c")
    assert report.proof is None
    assert "no C compiler" in report.notes[-1]
    assert {path.name for path in tmp_path.iterdir()} == {"net.c", "net.h"}


@pytest.mark.parametrize(
    ("said", "error"),
    [
        ("cc1: error: closing dependency file: No space left on device", OSError),
        ("cc1: out of memory allocating 65536 bytes", MemoryError),
        ("net.c:1:1: error: unknown type name", CompileError),
    ],
)
def test_a_full_disk_is_no_fault_of_the_file(said: str, error: type[Exception], tmp_path: Path) -> None:
    with pytest.raises(error):
        machine.call(["sh", "-c", f"echo '{said}' >&2; exit 1"], "it does not compile", tmp_path)
    # What a compiler leaves that is killed goes with the folder.
    machine.call(["sh", "-c", f"test $TMPDIR = {tmp_path}"], "it does not run", tmp_path)


def test_what_c_cannot_hold_is_refused(tmp_path: Path) -> None:
    spec = network("tiny(width=4)")
    with pytest.raises(CompileError) as caught:
        bcgraph.export(spec, tmp_path / "net.c", form="scan")
    assert caught.value.code == "E072"
    with pytest.raises(CompileError) as caught:
        bcgraph.export(network("tiny(width=512)"), tmp_path / "net.c")
    assert caught.value.code == "E054"
    with pytest.raises(CompileError) as caught:
        bcgraph.export(spec, tmp_path / "net.onnx", int8=True)
    assert caught.value.code == "E072"
    assert list(tmp_path.iterdir()) == []


def test_names_begin_as_the_file_does() -> None:
    names = {"net.c": "net", "My-Net 2.c": "my_net_2", "3d.c": "net_3d"}
    assert {path: file.prefix_of(Path(path)) for path in names} == names


def test_values_alive_together_do_not_share_places() -> None:
    generator = torch.Generator().manual_seed(0)
    draws = torch.randint(1, 40, (200, 3), generator=generator).tolist()
    lives = [storage.Life(str(i), "float", count, a, a + b) for i, (count, a, b) in enumerate(draws)]
    places, length = storage.placed(lives)
    for step in range(100):
        alive = sorted((places[v.name], v.count) for v in lives if v.first <= step <= v.last)
        assert all(start + count <= after for (start, count), (after, _) in itertools.pairwise(alive))
        assert sum(count for _, count in alive) <= length
    assert length < sum(v.count for v in lives)


@pytest.mark.slow
def test_it_runs_on_a_cortex_m(tmp_path: Path) -> None:
    """Cross-compiled, in an emulator: the same spikes and outputs as on this machine."""
    cross, qemu = str(needs.optional("arm-none-eabi-gcc")), str(needs.optional("qemu-system-arm"))
    spec = network("tiny(width=4)").with_backward([(4, 0, 2), (2, 2)])
    x = inputs(spec, 2)
    for int8 in (False, True):
        folder = tmp_path / str(int8)
        folder.mkdir()
        bcgraph.export(spec, folder / "net.c", state_dict=lively(spec), inputs=inputs(spec), int8=int8)
        here = machine.run(str(needs.program("cc", "gcc", "clang")), folder, folder / "net.c", "net", frames(spec, x))
        there = board.run(cross, qemu, folder, folder / "net.c", "net", frames(spec, x))
        np.testing.assert_allclose(there, here.outputs.reshape(there.shape), atol=1e-4)

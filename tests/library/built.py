"""Builds kernels for a GPU that need not be there: `python -m tests.library.built TARGET DTYPES CALL...`.

Triton's interpreter, which runs the other tests, accepts what its compiler refuses, and knows nothing of registers.
For each kernel a line of JSON says how many registers a thread has and how many bytes of them are spilled to memory.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import triton
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from bcgraph.equations.neuron import SPIKES, Equations
from bcgraph.nn.neuron.gpu import launch, load, probe, steps
from bcgraph.nn.neuron.neuron import Neuron, NeuronSteps
from bcgraph.nn.neuron.packed_spikes import unpack
from bcgraph.nn.precision import HALVES
from tests.library.test_gpu_kernels import FUNCTIONS, equations, learned_of

TARGETS = {
    "sm80": GPUTarget("cuda", 80, 32),
    "sm90": GPUTarget("cuda", 90, 32),
    "sm100": GPUTarget("cuda", 100, 32),
    "gfx942": GPUTarget("hip", "gfx942", 64),
}

WARPS = 4
"""What Triton takes where nothing is said."""

POINTERS = {torch.float32: "fp32", torch.float64: "fp64", torch.float16: "fp16", torch.bfloat16: "bf16"}

Launch = tuple[str, tuple[str, ...], int]
"""A kernel's text, the types of its tensors, and the elements of a program."""


class _Recording:
    """Takes the place of running kernels."""

    def __init__(self) -> None:
        self.launches: dict[Launch, None] = {}

    def run(self, grid: launch.Grid, text: str, *tensors: Tensor) -> None:
        kinds = tuple(f"*{POINTERS.get(each.dtype, 'u8')}" for each in tensors)
        self.launches[text, kinds, grid.block] = None


def launches_of(eq: Equations, dtype: torch.dtype) -> Iterator[Tensor]:
    """Go through all that a layer may run: one step and all of them, with and without gradients; yields the results."""
    shape, count = (2, 16, 4, 4), steps.LONGEST + 2
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    learned = [each.requires_grad_() for each in learned_of(eq, shape[1], wide)]
    whole, small = (torch.zeros(size, dtype=dtype, requires_grad=True) for size in (shape, (2, 16, 2, 2)))
    states = [torch.zeros(shape, dtype=wide, requires_grad=True) for _ in eq.states]
    step = Neuron(eq.giving((SPIKES, *eq.states)), "any", packs=True)
    every = torch.zeros(count * shape[0], *shape[1:], dtype=dtype, requires_grad=True)
    for last in (False, True):
        layout = torch.channels_last if last else torch.contiguous_format
        currents = [each.contiguous(memory_format=layout) for each in (whole, small)]
        yield from step(currents, states, learned)
        yield NeuronSteps(eq, "any")([every.contiguous(memory_format=layout)], learned, count, False)
    yield NeuronSteps(eq, "any")([every, every], learned, count, False)
    yield NeuronSteps(eq, "any")([whole], learned, 2, True)
    with torch.no_grad():
        made = step([whole], states, learned)
        unpack(made[-1], (whole.shape, False), dtype)
        NeuronSteps(eq, "any")([every], learned, count, False)


def resources(built: Any) -> dict[str, int]:
    """Registers of a thread and spilled bytes, where an assembler of NVIDIA says so."""
    text = built.asm.get("ptx")
    if text is None:
        return {}
    with tempfile.NamedTemporaryFile("w", suffix=".ptx") as file:
        Path(file.name).write_text(text)
        name = re.search(r"^\.target (\w+)", text, re.MULTILINE)
        assert name is not None
        tool = triton.knobs.nvidia.ptxas
        if int(re.sub(r"\D", "", name[1])) >= 100:
            tool = triton.knobs.nvidia.ptxas_blackwell
        command = [tool.path, "-v", f"--gpu-name={name[1]}", file.name, "--output-file", "/dev/null"]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    used, spilled = re.search(r"Used (\d+) registers", said), re.search(r"(\d+) bytes spill stores", said)
    assert used is not None
    assert spilled is not None
    return {"registers": int(used[1]), "spilled": int(spilled[1])}


def build(one: Launch, target: GPUTarget) -> dict[str, int]:
    """Build one kernel as Triton would at its first launch on aligned tensors."""
    text, kinds, block = one
    function = load.loaded(text)
    signature = dict(zip(function.arg_names, (*kinds, "i32", "i32", "i32", "constexpr"), strict=True))
    aligned = {(k,): [["tt.divisibility", 16]] for k in range(len(kinds) + 1)}
    source = ASTSource(fn=function, signature=signature, constexprs={"BLOCK": block}, attrs=aligned)
    options = {"enable_fp_fusion": False, "num_warps": WARPS}
    return resources(triton.compile(source, target=target, options=options))


def run(call: str, dtype: torch.dtype) -> None:
    """Launch all kernels of a neuron; `probe` is the one that calls every function."""
    if call == "probe":
        probe.flaw(launch.Grid(probe.SIZE, 1, probe.SIZE).run, torch.device("cpu"))
        return
    with torch.autocast("cpu", dtype, enabled=dtype in HALVES):
        made = [each for each in launches_of(equations(call, FUNCTIONS), dtype) if each.requires_grad]
    torch.autograd.backward(made, [torch.zeros_like(each) for each in made])


def main(target: str, dtypes: list[str], calls: list[str]) -> None:
    """Build all kernels of the neurons `calls`."""
    recording = _Recording()
    launch.Grid.run = lambda self, text, *tensors: recording.run(self, text, *tensors)  # type: ignore[method-assign]
    launch.usable = lambda x: True
    for call in calls:
        for name in dtypes:
            recording.launches.clear()
            run(call, getattr(torch, name))
            for one in recording.launches:
                print(json.dumps({"call": call, "dtype": name, **build(one, TARGETS[target])}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2].split(","), sys.argv[3:])

"""C files: a .c file and its header, compiled with the system's compiler and run to prove them."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import Tensor, fx

from bcgraph import dsl
from bcgraph.compiler import pipelines
from bcgraph.compiler.export import bounds, drafts, proof, tables
from bcgraph.compiler.export.request import ExportReport, Request, plain
from bcgraph.compiler.ir import Program, at_step
from bcgraph.compiler.ops import operations
from bcgraph.compiler.targets.c import machine, text
from bcgraph.compiler.targets.c.emitter import EMIT, scale_of, to_c
from bcgraph.errors import CompileError
from bcgraph.readout import MEANINGS

MOST_WEIGHTS = 4_000_000
"""Parameters that are written out as text: some 50 MB, which a compiler takes a minute for."""

WORK = 20_000_000_000
"""Multiply-accumulates that a proof runs on one core at most, in fewer samples if need be."""


def write(request: Request) -> ExportReport:
    """Write a .c file and its header. Raises as `export` does."""
    if request.form not in ("unrolled", "step"):
        raise CompileError(
            "E072",
            f"`.c` files have no form `{request.form}`",
            hint="leave out --form: a C file is one step, whatever the number of steps",
        )
    cc = machine.compiler()
    short = replace(request, form="step")
    draft, found = drafts.write(short, lambda each: _Draft(each, cc))
    assert isinstance(draft, _Draft)
    path, header = draft.content
    size = len(draft.content[path])
    by = "the compiled file" if cc is None else f"the file compiled by {Path(cc).name}"
    notes = (*draft.notes, *(() if cc else ("there is no C compiler here (cc, gcc or clang): it was not run",)))
    return ExportReport(path, "step", None, size, found, by, (header,), changed=draft.changed(), notes=notes)


class _Draft:
    """A C file and its header in memory, and the torch module that they are compared with."""

    def __init__(self, request: Request, cc: str | None) -> None:
        self.request = request
        self.cc = cc
        self.spec = bounds.shortened(request.spec)
        self.program = pipelines.program(request.spec, "step", pipelines.FILE)
        tables.check(self.program.nodes, EMIT, "c")
        self.module = plain(replace(request, spec=self.spec), "unrolled")
        values = {k: v.detach().numpy() for k, v in self.module.state_dict().items()}
        count = sum(v.size for v in values.values())
        if count > MOST_WEIGHTS:
            raise CompileError(
                "E054",
                f"{count:,} weights are more than {MOST_WEIGHTS:,} to write out as C",
                hint="an .onnx file holds them as they are",
            )
        if request.int8:
            values = rounded(self.program, values)
            self.module.load_state_dict({k: torch.from_numpy(v) for k, v in values.items()})
        self.code = to_c(self.program, values, request.inside, int8=request.int8)
        self.prefix = prefix_of(request.path)
        header = request.path.with_suffix(".h")
        named = self._names(header.name)
        # The name of the header stands in it, which may be no UTF-8.
        self.content = {
            request.path: text.source(self.code, **named).encode(errors="surrogateescape"),
            header: text.header(self.code, **named).encode(errors="surrogateescape"),
        }
        self.notes = (self._sizes(),)
        self.outputs: np.ndarray | None = None

    def _names(self, header: str) -> dict[str, object]:
        spec = self.request.spec
        shape = spec.input.shape
        numbers = "Weights in 8 bits, whole-number sums of spikes" if self.request.int8 else "Weights in float32"
        described = "\n".join(f" *   {line}".rstrip() for line in dsl.format_spec(spec).splitlines())
        return {
            "title": _comment(f"{spec.name}, {len(spec.ports)} layers of neurons"),
            "prefix": self.prefix,
            "guard": self.prefix.upper(),
            "header": header,
            "numbers": numbers,
            "steps": spec.steps,
            "feed": "with one frame after the other" if spec.input.kind == "sequence" else "with the same frame",
            "input": "][".join(map(str, shape)),
            "raw": "not normalized: that happens here" if self.request.inside else "normalized",
            "readout": _comment(MEANINGS[spec.readout]),
            "inputs": math.prod(shape),
            "classes": self.program.values()[self.program.outputs[0]].shape[0],
            "about": "".join(f" * {_comment(line)}\n" for line in self.request.described.lines()),
            "specification": _comment(described),
        }

    def _sizes(self) -> str:
        memory = self.code.memory
        code = None
        if self.cc is not None:
            with TemporaryDirectory() as folder:
                for path, data in self.content.items():
                    (Path(folder) / path.name).write_bytes(data)
                code = machine.code_size(self.cc, Path(folder), Path(folder) / self.request.path.name)
        first = "" if code is None else f"{code:,} bytes of code, "
        return (
            f"{first}{memory.weights:,} bytes of weights; RAM: {memory.states:,} bytes of states "
            f"and {memory.scratch:,} for a step"
        )

    def prove(self, places: Mapping[Path, Path]) -> proof.Proof | None:
        """Compile what is on the disk and run it; it gives out its spikes itself."""
        if self.cc is None:
            return None
        ours, given = self._inputs()
        sequence = self.spec.input.kind == "sequence"
        frames = given.transpose(0, 1) if sequence else given[:, None].expand(-1, self.spec.steps, *given.shape[1:])
        with TemporaryDirectory() as folder:
            # The file includes its header by its final name.
            for path, place in places.items():
                (Path(folder) / path.name).write_bytes(place.read_bytes())
            source = Path(folder) / self.request.path.name
            ran = machine.run(self.cc, Path(folder), source, self.prefix, frames.numpy())
        self.outputs = ran.outputs.swapaxes(0, 1)
        spikes = {at_step(f"{n}.s", t): v for n, steps in self._by_port(ran.spikes) for t, v in enumerate(steps)}
        return proof.compare(self.module, {"x": ours}, {"O": self.outputs} | spikes, self.spec.readout).proof

    def _inputs(self) -> tuple[Tensor, Tensor]:
        """The samples of the proof for torch and for the file, as many as take a while at most."""
        values = self.program.values()
        one = sum(operations(n, values[n.inputs[0].value].shape) for n in self.program.nodes if n.inputs)
        most = max(2, WORK // max(1, one * self.spec.steps))
        ours, given = self.request.both()
        if self.spec.input.kind == "sequence":
            return ours[: self.spec.steps, :most], given[: self.spec.steps, :most]
        return ours[:most], given[:most]

    def _by_port(self, spikes: np.ndarray) -> list[tuple[str, np.ndarray]]:
        """For each port its name and what it sent, `[steps, samples, C, H, W]`."""
        found, start = [], 0
        for name, shape, _ in self.code.ports:
            count = math.prod(shape)
            part = spikes[:, :, start : start + count].reshape(*spikes.shape[:2], *shape[1:], shape[0])
            found.append((name, np.moveaxis(part, -1, 2).swapaxes(0, 1)))
            start += count
        return found

    def graph(self) -> object:
        """The code without its tables."""
        return self.code.functions, self.code.members, self.code.step

    def changed(self) -> float | None:
        """The share of samples that are predicted otherwise for weights in 8 bits."""
        if not self.request.int8 or self.outputs is None:
            return None
        whole: fx.GraphModule = plain(replace(self.request, spec=self.spec), "unrolled")
        with torch.no_grad():
            expected = whole(self._inputs()[0]).numpy()
        ours, theirs = (proof.predictions(o, self.spec.readout) for o in (expected, self.outputs))
        return float((ours != theirs).mean())


@dataclass(frozen=True, slots=True)
class _Weighted:
    """A layer with weights in a program, and the names of the norm that is folded into it."""

    module: str
    norm: str | None = None
    eps: float = 0.0


def rounded(program: Program, values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The weights of a network whose folded weights are those in 8 bits: what the file is compared with."""
    layers: dict[str, _Weighted] = {}
    for node in program.nodes:
        if node.op == "fold_norm":
            layers[node.attrs["conv"]] = _Weighted(node.attrs["conv"], node.attrs["norm"], node.attrs["eps"])
        elif node.op in ("conv", "conv1d", "linear") and len(node.inputs) == 1 and node.module is not None:
            layers[node.module] = _Weighted(node.module)
    made = dict(values)
    for layer in layers.values():
        name = f"{layer.module}.weight"
        weight = values[name].astype(np.float64)
        wide = (-1, *[1] * (weight.ndim - 1))
        factor = np.ones(len(weight))
        if layer.norm is not None:
            scale, var = (values[f"{layer.norm}.{part}"].astype(np.float64) for part in ("weight", "running_var"))
            factor = scale / np.sqrt(var + layer.eps)
        whole = weight * factor.reshape(wide)
        steps = scale_of(whole).reshape(wide)
        safe = np.where(factor == 0, 1.0, factor).reshape(wide)
        made[name] = (np.rint(whole / steps) * steps / safe).astype(np.float32)
    return made


def prefix_of(path: Path) -> str:
    """What the names in a file begin with: the name of the file, as C can have it."""
    name = re.sub(r"\W", "_", path.stem, flags=re.ASCII).lower()
    return name if re.match(r"[a-z]", name) else f"net_{name}"


def _comment(words: str) -> str:
    """Words that neither begin nor end a comment of C."""
    return words.replace("*/", "* /").replace("/*", "/ *")

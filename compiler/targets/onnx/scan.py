"""The ONNX form `scan`: the program of one step as the body of one Scan node, so that nothing grows with T.

The states start at zero inside the file and stay there; the only input is x and the only output O, as in the form
`unrolled`. A sequence is scanned along its time axis, which is free: the file takes any number of frames. An image is
the same at every step, so what is scanned is the step's number, a range whose length is the initializer `steps`;
onnxruntime lets a caller override it. What all steps compute alike runs once, before the Scan.

Weights of convolutions lie inside the body of the Scan: onnxruntime changes the layout of a convolution only where its
weights are in the same graph, and convolutions are most of the time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from bcgraph.compiler.ir import Program, free
from bcgraph.compiler.targets.onnx.building import BATCH, FLOATS, typed
from bcgraph.compiler.targets.onnx.emitter import _Emitter
from bcgraph.normalization import Normalization

TIME = "T"


def to_scan(
    program: Program,
    weights: Mapping[str, np.ndarray],
    metadata: Mapping[str, str],
    watch: Sequence[str] = (),
    normalization: Normalization | None = None,
) -> ir.Model:
    """The ONNX model that runs `program`, of the schedule `step`, over all its steps.

    Arguments are those of `to_onnx`; values in `watch` are given out for all steps, `[T, N, ...]`. Raises
    CompileError (E073) where ONNX has no exact counterpart.
    """
    return _Scan(program, weights, normalization).scanned(metadata, watch)


class _Scan(_Emitter):
    def scanned(self, metadata: Mapping[str, str], watch: Sequence[str]) -> ir.Model:
        program = self.program
        value = program.inputs[0]
        lead = (TIME, BATCH) if program.sequence else (BATCH,)
        x = typed(value.name, *lead, *value.shape)
        self.samples = (x, len(lead) - 1)
        inputs = [x]
        read = self.normalized(x)
        if program.sequence:
            scanned = read
        else:
            self.env[value.name] = read
            steps = self.constant(free("steps", program.values()), np.array(program.steps, dtype=np.int64))
            # An initializer that is also an input is a default.
            inputs.append(steps)
            ends = [self.constant(f"i64.scalar.{n}", np.array(n, dtype=np.int64)) for n in (0, 1)]
            scanned = self.op("Range", [ends[0], steps, ends[1]], free("step_numbers", program.values()))
        self.emit([n for n in program.nodes if n.invariant])
        starts = [self.start(state.input, state.shape) for state in program.states]
        outer, self.tape = self.tape, ir.tape.Tape()
        body = self.body(watch)
        self.tape = outer
        names = [free("O", program.values()), *(f"{n}.watched" for n in watch)]
        shapes = [self.shape[program.outputs[0]], *(self.shape[n] for n in watch)]
        outputs = [typed(n, TIME, BATCH, *s) for n, s in zip(names, shapes, strict=True)]
        ends = [ir.Value(name=f"last.{s.input}") for s in program.states]
        attributes: dict[str, Any] = {"body": body, "num_scan_inputs": 1}
        self.tape.op_multi_out("Scan", [*starts, scanned], attributes, outputs=[*ends, *outputs], name="steps")
        return self.finish(inputs, outputs, metadata)

    def start(self, name: str, shape: tuple[int, ...]) -> ir.Value:
        """Zero in the shape of a state."""
        axes = [self.batch_axis(f"start.{name}"), self.integers(*shape)]
        size = self.op("Concat", axes, f"start.{name}.shape", {"axis": 0})
        return self.op("ConstantOfShape", [size], f"start.{name}", {"value": ir.tensor(np.zeros(1, np.float32))})

    def body(self, watch: Sequence[str]) -> ir.Graph:
        """One step: the states and a frame (or the step's number) in, the next states and O_t out."""
        program = self.program
        states = [typed(s.input, BATCH, *s.shape) for s in program.states]
        self.env.update({s.input: v for s, v in zip(program.states, states, strict=True)})
        frame = program.inputs[0]
        if program.sequence:
            read = typed(f"{frame.name}_t", BATCH, *frame.shape)
            self.env[frame.name] = read
            self.samples = (read, 0)
        else:
            number = ir.TensorType(ir.DataType.INT64)
            read = ir.Value(name=free("step", program.values()), shape=ir.Shape([]), type=number)
        self.emit([n for n in program.nodes if not n.invariant])
        results: list[ir.Value] = []
        for state in program.states:
            made = self.op("Identity", [self.env[state.output]], f"next.{state.input}")
            made.shape, made.type = ir.Shape([BATCH, *state.shape]), FLOATS
            results.append(made)
        logits = self.op("Identity", [self.env[program.outputs[0]]], free("O_t", program.values()))
        logits.shape, logits.type = ir.Shape([BATCH, *self.shape[program.outputs[0]]]), FLOATS
        results.append(logits)
        # A value that is watched has one name in the body and one outside it.
        for name in watch:
            made = self.watched(name)
            made.name = f"{name}.watched_t"
            results.append(made)
        return ir.Graph([*states, read], results, nodes=self.tape.nodes, initializers=self.own(self.tape), name="step")

    def own(self, tape: ir.tape.Tape) -> list[ir.Value]:
        """The constants that only convolutions of `tape` read, taken out of those of the file."""
        inside = {node for node in tape.nodes if node.op_type == "Conv"}
        found = [v for v in self.initializers.values() if v.uses() and inside.issuperset(u.node for u in v.uses())]
        for value in found:
            del self.initializers[value.name or ""]
        return found

"""Static quantization of an exported ONNX file to 8 bits, by onnxruntime: file in, file out.

Convolutions and linear layers run in integers: weights in int8, one scale a channel; what they read and the currents
that they make in uint8, by the ranges seen on calibration samples. Spikes get the scale 1 and so stay what they are.
The outputs of linear layers, among them the network's own, and the neurons stay in float32: a threshold does not
forgive rounding twice.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from bcgraph import files, seals
from bcgraph.compiler.export.proof import Port, session
from bcgraph.compiler.targets.onnx import int8_graph
from bcgraph.compiler.targets.onnx.neuron import DOMAIN
from bcgraph.errors import CompileError
from bcgraph.runtime import Network

Floats = NDArray[np.floating[Any]]
Feed = Mapping[str, Floats]

QUANTIZED = ("Conv", "Gemm")
BATCH = 32
COPIES = 8
"""Files as large as the network's own for which there must be room: twice as many as onnxruntime makes."""
# What gives out only values that it was given, so that spikes after it are spikes.
_MOVES = frozenset({"Resize", "Gather", "Unsqueeze", "Flatten", "MaxPool", "Identity"})
# The mark that onnxruntime looks for; shapes are inferred here, and there is nothing to fuse.
_PREPARED = ("onnx.quant.pre_process", "onnxruntime.quant")


@dataclass(frozen=True, slots=True)
class Difference:
    """Over some samples, the shares of spikes and of predictions that two files make differently.

    `ports` tells how much each port of the second file fires.
    """

    spikes: float
    predictions: float
    ports: tuple[Port, ...] = ()


def quantize(source: Path, target: Path, calibration: Floats) -> None:
    """Write the file `source` in int8 to `target`.

    `calibration` are samples as the file takes them, `[N, C, H, W]` or `[T, N, C, H, W]`. Raises CompileError (E072)
    for a file in the form `scan`, whose loop onnxruntime does not quantize, and RunError (E084, E087, E090).
    """
    network = Network(source)
    if network.signature.form == "scan":
        raise CompileError("E072", "a scan cannot be quantized", hint="use --form unrolled or --form step")
    values = network.signature.checked(calibration)
    with tempfile.TemporaryDirectory() as folder:
        # onnx writes a part of a file where there is no room, and does not say so.
        files.room(folder, COPIES * source.stat().st_size)
        prepared = Path(folder) / "prepared.onnx"
        model = onnx.load(source)
        spikes = _spikes(model)
        _set(model, *_PREPARED)
        onnx.save(onnx.shape_inference.infer_shapes(model), prepared)
        exact = {"scale": np.array(1.0, np.float32), "zero_point": np.array(0, np.uint8)}
        found = Path(folder) / "quantized.onnx"
        quantize_static(
            prepared,
            found,
            _Reader(_feeds(network, values)),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(QUANTIZED),
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            extra_options={
                "TensorQuantOverrides": {name: [exact] for name in spikes},
                "OpTypesToExcludeOutputQuantization": ["Gemm"],
            },
        )
        made = onnx.load(found)
    sealed = f"bcgraph.{seals.NAME}"
    kept = [p for p in made.metadata_props if p.key.startswith("bcgraph.") and p.key != sealed]
    del made.metadata_props[:]
    made.metadata_props.extend(kept)
    _set(made, "bcgraph.precision", "int8")
    _set(made, sealed, seals.BLANK)
    onnx.checker.check_model(made, full_check=True)
    int8_graph.check(model, made, spikes)
    target.write_bytes(seals.seal(made.SerializeToString()))


def difference(ours: Path, theirs: Path, inputs: Floats) -> Difference:
    """How differently two files of the same network and form fire and predict on `inputs`."""
    networks = Network(ours), Network(theirs)
    first, second = (_watched(n, n.signature.checked(inputs)) for n in networks)
    differing = total = 0
    rates: dict[str, list[float]] = {}
    for here, there in zip(first, second, strict=True):
        for name, spikes in here.items():
            differing += int((spikes != there[name]).sum())
            total += spikes.size
            port = name.partition("@t")[0].removesuffix(".s")
            rates.setdefault(port, []).append(float((there[name] != 0).mean()))
    chosen = [n.predict(inputs) for n in networks]
    ports = tuple(Port(name, float(np.mean(found))) for name, found in rates.items())
    return Difference(differing / max(total, 1), float((chosen[0] != chosen[1]).mean()), ports)


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, feeds: Iterator[Feed]) -> None:
        self.feeds = feeds

    def get_next(self) -> Feed | None:
        return next(self.feeds, None)


def _feeds(network: Network, values: Floats) -> Iterator[Feed]:
    """What the file is fed for `values`: batches, and for a step the states that the steps before have made too."""
    axis = 1 if network.signature.input.kind == "sequence" else 0
    for start in range(0, values.shape[axis], BATCH):
        part = np.take(values, range(start, min(start + BATCH, values.shape[axis])), axis=axis)
        if network.signature.form == "step":
            yield from _chain(network, part)
        else:
            yield {network.input: part}


def _chain(network: Network, values: Floats) -> Iterator[Feed]:
    sequence = network.signature.input.kind == "sequence"
    states = network.zeros(values.shape[1 if sequence else 0])
    for t in range(network.signature.steps):
        frame = np.ascontiguousarray(values[t] if sequence else values)
        yield {network.input: frame, **states}
        _, states = network.step(frame, states)


def _watched(network: Network, values: Floats) -> Iterator[dict[str, np.ndarray]]:
    """The spikes that each call of the file makes, by name."""
    model = onnx.load(network.path)
    names = [n.output[0] for n in model.graph.node if n.domain == DOMAIN]
    given = {o.name for o in model.graph.output}
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in given)
    running = session(model.SerializeToString())
    for feed in _feeds(network, values):
        yield dict(zip(names, running.run(names, dict(feed)), strict=True))


def _spikes(model: onnx.ModelProto) -> list[str]:
    """The values of a graph that 8 bits hold exactly: whole numbers that neurons send, and what only moves them."""
    whole = {function.name for function in model.functions if function.domain == DOMAIN and _sends_whole(function)}
    found: dict[str, None] = {}
    for node in model.graph.node:
        if (node.domain == DOMAIN and node.op_type in whole) or (node.op_type in _MOVES and node.input[0] in found):
            found[node.output[0]] = None
    return list(found)


def _sends_whole(function: onnx.FunctionProto) -> bool:
    """Whether a neuron sends spikes, or whole numbers within bounds that fit; others send any number."""
    makers = {node.output[0]: node for node in function.node}

    def made(name: str) -> tuple[str, list[str]]:
        node = makers.get(name)
        return ("", []) if node is None else (node.op_type, list(node.input))

    def number(name: str) -> float | None:
        kind, inputs = made(name)
        if kind == "CastLike" and made(inputs[0])[0] == "Constant":
            return float(makers[inputs[0]].attribute[0].f)
        return None

    kind, inputs = made(function.output[0])
    if kind == "Identity":
        kind, inputs = made(inputs[0])
    if kind == "CastLike":
        return made(inputs[0])[0] == "Greater"
    if kind != "Clip" or made(inputs[0])[0] != "Round":
        return False
    low, high = (number(bound) for bound in inputs[1:])
    if low is None or high is None:
        return False
    return low >= 0 and high <= np.iinfo(np.uint8).max and low.is_integer() and high.is_integer()


def _set(model: onnx.ModelProto, key: str, value: str) -> None:
    entry = model.metadata_props.add()
    entry.key, entry.value = key, value

"""An exported file in 8 bits, compared with the float32 file it comes from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bcgraph.errors import CompileError

if TYPE_CHECKING:
    from bcgraph.compiler.export.proof import Port
    from bcgraph.schema import NetworkSpec
    from bcgraph.signature import Floats

CALIBRATION = 128
EVALUATION = 1000
SPIKES = 64
LIMIT = 0.05
"""The accuracy that int8 may lose before the file is refused."""


@dataclass(frozen=True)
class Row:
    """One file: accuracy, bytes, milliseconds a sample in batches and for one sample alone."""

    file: str
    accuracy: float
    size: int
    batched: float
    alone: float


@dataclass(frozen=True)
class Comparison:
    """Both files over `samples` test samples, and the shares of predictions and of spikes that differ.

    `ports` tells how much each port fires in int8.
    """

    calibration: int
    samples: int
    rows: tuple[Row, Row]
    predictions: float
    spikes: float
    ports: tuple[Port, ...] = ()


def check(out: Path, form: str) -> None:
    """Raise CompileError (E072) for a target or a form that has no int8."""
    if out.suffix != ".onnx" or form == "scan":
        raise CompileError(
            "E072", "--int8 is for .onnx files in the forms `unrolled` and `step`", hint="leave out --int8"
        )


def quantize(spec: NetworkSpec, source: Path, target: Path, *, inside: bool) -> Comparison:
    """Write `source`, a file in float32, in int8 to `target`, and compare the two on the test part of the data set.

    Calibrated on samples of the training part, evenly spaced. With `inside` the file normalizes its input itself.
    Raises CompileError (E075) when more than `LIMIT` of the accuracy is lost.
    """
    import numpy as np

    from bcgraph import data, runtime
    from bcgraph.compiler.targets.onnx import int8

    found = data.read(spec.data, spec.input, spec.steps)

    def samples(part: data.Part, count: int) -> tuple[Floats, np.ndarray]:
        chosen = np.unique(np.linspace(0, len(part.labels) - 1, min(count, len(part.labels))).astype(np.int64))
        return found.batch(part.samples.take(chosen), raw=inside), part.labels[chosen]

    calibration, _ = samples(found.train, CALIBRATION)
    int8.quantize(source, target, calibration)
    inputs, labels = samples(found.test, EVALUATION)
    rows, chosen = [], []
    for name, path in (("float32", source), ("int8", target)):
        network = runtime.Network(path)
        runtime.predictions(network, inputs)
        predicted, seconds = runtime.predictions(network, inputs)
        alone = runtime.latency(network, inputs).median
        accuracy = float((predicted == labels).mean())
        rows.append(Row(name, accuracy, path.stat().st_size, 1000 * seconds / len(labels), alone))
        chosen.append(predicted)
    few, _ = samples(found.test, SPIKES)
    difference = int8.difference(source, target, few)
    lost = rows[0].accuracy - rows[1].accuracy
    if lost > LIMIT:
        raise CompileError(
            "E075",
            f"in int8 the accuracy falls from {rows[0].accuracy:.4f} to {rows[1].accuracy:.4f}",
            hint=f"more than {LIMIT:.0%} may not be lost; leave out --int8",
        )
    differing = float((chosen[0] != chosen[1]).mean())
    count = calibration.shape[1 if spec.input.kind == "sequence" else 0]
    return Comparison(count, len(labels), (rows[0], rows[1]), differing, difference.spikes, difference.ports)

"""Proof of an exported file: onnxruntime and torch must give the same spikes for the same input.

Two libraries add in different orders, so a membrane within rounding of the threshold may fire in one of them alone.
After such a tie a deep network diverges. So a proof asks that **in each sample the first spike that differs is such a
tie**. A wrong connection or weight differs first where no membrane is near the threshold.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnxruntime
import torch
from torch import Tensor, fx

from bcgraph.compiler.targets.fx.observer import Observer
from bcgraph.errors import CompileError
from bcgraph.readout import predict

# How near to the threshold, in units of it, a membrane in float32 must be to count as a tie.
TIE = 1e-3


@dataclass(frozen=True, slots=True)
class Proof:
    """The result of the comparison over `samples` samples.

    `firing` is the share of neurons and steps that fire: a silent network proves little. `logit_difference` is the
    largest difference of outputs, among samples that agree in every spike. `differing_spikes` is a share of the spikes
    of all ports and steps, `differing_samples` the share of samples whose prediction differs.
    """

    samples: int
    firing: float
    logit_difference: float
    differing_spikes: float
    differing_samples: float


def session(model: bytes) -> onnxruntime.InferenceSession:
    """An onnxruntime session on the CPU that prints errors alone."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def watched(module: fx.GraphModule) -> dict[str, float]:
    """The names of all spike values of a module without fused LIF layers, in order, with their thresholds."""
    found: dict[str, float] = {}
    for node in module.graph.nodes:
        if "spikes" in node.meta:
            threshold = node.args[1]
            assert isinstance(threshold, float)
            found[node.meta["bcgraph"]] = threshold
    return found


@torch.no_grad()
def compare(
    module: fx.GraphModule, inputs: Mapping[str, Tensor], outputs: Mapping[str, np.ndarray], readout: str
) -> Proof:
    """Compare `outputs` of onnxruntime (O first, spikes by name) with `module`, compiled without fused LIF layers.

    Raises CompileError (E075) when a sample's first differing spike is not a tie, or logits differ where spikes do not.
    """
    observer = Observer(module, {n.meta["bcgraph"]: n.args[0] for n in module.graph.nodes if "spikes" in n.meta})
    result = observer.run(*inputs.values())
    expected = (result[0] if isinstance(result, tuple) else result).numpy()
    actual = next(iter(outputs.values()))
    samples = expected.shape[-2]
    diverged = np.zeros(samples, dtype=bool)
    differing = total = firing = 0
    for name, threshold in watched(module).items():
        u = observer.values[name].numpy().reshape(samples, -1)
        ours = u > threshold
        theirs = outputs[name].reshape(samples, -1) > 0.5
        wrong = ours != theirs
        differing += int(wrong.sum())
        total += wrong.size
        firing += int(ours.sum())
        fresh = wrong & ~diverged[:, None]
        distance = float((np.abs(u - threshold)[fresh]).max(initial=0.0))
        if distance > TIE * max(1.0, threshold):
            raise CompileError(
                "E075",
                f"the exported file fires differently at {name}, {distance:.3g} away from the threshold",
                hint="this is a fault of the exporter, not of the network: please report it with the .bcg file",
            )
        diverged |= wrong.any(axis=1)
    gap = np.abs(expected - actual)[..., ~diverged, :]
    largest = float(gap.max(initial=0.0))
    scale = max(1.0, float(np.abs(expected).max(initial=0.0)))
    if largest > 1e-3 * scale:
        raise CompileError("E075", f"the exported file computes other outputs: they differ by {largest:.3g}")
    return Proof(
        samples=samples,
        firing=firing / max(total, 1),
        logit_difference=largest,
        differing_spikes=differing / max(total, 1),
        differing_samples=float((predictions(expected, readout) != predictions(actual, readout)).mean()),
    )


def predictions(outputs: np.ndarray, readout: str) -> np.ndarray:
    """The predicted class of each sample from `[T, N, classes]`, or `[N, classes]` for one step."""
    return np.asarray(predict(outputs if outputs.ndim == 3 else outputs[None], readout))

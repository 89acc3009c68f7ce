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
from bcgraph.nn.neuron import neuron as neurons
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


def watched(module: fx.GraphModule) -> tuple[str, ...]:
    """The names of what the ports of a module without fused neurons send, in order."""
    return tuple(node.meta["bcgraph"] for node in module.graph.nodes if "spikes" in node.meta)


@torch.no_grad()
def compare(
    module: fx.GraphModule, inputs: Mapping[str, Tensor], outputs: Mapping[str, np.ndarray], readout: str
) -> Proof:
    """Compare `outputs` of onnxruntime (O first, spikes by name) with `module`, compiled without fused neurons.

    Raises CompileError (E075) when a sample's first differing spike is not a tie, or logits differ where spikes do not.
    """
    sending = [node for node in module.graph.nodes if "spikes" in node.meta]
    wanted = {f"{n.meta['bcgraph']}#{i}": read for n in sending for i, read in enumerate(_operands(n))}
    observer = Observer(module, wanted | {n.meta["bcgraph"]: n for n in sending})
    result = observer.run(*inputs.values())
    expected = (result[0] if isinstance(result, tuple) else result).numpy()
    actual = next(iter(outputs.values()))
    samples = expected.shape[-2]
    diverged = np.zeros(samples, dtype=bool)
    differing = total = firing = 0
    for node in sending:
        name = node.meta["bcgraph"]
        count = len(node.args[0])
        values = [observer.values[f"{name}#{i}"] for i in range(len(_operands(node)))]
        ours = observer.values[name].numpy().reshape(samples, -1)
        theirs = outputs[name].reshape(samples, -1)
        from_change = neurons.margin(node.target, values[:count], values[count:])
        # What gives any number is compared as numbers.
        tolerance = 0.5 if from_change is not None else TIE * max(1.0, float(np.abs(ours).max(initial=0.0)))
        wrong = np.abs(ours - theirs) > tolerance
        differing += int(wrong.sum())
        total += wrong.size
        firing += int((ours != 0).sum())
        fresh = wrong & ~diverged[:, None]
        if fresh.any():
            threshold = module.meta["neurons"][node.meta["port"]].neuron.threshold or 1.0
            there = np.inf if from_change is None else from_change.numpy().reshape(samples, -1)[fresh].max()
            if there > TIE * max(1.0, threshold):
                raise CompileError(
                    "E075",
                    f"the exported file fires differently at {name}, {there:.3g} away from the threshold",
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


def _operands(node: fx.Node) -> list[fx.Node]:
    """What the node of a port's own equation reads: values, and then learned parameters."""
    values, learned = node.args
    return [*values, *learned]  # type: ignore[misc]


def predictions(outputs: np.ndarray, readout: str) -> np.ndarray:
    """The predicted class of each sample from `[T, N, classes]`, or `[N, classes]` for one step."""
    return np.asarray(predict(outputs if outputs.ndim == 3 else outputs[None], readout))

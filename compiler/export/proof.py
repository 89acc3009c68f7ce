"""Proof of an exported file: what runs it and torch must give the same spikes for the same input.

Two libraries add in different orders, so a membrane within rounding of the threshold may fire in one of them alone.
After such a tie a deep network diverges. So a proof asks that **in each sample the first spike that differs is such a
tie**. A wrong connection or weight differs first where no membrane is near the threshold. A port that never fires hides
all that stands behind it, so a proof tells the firing rate of each port (`drafts.py` proves a silent network again).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor, fx

from bcgraph.compiler.targets.fx.observer import Observer
from bcgraph.errors import CompileError
from bcgraph.nn.neuron import neuron as neurons
from bcgraph.readout import predict

# How near to the threshold, in units of it, a membrane in float32 must be to count as a tie.
TIE = 1e-3


@dataclass(frozen=True, slots=True)
class Port:
    """The share of the neurons and steps of a port that fire. What is not `counted` sends any number."""

    name: str
    firing: float
    counted: bool = True

    @property
    def saturated(self) -> bool:
        """Whether each neuron fires at each step."""
        return self.counted and self.firing == 1.0


@dataclass(frozen=True, slots=True)
class Proof:
    """The result of the comparison over `samples` samples.

    `firing` is the share of neurons and steps that fire, `ports` tells it by port. `logit_difference` is the
    largest difference of outputs, among samples that agree in every spike. `differing_spikes` is a share of the spikes
    of all ports and steps, `differing_samples` the share of samples whose prediction differs. `settled` is the proof of
    the same file with batch norms settled on the inputs, where ports were silent or saturated without. `not_finite` are
    samples for which the network itself gives nan or infinity, whose outputs are not compared.
    """

    samples: int
    firing: float
    logit_difference: float
    differing_spikes: float
    differing_samples: float
    ports: tuple[Port, ...] = ()
    settled: Proof | None = None
    not_finite: int = 0

    @property
    def firing_ports(self) -> int:
        """How many ports fire at all."""
        return sum(port.firing > 0 for port in self.ports)

    @property
    def quiet(self) -> bool:
        """Whether a port is silent or saturated."""
        return any(port.firing == 0 or port.saturated for port in self.ports)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What to know before relying on the proof, a sentence each."""
        found = []
        if self.not_finite:
            found.append(f"the outputs of {self.not_finite} of {self.samples} samples are nan or infinite")
        for what, ports in (
            ("never fires on these inputs", [p.name for p in self.ports if p.firing == 0]),
            ("always fires on these inputs", [p.name for p in self.ports if p.saturated]),
        ):
            if ports:
                found.append(f"{_listed(ports)} {what if len(ports) == 1 else what.replace('fires', 'fire')}")
        if self.settled is not None:
            found.append(
                f"so the file was proved once more, with its batch norms settled on the inputs: then "
                f"{self.settled.firing_ports} of {len(self.ports)} ports fire, and "
                f"{self.settled.differing_spikes:.4%} of spikes differ"
            )
        best = max(self.firing_ports, 0 if self.settled is None else self.settled.firing_ports)
        if 2 * best < len(self.ports):
            found.append(f"this proves little: only {best} of {len(self.ports)} ports fire")
        return tuple(found)


def _listed(names: list[str], most: int = 4) -> str:
    shown = ", ".join(f"`{name}`" for name in names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


@dataclass(frozen=True, slots=True)
class Comparison:
    """A proof, and for each sample whether some membrane in it is near enough to the threshold for a tie."""

    proof: Proof
    near: NDArray[np.bool_]


def session(model: bytes) -> onnxruntime.InferenceSession:
    """An onnxruntime session on the CPU that prints errors alone."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    # Threads that wait for work in a loop take a third of the time of a proof, and what others on the machine need.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def watched(module: fx.GraphModule) -> tuple[str, ...]:
    """The names of what the ports of a module without fused neurons send, in order."""
    return tuple(node.meta["bcgraph"] for node in module.graph.nodes if "spikes" in node.meta)


@torch.no_grad()
def compare(
    module: fx.GraphModule, inputs: Mapping[str, Tensor], outputs: Mapping[str, np.ndarray], readout: str
) -> Comparison:
    """Compare `outputs` of a file (O first, spikes by name) with `module`, compiled without fused neurons.

    Raises CompileError (E075) when a sample's first differing spike is not a tie, or logits differ where spikes do not.
    """
    sending = [node for node in module.graph.nodes if "spikes" in node.meta]
    wanted = {f"{n.meta['bcgraph']}#{i}": read for n in sending for i, read in enumerate(_operands(n))}
    observer = Observer(module, wanted | {n.meta["bcgraph"]: n for n in sending})
    result = observer.run(*inputs.values())
    expected = (result[0] if isinstance(result, tuple) else result).numpy()
    actual = next(iter(outputs.values()))
    samples = expected.shape[-2]
    diverged, near = np.zeros((2, samples), dtype=bool)
    differing = total = 0
    rates: dict[int, list[float]] = {}
    counted: dict[int, bool] = {}
    for node in sending:
        name = node.meta["bcgraph"]
        count = len(node.args[0])
        values = [observer.values[f"{name}#{i}"] for i in range(len(_operands(node)))]
        ours = observer.values[name].numpy().reshape(samples, -1)
        theirs = outputs[name].reshape(samples, -1)
        from_change = neurons.margin(node.target, values[:count], values[count:])
        # What gives any number is compared as numbers.
        tolerance = 0.5 if from_change is not None else TIE * max(1.0, float(np.abs(ours).max(initial=0.0)))
        with np.errstate(invalid="ignore"):
            wrong = np.abs(ours - theirs) > tolerance
        differing += int(wrong.sum())
        total += wrong.size
        port = int(node.meta["port"])
        rates.setdefault(port, []).append(float((ours != 0).mean()))
        counted[port] = from_change is not None
        threshold = module.meta["neurons"][port].neuron.threshold or 1.0
        tie = TIE * max(1.0, threshold)
        distance = None if from_change is None else from_change.numpy().reshape(samples, -1)
        near |= True if distance is None else (distance <= tie).any(axis=1)
        fresh = wrong & ~diverged[:, None]
        if fresh.any():
            there = np.inf if distance is None else distance[fresh].max()
            if there > tie:
                raise CompileError(
                    "E075",
                    f"the exported file fires differently at {name}, {there:.3g} away from the threshold",
                    hint="this is a fault of the exporter, not of the network: please report it with the .bcg file",
                )
        diverged |= wrong.any(axis=1)
    finite = np.isfinite(expected).all(axis=tuple(i for i in range(expected.ndim) if i != expected.ndim - 2))
    judged = ~diverged & finite
    # Where the network gives a number and the file none, nothing is further apart.
    gap = np.nan_to_num(np.abs(expected[..., judged, :] - actual[..., judged, :]), nan=np.inf)
    largest = float(gap.max(initial=0.0))
    scale = max(1.0, float(np.abs(expected[..., finite, :]).max(initial=0.0)))
    if largest > 1e-3 * scale:
        raise CompileError("E075", f"the exported file computes other outputs: they differ by {largest:.3g}")
    names = module.meta["neurons"]
    ports = tuple(Port(names[p].name, float(np.mean(found)), counted[p]) for p, found in sorted(rates.items()))
    proof = Proof(
        samples=samples,
        firing=_rate(sending, observer),
        logit_difference=largest,
        differing_spikes=differing / max(total, 1),
        differing_samples=float((predictions(expected, readout) != predictions(actual, readout)).mean()),
        ports=ports,
        not_finite=int((~finite).sum()),
    )
    return Comparison(proof, near)


def same_outputs(file: np.ndarray, sibling: np.ndarray, near: NDArray[np.bool_]) -> None:
    """Raise CompileError (E075) when a file gives other outputs `[..., N, classes]` than its sibling.

    Only in samples with a tie may they differ by more than rounding.
    """
    if file.shape != sibling.shape:
        raise CompileError("E075", f"the exported file gives {list(file.shape)} instead of {list(sibling.shape)}")
    # What the sibling gives that is no number, the file has to give as well.
    same = (file == sibling) | (np.isnan(file) & np.isnan(sibling))
    with np.errstate(invalid="ignore"):
        gap = np.where(same, 0.0, np.abs(file - sibling))
    allowed = 1e-3 * max(1.0, float(np.abs(sibling).max(initial=0.0)))
    wrong = (~(gap <= allowed)).any(axis=tuple(i for i in range(gap.ndim) if i != gap.ndim - 2))
    if (wrong & ~near).any():
        raise CompileError(
            "E075", f"the file that was read back computes other outputs: they differ by {float(gap.max()):.3g}"
        )


def _rate(sending: list[fx.Node], observer: Observer) -> float:
    """The share of all neurons and steps that fire."""
    spikes = [observer.values[node.meta["bcgraph"]] for node in sending]
    return sum(int((s != 0).sum()) for s in spikes) / max(sum(s.numel() for s in spikes), 1)


def _operands(node: fx.Node) -> list[fx.Node]:
    """What the node of a port's own equation reads: values, and then learned parameters."""
    values, learned = node.args
    return [*values, *learned]  # type: ignore[misc]


def predictions(outputs: np.ndarray, readout: str) -> np.ndarray:
    """The predicted class of each sample from `[T, N, classes]`, or `[N, classes]` for one step."""
    return np.asarray(predict(outputs if outputs.ndim == 3 else outputs[None], readout))

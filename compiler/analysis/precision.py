"""How far a network in another dtype diverges: the shares of spikes and of predictions that differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from bcgraph import weights
from bcgraph.compiler.driver import compile
from bcgraph.compiler.targets.fx.observer import spikes
from bcgraph.nn.determinism import full_precision
from bcgraph.readout import predict
from bcgraph.schema import NetworkSpec


@dataclass(frozen=True, slots=True)
class Divergence:
    """Shares over `samples` samples: of all spikes, of the spikes of each port, and of predictions that differ."""

    samples: int
    spikes: float
    ports: tuple[float, ...]
    predictions: float


@torch.no_grad()
def divergence(
    spec: NetworkSpec,
    x: Tensor,
    dtype: torch.dtype,
    *,
    state_dict: Mapping[str, Tensor] | None = None,
    seed: int = 0,
    device: torch.device | str | None = None,
    int16: bool = False,
) -> Divergence:
    """Run `spec` in eval mode in float32 and in `dtype` on the same `x` and compare every spike and prediction.

    With `int16` the weights that meet spikes are rounded to 16 bits as well (see `compile`).

    x is `[N, C, H, W]`, or `[T, N, C, H, W]` for a sequence. Without a `state_dict` the weights are drawn from `seed`.
    Raises WeightsError (E083) where weights do not fit.
    """
    found = []
    for kind, rounded in ((torch.float32, False), (dtype, int16)):
        weights_in = "int16" if rounded else None
        model = compile(spec, "folded", seed=seed, inference=rounded, weights=weights_in)
        if state_dict is not None:
            weights.apply(model, dict(state_dict))
        model.to(dtype=kind, device=device).eval()
        with full_precision():
            found.append(spikes(model, x.to(dtype=kind, device=device)))
    (outputs, ours), (others, theirs) = found
    wrong = [0] * len(spec.ports)
    total = [0] * len(spec.ports)
    for (port, step), spike in ours.items():
        wrong[port] += int((spike.bool() != theirs[port, step].bool()).sum())
        total[port] += spike.numel()
    differ = predict(outputs.float(), spec.readout) != predict(others.float(), spec.readout)
    return Divergence(
        samples=len(differ),
        spikes=sum(wrong) / max(1, sum(total)),
        ports=tuple(w / max(1, t) for w, t in zip(wrong, total, strict=True)),
        predictions=float(differ.float().mean()),
    )

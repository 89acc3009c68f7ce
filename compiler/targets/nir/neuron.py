"""Nodes of NIR for layers of neurons."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import nir
import numpy as np

from bcgraph.compiler.targets.nir.primitives import DT, Primitive
from bcgraph.shapes import Shape


def node(found: list[Primitive], shape: Shape) -> Any:
    """The NIR node of a layer of `shape`, from its primitive: one for the layer, or one for each channel."""

    def every(value: Callable[[Primitive], float]) -> np.ndarray:
        values = np.array([value(each) for each in found], dtype=np.float32)
        return np.broadcast_to(values.reshape(-1, *[1] * (len(shape) - 1)), shape).copy()

    def time(value: Callable[[Primitive], float]) -> np.ndarray:
        # As a product of numbers in float32, so that a reader in float32 gets the ratio back.
        return every(lambda p: float(np.float32(DT) * np.float32(1 / (1 - value(p)))))

    first = found[0]
    fires = {}
    if first.threshold is not None:
        fires = {"v_threshold": every(lambda p: p.threshold or 0.0), "v_reset": every(lambda p: p.reset)}
    if first.synapse is None and first.membrane.keep == 1.0 and fires:
        return nir.IF(r=every(lambda p: p.membrane.gain / DT), **fires)
    membrane = {
        "r": every(lambda p: p.membrane.gain / (1 - p.membrane.keep)),
        "v_leak": every(lambda p: p.membrane.rest / (1 - p.membrane.keep)),
    }
    if first.synapse is None:
        kind: Any = nir.LIF if fires else nir.LI
        return kind(tau=time(lambda p: p.membrane.keep), **membrane, **fires)
    synapse = {
        "tau_syn": time(lambda p: p.synapse.keep if p.synapse else 0.0),
        "tau_mem": time(lambda p: p.membrane.keep),
        "w_in": every(lambda p: p.synapse.gain / (1 - p.synapse.keep) if p.synapse else 0.0),
    }
    kind = nir.CubaLIF if fires else nir.CubaLI
    return kind(**synapse, **membrane, **fires)

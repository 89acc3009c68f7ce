"""Folding a norm into a convolution when a file is written, in float64: a file is for inference."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from bcgraph.compiler.ir import Node


def folded(node: Node, weights: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Weight `[out, in, k, k]` and bias `[out]` that a `fold_norm` node stands for, in float64."""
    a = node.attrs
    names = [f"{a['conv']}.weight", *(f"{a['norm']}.{p}" for p in ("weight", "bias", "running_mean", "running_var"))]
    weight, scale, shift, mean, var = (weights[n].astype(np.float64) for n in names)
    bias = weights[f"{a['conv']}.bias"].astype(np.float64) if a["bias"] else 0.0
    factor = scale / np.sqrt(var + a["eps"])
    return weight * factor[:, None, None, None], shift + (bias - mean) * factor

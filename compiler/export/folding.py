"""Norms when a file is written: folded into a convolution, or what they are at one step. A file is for inference."""

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


def affine_by_step(node: Node, weights: Mapping[str, np.ndarray], steps: int) -> tuple[np.ndarray, np.ndarray]:
    """What a norm in inference multiplies by, and what it then adds: `[T, C]` each, a row for each step, in float64."""
    names = ("weight", "bias", "running_mean", "running_var")
    weight, bias, mean, var = (np.atleast_2d(weights[f"{node.module}.{n}"].astype(np.float64)) for n in names)
    norm = node.attrs["layer"].norm
    scale = weight / np.sqrt(var + norm.eps)
    shift = bias - mean * scale
    own = weights[f"{node.module}.p"].astype(np.float64)[:, None] if norm.scales == "per_step" else np.ones((steps, 1))
    return own * scale, own * shift


def norm_at(node: Node, part: str, weights: Mapping[str, np.ndarray]) -> np.ndarray | None:
    """A part of a norm `[C]` at the step of `node`, float32, None where it is the parameter or buffer of that name.

    `part` is `weight`, `bias`, `running_mean` or `running_var`.
    """
    norm = node.attrs["layer"].norm
    value = weights[f"{node.module}.{part}"]
    if part in ("weight", "bias"):
        found = value * weights[f"{node.module}.p"][node.step] if norm.scales == "per_step" else None
    else:
        found = value[node.step] if norm.statistics == "per_step" else None
    return None if found is None else found.astype(np.float32)

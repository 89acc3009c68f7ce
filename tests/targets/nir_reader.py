"""An interpreter of NIR files in numpy and float64, written from NIR's equations: it knows nothing of bcgraph.

It opens the HDF5 file itself. Nodes run in the order of their names, edges that arrive together add up, and an edge
that leads back in that order carries the value of the step before, nothing in the first step. Neurons are integrated
by forward Euler with the step `dt`, from rest.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

Arrays = dict[str, np.ndarray]
NEURONS = ("IF", "LIF", "CubaLIF")


class Reader:
    def __init__(self, path: Path, dt: float = 1e-4) -> None:
        with h5py.File(path) as file:
            graph = file["node"]
            assert graph["type"][()] == b"NIRGraph"
            self.nodes: dict[str, dict[str, Any]] = {
                name: {k: v[()] for k, v in group.items() if k != "metadata"}
                for name, group in sorted(graph["nodes"].items())
            }
            self.labels = {
                name: group["metadata/bcgraph.name"][()].decode()
                for name, group in graph["nodes"].items()
                if "metadata" in group
            }
            self.edges = [(a.decode(), b.decode()) for a, b in graph["edges"][()]]
        self.dt = dt
        self.order = {name: place for place, name in enumerate(self.nodes)}

    def kind(self, name: str) -> str:
        found: str = self.nodes[name]["type"].decode()
        return found

    def back(self) -> list[tuple[str, str]]:
        """The edges that lead back."""
        return [(a, b) for a, b in self.edges if self.order[a] >= self.order[b]]

    def run(self, frames: Iterator[np.ndarray] | list[np.ndarray]) -> Iterator[Arrays]:
        """The value of every node at each step; a frame is `[N, ...]`."""
        before: Arrays = {}
        membranes: Arrays = {}
        for frame in frames:
            now: Arrays = {}
            for name, node in self.nodes.items():
                kind = self.kind(name)
                arriving = [
                    now[a] if a in now else before[a] for a, b in self.edges if b == name and (a in now or before)
                ]
                x = frame if kind == "Input" else np.sum(arriving, axis=0)
                now[name] = self.fire(name, node, x, membranes) if kind in NEURONS else STATELESS[kind](node, x)
            yield now
            before = now

    def fire(self, name: str, node: dict[str, Any], current: np.ndarray, membranes: Arrays) -> np.ndarray:
        v = membranes.get(name, np.zeros_like(current))
        if self.kind(name) == "CubaLIF":
            # tau_syn di/dt = -i + w_in I, and the membrane reads the new i.
            i = membranes.get(f"{name}.i", np.zeros_like(current))
            ratio = (np.float32(self.dt) / node["tau_syn"]).astype(np.float64)
            current = membranes[f"{name}.i"] = i + ratio * (node["w_in"].astype(np.float64) * current - i)
        if self.kind(name) != "IF":
            # tau dv/dt = (v_leak - v) + r I; the ratio in the file's own type, as its readers take it.
            tau = node["tau_mem" if self.kind(name) == "CubaLIF" else "tau"]
            ratio = (np.float32(self.dt) / tau).astype(np.float64)
            v = v + ratio * ((node["v_leak"] - v) + node["r"].astype(np.float64) * current)
        else:
            v = v + self.dt * node["r"].astype(np.float64) * current
        spikes = v > node["v_threshold"]
        membranes[name] = np.where(spikes, node["v_reset"], v)
        return spikes.astype(np.float64)


def windows(x: np.ndarray, kernel: Any, stride: Any, padding: Any, dilation: Any = (1, 1)) -> np.ndarray:
    """`[N, C, H', W', kh, kw]` of `[N, C, H, W]`."""
    x = np.pad(x, ((0, 0), (0, 0), (padding[0],) * 2, (padding[1],) * 2))
    reach = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    seen = np.lib.stride_tricks.sliding_window_view(x, reach, axis=(2, 3))
    return seen[:, :, :: stride[0], :: stride[1], :: dilation[0], :: dilation[1]]


def conv2d(node: dict[str, Any], x: np.ndarray) -> np.ndarray:
    assert node["groups"] == 1
    assert tuple(node["input_shape"]) == x.shape[2:]
    weight = node["weight"].astype(np.float64)
    seen = windows(x, weight.shape[2:], node["stride"], node["padding"], node["dilation"])
    return np.einsum("nchwij,ocij->nohw", seen, weight, optimize=True) + node["bias"][:, None, None]


def affine(node: dict[str, Any], x: np.ndarray) -> np.ndarray:
    return np.asarray(x @ node["weight"].astype(np.float64).T + node.get("bias", 0.0))


def sum_pool(node: dict[str, Any], x: np.ndarray) -> np.ndarray:
    return np.asarray(windows(x, node["kernel_size"], node["stride"], node["padding"]).sum(axis=(4, 5)))


def flatten(node: dict[str, Any], x: np.ndarray) -> np.ndarray:
    assert (node["start_dim"], node["end_dim"]) == (0, -1)
    assert tuple(node["input_type"]) == x.shape[1:]
    return x.reshape(len(x), -1)


STATELESS: dict[str, Any] = {
    "Input": lambda node, x: x,
    "Output": lambda node, x: x,
    "Conv2d": conv2d,
    "Affine": affine,
    "Linear": affine,
    "Scale": lambda node, x: x * node["scale"].astype(np.float64),
    "SumPool2d": sum_pool,
    "Flatten": flatten,
}

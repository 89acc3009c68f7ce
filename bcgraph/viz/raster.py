"""A raster plot: which neurons of which ports fire in which step."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from bcgraph import files
from bcgraph.equations.neuron import SPIKES
from bcgraph.errors import RunError
from bcgraph.viz.arcs import COLORS, FORMATS, STYLE
from bcgraph.viz.styled import styled

NEURONS = 100
"""The most neurons of a port that are shown, evenly spaced among all."""


@dataclass(frozen=True, repr=False)
class Raster:
    """A raster plot that a notebook shows; `figure` is matplotlib's."""

    figure: Figure

    def _repr_svg_(self) -> str:
        """The picture that a notebook shows."""
        text = _render(self.figure, "svg").decode()
        return text[text.index("<svg") :]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the picture, as SVG or PNG by its ending. Raises RunError (E084)."""
        kind = Path(path).suffix.lower().removeprefix(".")
        if kind not in FORMATS:
            raise RunError("E084", f"`{path}` ends in neither .svg nor .png", hint="the ending chooses the format")
        files.write_bytes(path, _render(self.figure, kind))


def raster(seen: Mapping[str, Mapping[str, Any]], *, sample: int = 0, neurons: int = NEURONS) -> Raster:
    """Plot the spikes of one sample in what `bcgraph.record` returned: steps to the right, neurons upwards.

    Up to `neurons` of each port are shown, evenly spaced; the firing rate beside a port's name is that of all of them.
    Raises RunError (E090) where no spikes were recorded or there is no such sample.
    """
    spikes = {port: _spikes(port, values, sample) for port, values in seen.items()}
    if not spikes:
        raise RunError("E090", "no port was recorded")
    steps = max(len(fired) for fired in spikes.values())
    figure = Figure(figsize=(max(3.5, 1.6 + 0.22 * steps), 0.7 + 0.75 * len(spikes)), layout="constrained")
    rows = figure.subplots(len(spikes), 1, sharex=True, squeeze=False)[:, 0]
    for number, (axes, (port, fired)) in enumerate(zip(rows, spikes.items(), strict=True)):
        shown = np.unique(np.linspace(0, fired.shape[1] - 1, min(neurons, fired.shape[1])).round().astype(int))
        step, neuron = np.nonzero(fired[:, shown])
        color = COLORS[number % len(COLORS)]
        axes.scatter(step, neuron, s=6, marker="|", color=color, linewidth=0.9)
        axes.set_ylim(-0.5, len(shown) - 0.5)
        axes.set_yticks([])
        axes.set_ylabel(f"{port}\n{(fired != 0).mean():.1%}", rotation=0, ha="right", va="center", fontsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    rows[-1].set_xlim(-0.5, steps - 0.5)
    rows[-1].xaxis.get_major_locator().set_params(integer=True)
    rows[-1].set_xlabel("step", fontsize=9)
    return Raster(figure)


def _spikes(port: str, values: Mapping[str, Any], sample: int) -> np.ndarray[Any, Any]:
    """The spikes of one sample at a port, `[T, neurons]`."""
    if SPIKES not in values:
        raise RunError("E090", f"the spikes of `{port}` were not recorded", hint='record with values=["s"]')
    found = values[SPIKES].detach().cpu().numpy()
    if not 0 <= sample < found.shape[1]:
        raise RunError("E090", f"there is no sample {sample}", hint=f"samples are numbered 0 to {found.shape[1] - 1}")
    return np.asarray(found[:, sample].reshape(len(found), -1))


def _render(figure: Figure, kind: str) -> bytes:
    stream = io.BytesIO()
    with styled(STYLE):
        metadata: dict[str, Any] = {"Date": None} if kind == "svg" else {"Software": None}
        figure.savefig(stream, format=kind, dpi=150, metadata=metadata)
    return stream.getvalue()

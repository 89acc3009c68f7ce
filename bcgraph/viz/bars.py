"""A picture of what a network costs: a bar for the energy of each layer, and one for the firing rate of each port."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from bcgraph import files
from bcgraph.errors import RunError
from bcgraph.profile import ACCUMULATE, MULTIPLY_ACCUMULATE, Profile
from bcgraph.viz.styled import styled

FORMATS = ("svg", "png")

# By what a layer reads (Okabe and Ito): numbers, spikes, spikes of an earlier step.
_NUMBERS, _SPIKES, _BACKWARD = "#9A9A9A", "#0072B2", "#D55E00"
_MEANINGS = {_NUMBERS: "reads numbers", _SPIKES: "reads spikes", _BACKWARD: "backward connection"}
_STYLE: Any = {"svg.hashsalt": "bcgraph", "svg.fonttype": "path", "font.family": "DejaVu Sans", "font.size": 8}


def format_of(path: str | os.PathLike[str]) -> str:
    """`svg` or `png`, by the ending of `path`. Raises RunError (E084) for another."""
    kind = Path(path).suffix.lower().removeprefix(".")
    if kind not in FORMATS:
        raise RunError("E084", f"`{path}` ends in neither .svg nor .png", hint="the ending chooses the format")
    return kind


def draw(
    profile: Profile,
    path: str | os.PathLike[str],
    *,
    accumulate: float = ACCUMULATE,
    multiply_accumulate: float = MULTIPLY_ACCUMULATE,
) -> None:
    """Draw `profile` to `path`, as SVG or PNG by its ending: energies where rates were measured, else operations.

    Equal profiles give equal SVG files. Raises RunError (E084) for another ending or when it cannot be written.
    """
    kind = format_of(path)
    if profile.measured:
        costs = [profile.energy(layer, accumulate, multiply_accumulate) * 1e9 for layer in profile.layers]
        unit = "energy, nJ a sample"
    else:
        costs = [layer.operations / 1e6 for layer in profile.layers]
        unit = "operations, million a step"
    with styled(_STYLE):
        figure = _figure(profile, costs, unit)
        stream = io.BytesIO()
        figure.savefig(stream, format=kind, dpi=150, metadata={"Date": None} if kind == "svg" else {"Software": None})
    files.write_bytes(path, stream.getvalue())


def _figure(profile: Profile, costs: list[float], unit: str) -> Figure:
    rows = max(len(profile.layers), len(profile.ports))
    figure = Figure(figsize=(9 if profile.measured else 5.5, 1.2 + 0.2 * rows), layout="constrained")
    columns = figure.subplots(1, 2 if profile.measured else 1, squeeze=False)[0]
    colors = [
        _BACKWARD if layer.kind in ("backward", "forward") else _NUMBERS if layer.reads is None else _SPIKES
        for layer in profile.layers
    ]
    _bars(columns[0], [layer.name for layer in profile.layers], costs, colors, unit)
    present = [Patch(color=color, label=meaning) for color, meaning in _MEANINGS.items() if color in colors]
    figure.legend(handles=present, loc="outside upper left", ncols=len(present), frameon=False)
    if profile.measured:
        means = [sum(port.rates) / len(port.rates) for port in profile.ports]
        _bars(columns[1], [port.name for port in profile.ports], means, [_SPIKES] * len(means), "firing rate")
    return figure


def _bars(axes: Any, names: list[str], values: list[float], colors: list[str], unit: str) -> None:
    axes.barh(range(len(names)), values, color=colors, height=0.7)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlabel(unit)
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.spines[["top", "right"]].set_visible(False)

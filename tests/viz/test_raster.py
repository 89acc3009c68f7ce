from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
import torch

import bcgraph
from bcgraph.errors import RunError


def test_a_mark_stands_for_each_spike_of_the_sample(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    spikes = (torch.rand(6, 3, 4, 2, 2, generator=generator) < 0.3).float()
    plot = bcgraph.raster({"lif1": {"s": spikes}, "lif2": {"s": 1 - spikes[:, :, :1]}}, sample=1)
    first, second = plot.figure.axes
    for axes, wanted in ((first, spikes), (second, 1 - spikes[:, :, :1])):
        fired = wanted[:, 1].reshape(6, -1).numpy()
        marks = {tuple(map(int, place)) for place in axes.collections[0].get_offsets()}
        assert marks == set(zip(*map(np.ndarray.tolist, np.nonzero(fired)), strict=True))
        assert f"{fired.mean():.1%}" in axes.get_ylabel()
    assert ET.fromstring(plot._repr_svg_()).tag.endswith("svg")
    plot.save(tmp_path / "spikes.png")
    assert (tmp_path / "spikes.png").read_bytes().startswith(b"\x89PNG")


def test_of_many_neurons_some_are_shown_and_the_rate_is_that_of_all() -> None:
    spikes = torch.zeros(2, 1, 1000)
    spikes[0, 0, 1:] = 1
    (axes,) = bcgraph.raster({"p": {"s": spikes}}, neurons=10).figure.axes
    assert len(axes.collections[0].get_offsets()) == 9
    assert "50.0%" in axes.get_ylabel()


@pytest.mark.parametrize(
    ("seen", "sample"), [({}, 0), ({"p": {"u": torch.zeros(2, 1, 3)}}, 0), ({"p": {"s": torch.zeros(2, 1, 3)}}, 1)]
)
def test_what_cannot_be_plotted(seen: dict[str, dict[str, torch.Tensor]], sample: int) -> None:
    with pytest.raises(RunError) as caught:
        bcgraph.raster(seen, sample=sample)
    assert caught.value.code == "E090"

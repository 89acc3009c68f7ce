from __future__ import annotations

import struct
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from bcgraph.errors import BcgraphWarning, RunError
from bcgraph.schema import BackwardConnection, ForwardConnection, Projection
from bcgraph.viz import arcs
from bcgraph.viz.picture import png
from tests.search.conftest import chain

CONNECTIONS = [(6, 0), (4, 4), (5, 2, 3)]


def test_svg_is_well_formed_and_the_same_each_time(tmp_path: Path) -> None:
    spec = chain(7, CONNECTIONS, halve_at=(3,))
    for name in ("a.svg", "b.svg"):
        arcs.draw(spec, tmp_path / name)
    first = (tmp_path / "a.svg").read_bytes()
    assert first == (tmp_path / "b.svg").read_bytes()
    assert ET.fromstring(first).tag.endswith("svg")
    assert arcs.svg(spec).startswith("<svg")


def test_png_has_pixels(tmp_path: Path) -> None:
    arcs.draw(chain(7, CONNECTIONS), tmp_path / "net.PNG")
    data = (tmp_path / "net.PNG").read_bytes()
    assert data.startswith(b"\x89PNG")
    width, height = struct.unpack(">II", data[16:24])
    assert width > height > 150


def test_a_large_png_has_fewer_pixels_an_inch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(png, "MAX_PIXELS", 100_000)
    with pytest.warns(BcgraphWarning, match=r"pixels an inch instead of 150"):
        arcs.draw(chain(7, CONNECTIONS), tmp_path / "net.png")
    width, height = struct.unpack(">II", (tmp_path / "net.png").read_bytes()[16:24])
    assert 90_000 < width * height <= 102_000


def test_what_is_drawn() -> None:
    texts = [t.content for t in arcs.picture(chain(7, CONNECTIONS, halve_at=(3,))).texts]
    assert texts[0] == "chain: 3 backward connections, T = 4"
    for wanted in ("6\N{RIGHTWARDS ARROW}0", "4\N{RIGHTWARDS ARROW}4", "5\N{RIGHTWARDS ARROW}2, delay 3"):
        assert wanted in texts
    assert {f"lif{i}" for i in range(7)} <= set(texts)
    assert {"16\N{MULTIPLICATION SIGN}16", "8\N{MULTIPLICATION SIGN}8"} <= set(texts)


def test_forward_connections_are_drawn_below_and_say_what_they_are() -> None:
    spec = chain(5, [(3, 1)]).with_connections(
        [BackwardConnection(3, 1), BackwardConnection(3, 1, 2, join="mul", read="u")],
        [ForwardConnection(0, 4, 0, through=Projection(kernel=3)), ForwardConnection(1, 2)],
    )
    picture = arcs.picture(spec)
    heights = {t.content: t.y for t in picture.texts}
    arrow = "\N{RIGHTWARDS ARROW}"
    row = picture.boxes[0].bounds
    assert heights[f"3{arrow}1 a"] < row.top
    assert heights[f"3{arrow}1 b, delay 2, times, reads u"] < heights[f"3{arrow}1 a"]
    assert heights[f"0{arrow}4, delay 0, 3\N{MULTIPLICATION SIGN}3"] > row.bottom
    assert heights[f"1{arrow}2"] > row.bottom


def test_with_learned_scales_the_loudest_connection_is_the_widest() -> None:
    spec = chain(5, [(3, 1), (4, 0)])
    picture = arcs.picture(spec, {("backward", 3, 1, 1): 0.25, ("backward", 4, 0, 1): 2.0})
    widths = {arc.place: arc.width for arc in picture.arcs}
    assert widths["backward", 4, 0, 1] > 3 * widths["backward", 3, 1, 1]
    assert "4\N{RIGHTWARDS ARROW}0, scale 2.00" in {t.content for t in picture.texts}


@pytest.mark.parametrize("spec", [chain(1), chain(1, [(0, 0)]), chain(40, [(39, 0)])])
def test_extremes(spec, tmp_path: Path) -> None:
    arcs.draw(spec, tmp_path / "net.svg")
    assert ET.parse(tmp_path / "net.svg").getroot().attrib["viewBox"]


@pytest.mark.parametrize("name", ["net.pdf", "net", "no/such/folder/net.svg"])
def test_what_cannot_be_written(name: str, tmp_path: Path) -> None:
    with pytest.raises(RunError) as caught:
        arcs.draw(chain(2), tmp_path / name)
    assert caught.value.code == "E084"
    assert list(tmp_path.iterdir()) == []

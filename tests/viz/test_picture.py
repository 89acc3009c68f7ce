"""In a picture nothing lies on anything else, whatever the connections, names, scales and branches."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Sequence
from itertools import combinations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bcgraph
from bcgraph.schema import BackwardConnection, Connection, ForwardConnection, NeuronLayer, Projection, Sum
from bcgraph.viz import arcs
from bcgraph.viz.picture import metrics
from bcgraph.viz.picture.layout import layout
from bcgraph.viz.picture.request import PORTS_IN_A_ROW, Request
from bcgraph.viz.picture.skeleton import skeleton
from bcgraph.viz.picture.svg import svg
from bcgraph.viz.picture.values import Arc, Bounds, Picture
from tests import neurons

NEURON = neurons.lif()


def segments(arc: Arc) -> list[Bounds]:
    """The straight pieces of an arc, as wide as they are drawn."""
    half = arc.width / 2
    found = []
    for (a, b), (c, d) in zip(arc.points, arc.points[1:], strict=False):
        assert a == c or b == d, "pieces are horizontal or vertical"
        found.append(Bounds(min(a, c) - half, min(b, d) - half, max(a, c) + half, max(b, d) + half))
    return found


def upright(piece: Bounds) -> bool:
    return piece.bottom - piece.top > piece.right - piece.left


def faults(picture: Picture) -> list[str]:
    """All that lies on something else, or off the page."""
    found = []
    inside = Bounds(0, 0, picture.width, picture.height)
    boxes = [(f"port {b.port}", b.bounds) for b in picture.boxes]
    texts = [(f"`{t.content}`", t.bounds) for t in picture.texts]
    lines = [(f"{a.title} piece {n}", i, p) for i, a in enumerate(picture.arcs) for n, p in enumerate(segments(a))]
    for name, b in [*boxes, *texts, *((n, p) for n, _, p in lines)]:
        if b.left < inside.left or b.top < inside.top or b.right > inside.right or b.bottom > inside.bottom:
            found.append(f"{name} is off the page")
    found += [f"{a} on {b}" for (a, p), (b, q) in combinations(texts, 2) if p.meets(q)]
    found += [f"{a} on {b}" for (a, p), (b, q) in combinations(boxes, 2) if p.meets(q, 4)]
    for name, at in texts:
        found += [f"{name} on {arc}" for arc, _, piece in lines if at.meets(piece)]
        for box, bounds in boxes:
            within = bounds.left <= at.left and at.right <= bounds.right and bounds.top <= at.top
            within = within and at.bottom <= bounds.bottom
            if at.meets(bounds) and not within:
                found.append(f"{name} sticks out of {box}")
    # Arcs may cross at right angles, and no more. An end touches the edge of its box.
    for (a, i, p), (b, j, q) in combinations(lines, 2):
        if i != j and p.meets(q, 1.0) and upright(p) == upright(q):
            found.append(f"{a} along {b}")
    found += [f"{a} over {box}" for a, _, p in lines for box, b in boxes if p.meets(b, -2.0)]
    for wire in picture.wires:
        (a, b), (c, d) = wire.start, wire.end
        line = Bounds(min(a, c), min(b, d), max(a, c), max(b, d))
        found += [f"a wire over {box}" for box, bounds in boxes if line.meets(bounds, -0.5)]
        found += [f"a wire over {text}" for text, bounds in texts if line.meets(bounds)]
        for name, _, p in lines:
            if upright(p) == (a == c) and p.meets(line, 0.5):
                found.append(f"a wire along {name}")
    return found


def ends(picture: Picture) -> set[tuple[Any, str, int]]:
    """The ports at which pieces of each connection begin and end."""
    found = set()
    for arc in picture.arcs:
        for (x, y), end in ((arc.points[0], "source"), (arc.points[-1], "target")):
            for box in picture.boxes:
                b = box.bounds
                if b.left <= x <= b.right and (abs(y - b.top) < 1e-6 or abs(y - b.bottom) < 1e-6):
                    found.add((arc.place, end, box.port))
                    assert end == "source" or arc.head
    return found


def wanted(connections: Sequence[Connection]) -> set[tuple[Any, str, int]]:
    return {(c.place, end, getattr(c, end)) for c in connections for end in ("source", "target")}


@st.composite
def bodies(draw: Any, most: int) -> tuple[Any, ...]:
    """Layers of neurons, some in parallel branches that hold branches again."""
    left = [draw(st.integers(1, most))]

    def series(depth: int) -> tuple[Any, ...]:
        found: list[Any] = []
        for _ in range(draw(st.integers(0 if depth else 1, 6))):
            if left[0] <= 0:
                break
            if depth < 3 and draw(st.integers(0, 3)) == 3:
                branches = tuple(series(depth + 1) for _ in range(draw(st.integers(2, 3))))
                found.append(Sum(name=f"sum{left[0]}", branches=branches))
            else:
                left[0] -= 1
                found.append(NeuronLayer(name=f"layer{left[0]}", neuron=NEURON))
        return tuple(found)

    first: list[Any] = [NeuronLayer(name="first", neuron=NEURON)]
    while left[0] > 0:
        first += series(0)
    return tuple(first)


@st.composite
def connections(draw: Any, ports: int, most: int) -> list[Connection]:
    pairs = st.tuples(st.integers(0, ports - 1), st.integers(0, ports - 1))
    found: dict[Any, Connection] = {}
    for a, b in draw(st.lists(pairs, max_size=most)):
        more: dict[str, Any] = {"delay": draw(st.sampled_from([1, 1, 2, 17, 1000]))}
        if draw(st.booleans()):
            more |= {"through": draw(st.sampled_from([None, Projection(kernel=3)]))}
            more |= {"join": draw(st.sampled_from(["add", "mul"])), "read": draw(st.sampled_from(["s", "u"]))}
        kind = BackwardConnection if a >= b else ForwardConnection
        each = kind(a, b, **more)
        found[each.place] = each
    return list(found.values())


WORDS = st.text("abcWMi_19", min_size=1, max_size=14)


@st.composite
def requests(draw: Any) -> Request:
    body = draw(bodies(draw(st.sampled_from([1, 4, 12, 45]))))
    wiring = skeleton(body)
    count = len(wiring.lanes)
    chosen = draw(connections(count, draw(st.sampled_from([0, 2, 6, 40]))))
    names = st.lists(WORDS, min_size=1, max_size=4).map(".".join)
    sizes = st.tuples(st.sampled_from([1, 8, 224]), st.sampled_from([1, 8, 1024]))
    scales = {c.place: draw(st.sampled_from([0.0, 0.5, 3.0])) for c in chosen} if draw(st.booleans()) else {}
    return Request(
        title=draw(st.sampled_from(["", "net: no backward connections, T = 4", "w" * 300])),
        ports=[draw(names) for _ in range(count)],
        connections=chosen,
        sizes=[draw(sizes) for _ in range(count)] if draw(st.booleans()) else (),
        scales=scales,
        wiring=wiring,
        names=draw(st.booleans()),
    )


@settings(max_examples=60, deadline=None)
@given(requests())
def test_nothing_lies_on_anything_else(request: Request) -> None:
    picture = layout(request)
    assert faults(picture) == []
    assert ends(picture) == wanted(request.connections)
    assert sorted(b.port for b in picture.boxes) == list(range(len(request.ports)))
    # What does not stand on an arc stands below the picture.
    written = " ".join(t.content for t in picture.texts if t.role == "label")
    for each in request.connections:
        assert f"{each.source}\N{RIGHTWARDS ARROW}{each.target}" in written
        if each.delay not in (1, 2):
            assert f"delay {each.delay}" in written


def test_every_fault_would_be_seen() -> None:
    """The judge of the random pictures refuses each kind of fault, put into a good picture by hand."""
    import dataclasses

    chosen = [BackwardConnection(4, 0), BackwardConnection(3, 2), ForwardConnection(0, 2)]
    good = layout(Request("net", [f"lif{i}" for i in range(5)], chosen))
    assert faults(good) == []

    def moved_text(picture: Picture, x: float, y: float) -> Picture:
        texts = list(picture.texts)
        texts[-1] = dataclasses.replace(texts[-1], x=x, y=y)
        return dataclasses.replace(picture, texts=tuple(texts))

    def moved_arc(picture: Picture, dx: float, dy: float) -> Picture:
        first = picture.arcs[0]
        points = tuple((x + dx, y + dy) for x, y in first.points)
        return dataclasses.replace(picture, arcs=(*picture.arcs, dataclasses.replace(first, points=points)))

    title = good.texts[0]
    assert any("on `net`" in f or "`net` on" in f for f in faults(moved_text(good, title.x, title.y)))
    (_, y), line = good.arcs[0].points[:2]
    assert any("on backward" in f for f in faults(moved_text(good, line[0], line[1] + 2)))
    assert any("off the page" in f for f in faults(moved_text(good, -5, y)))
    assert any("along" in f for f in faults(moved_arc(good, 0.5, 0)))
    assert any("over port" in f for f in faults(moved_arc(good, 0, 20)))
    assert any("sticks out" in f for f in faults(moved_text(good, good.boxes[1].bounds.left - 9, y + 9)))


@pytest.mark.parametrize(
    ("backbone", "rows"), [("resnet34()", 2), ("mobilenet_v2(classes=10)", 2), ("sdt()", 1), ("sew_resnet50()", 3)]
)
def test_backbones_of_the_library_with_many_connections(backbone: str, rows: int) -> None:
    text = "bcg 1\nnetwork n { input = image(3, 32, 32); steps = 4; backbone = %s }"
    spec = bcgraph.parse(text % backbone)
    last = len(spec.ports) - 1
    spec = spec.with_connections(
        [BackwardConnection(j, max(0, j - 2), 2) for j in range(0, last, 3)] + [BackwardConnection(last, 0)],
        [ForwardConnection(i, i + 1, 0) for i in range(0, last, 4)],
    )
    picture = arcs.picture(spec)
    assert faults(picture) == []
    assert ends(picture) == wanted(spec.connections)
    assert len({b.bounds.top for b in picture.boxes if b.bounds.left < 120}) >= rows
    # On a page of 830 pixels, as a repository shows it, names are more than 6 pixels high.
    assert picture.width < 840


def test_rows_are_wrapped_above_twenty_ports() -> None:
    for count, rows in ((PORTS_IN_A_ROW, 1), (PORTS_IN_A_ROW + 1, 2), (41, 3)):
        picture = layout(Request("", [""] * count, [], names=False))
        assert len({box.bounds.top for box in picture.boxes}) == rows
        assert faults(picture) == []


def test_parallel_branches_lie_in_lanes_and_shortcuts_beside_them() -> None:
    lif = [NeuronLayer(name=f"lif{i}", neuron=NEURON) for i in range(5)]
    body = (lif[0], Sum(name="s", branches=((), (lif[1], lif[2]), (lif[3],))), lif[4])
    found = skeleton(body)
    assert found.lanes == [0, 0, 0, 1, 0]
    assert {(a.start, a.end) for a in found.across} == {(0, 1), (0, 2)}
    picture = layout(Request("", [x.name for x in lif], [], wiring=found))
    tops = [box.bounds.top for box in picture.boxes]
    assert tops[0] == tops[1] == tops[2] == tops[4] < tops[3]
    # Two before the branches, three, two and one in them, two after them; a piece down and up to each lower lane.
    assert len(picture.wires) == 2 + (3 + 2 + 1) + 2 + 4


def test_widths_are_those_of_the_font() -> None:
    from matplotlib import font_manager, ft2font

    font = ft2font.FT2Font(font_manager.findfont(metrics.FONT))
    font.set_size(100, 72)
    for text in (bytes(range(32, 127)).decode(), "16\N{RIGHTWARDS ARROW}0, 3\N{MULTIPLICATION SIGN}3"):
        for c in text:
            font.set_text(c, 0.0, flags=ft2font.LoadFlags.NO_HINTING)
            real = font.load_char(ord(c), flags=ft2font.LoadFlags.NO_HINTING).linearHoriAdvance / 65536
            assert real <= metrics.width(c, 100) + 0.1, c
            assert c > "~" or metrics.width(c, 100) == pytest.approx(real, abs=0.1), c


def test_the_svg_is_well_formed_with_texts_titles_and_dark_colors() -> None:
    spec = bcgraph.parse(
        "bcg 1\nnetwork n { input = image(1, 8, 8); steps = 2; backbone = tiny(width=4)\nbackward @3 -> @1 }"
    )
    text = svg(arcs.picture(spec))
    root = ET.fromstring(text)
    kind = "{http://www.w3.org/2000/svg}"
    titles = [t.text for t in root.iter(f"{kind}title")]
    assert "backward @3 -> @1" in titles
    assert "@1 layer1.0.lif1: 4x8x8, lif" in titles
    assert {t.text for t in root.iter(f"{kind}text")} >= {"layer1.", "0.lif1", "3\N{RIGHTWARDS ARROW}1"}
    assert "prefers-color-scheme: dark" in text
    assert [g.attrib["data-place"] for g in root.iter(f"{kind}g")] == ["backward 3 1 1"]

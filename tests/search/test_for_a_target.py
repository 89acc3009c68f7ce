"""`search { for = nir }` leaves out what a NIR file cannot carry, and nothing else."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import get_args

import pytest

import bcgraph
from bcgraph import spaces
from bcgraph.compiler.targets.nir import limits
from bcgraph.errors import SpecError
from bcgraph.schema import NetworkSpec
from bcgraph.schema.search import TargetName
from bcgraph.search.space.mutate import mutate
from bcgraph.search.space.sample import sample
from bcgraph.search.space.search_space import space, space_size

NETWORK = (
    "bcg 1\n{block}network n {{ input = image(1, 8, 8); steps = 4; backbone = {backbone} }}\nsearch {{ {search} }}"
)
DEEP = (
    "block deep(channels) { resize(nearest); c = conv(channels, kernel=3); maxpool(1) }\n"
    "block pooled() { c = conv(4); n = neuron(); maxpool(2); flatten(); fc = linear(4) }\n"
)
WIDE = """
space {
  backward any -> any { delay = [1, 2]; through = [project(), project(kernel=3), deep()]; join = [add, mul] }
  forward any -> later { delay = [0, 1] }
  at_most = 2
}
"""


def network(search: str, backbone: str = "tiny(width=4)") -> NetworkSpec:
    return bcgraph.parse(NETWORK.format(block=DEEP, backbone=backbone, search=search))


def test_the_space_is_what_the_target_carries() -> None:
    every, carried = (set(spaces.space(network(f"{extra}{WIDE}")).members) for extra in ("", "for = nir;"))
    spec = network(WIDE)
    assert carried == {each for each in every if not limits.losses(spaces.wired(spec, [each]))}
    kinds = {(m.delay, m.through, m.join, m.forward) for m in carried}
    assert len(carried) > 10
    assert (1, "project(kernel=3)", "add", False) in kinds
    assert (0, "", "add", True) in kinds
    assert not any(m.delay > 1 or m.join == "mul" or m.through == "deep()" for m in carried)


def test_the_papers_space_keeps_its_bound_and_its_operators() -> None:
    spec = network("for = nir; max_backward = 3")
    assert space_size(spec) == space(network(""), 3, same_resolution=True).size
    assert bcgraph.parse(bcgraph.format(spec)) == spec
    rng = Random(0)
    for _ in range(50):
        found = mutate(sample(spec, rng), rng, 0.9)
        assert len(found.backward) <= 3
        assert not limits.losses(found)


def test_a_search_for_any_target_is_what_it_was() -> None:
    spec = network("for = any")
    assert spec == network("")
    assert "for" not in spec.search.model_dump()
    assert "for =" not in bcgraph.format(spec)


@pytest.mark.parametrize(
    ("search", "backbone", "message"),
    [
        ("for = nir; space { fixed @4 -> @0 }", "tiny(width=4)", "`fixed @4 -> @0` is fixed, but nir cannot carry it"),
        ("for = nir; space { backward @4 -> @0 }", "tiny(width=4)", "and `for = nir` leave nothing of"),
        ("for = nir", "pooled()", "a search for nir finds nothing that can be written: `maxpool` is a maximum"),
        ("for = nirr", "tiny(width=4)", "did you mean `nir`"),
    ],
)
def test_what_leaves_nothing_is_an_error(search: str, backbone: str, message: str) -> None:
    with pytest.raises(SpecError) as caught:
        network(search, backbone)
    assert message in str(caught.value)


def test_every_target_with_limits_can_be_named() -> None:
    packages = Path(limits.__file__).parents[1]
    assert {p.parent.name for p in packages.glob("*/limits.py")} == set(get_args(TargetName)) - {"any"}

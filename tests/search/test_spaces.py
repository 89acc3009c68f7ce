"""Spaces that a file describes: their sizes, their numbering, uniform draws, and the odds of operators in them."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import combinations
from math import comb

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bcgraph.search.space import member_crossover, member_mutation
from bcgraph.search.space.members import Members, MemberSpace
from bcgraph.search.space.pairs import Space
from bcgraph.spaces import Member

ChiSquare = Callable[[dict, dict], float]


def everything(space: MemberSpace) -> list[Members]:
    """Every set of the space, from the definition alone."""
    found = []
    for count in range(space.most + 1):
        for chosen in combinations(space.members, count):
            slots = [(m.source, m.target, m.delay) for m in chosen]
            if len(set(slots)) == count:
                found.append(tuple(sorted((*space.fixed, *chosen))))
    return found


def described(
    ports: int,
    delays: tuple[int, ...] = (1,),
    through: tuple[str, ...] = ("",),
    most: int = 2,
    *,
    forward: bool = False,
) -> MemberSpace:
    pairs = [(j, i) for j in range(ports) for i in range(ports) if i <= j or forward]
    members = sorted(Member(j, i, d, t) for j, i in pairs for d in delays for t in through)
    return MemberSpace(tuple(members), most)


@st.composite
def spaces(draw: st.DrawFn) -> MemberSpace:
    """A few members of a few slots with different numbers of alternatives, and perhaps fixed ones."""
    ends = st.integers(0, 3)
    one = st.builds(
        Member, ends, ends, st.integers(1, 3), st.sampled_from(("", "a()", "b()")), st.sampled_from(("add", "mul"))
    )
    found = draw(st.sets(one, max_size=7))
    fixed = draw(st.lists(one, max_size=2, unique_by=lambda m: m.slot))
    held = {m.slot for m in fixed}
    return MemberSpace(
        tuple(sorted(m for m in found if m.slot not in held)), draw(st.integers(0, 4)), tuple(sorted(fixed))
    )


@settings(max_examples=150, deadline=None)
@given(space=spaces())
def test_every_set_is_numbered_once(space: MemberSpace) -> None:
    expected = everything(space)
    found = list(space)
    assert space.size == len(expected) == len(found)
    assert sorted(found) == sorted(expected)
    assert all(space.holds(architecture) for architecture in found)
    with pytest.raises(IndexError):
        space.architecture(space.size)


def test_the_papers_space_has_the_papers_sizes() -> None:
    for ports, size in ((17, 11_782), (18, 14_707)):
        assert described(ports).size == size == Space(ports, 2).size


def test_alternatives_multiply() -> None:
    """n pairs with 3 delays and 2 projections each: 3n slots of 2, so sum of C(3n, k) 2^k."""
    space = described(17, (1, 2, 3), ("", "project(kernel=3)"), 3)
    assert space.size == sum(comb(3 * 153, k) * 2**k for k in range(4))


def test_spaces_beyond_64_bits_are_drawn_from() -> None:
    space = described(40, (1, 2, 3), ("", "a()"), 12)
    assert space.size > 2**100
    rng = random.Random(1)
    drawn = space.sample(rng, 50)
    assert len(set(drawn)) == 50
    assert all(space.holds(architecture) for architecture in drawn)
    assert space.architecture(space.size - 1) != space.architecture(space.size - 2)


def test_draws_are_uniform(chi_square: ChiSquare) -> None:
    """Slots with one, two and three alternatives: sets are even, not slots."""
    members = (
        Member(0, 0), Member(1, 0, 1, ""), Member(1, 0, 1, "a()"),
        Member(1, 1, 2, ""), Member(1, 1, 2, "a()"), Member(1, 1, 2, "b()"),
    )  # fmt: skip
    space, rng = MemberSpace(members, 2), random.Random(5)
    counts = Counter(space.architecture(rng.randrange(space.size)) for _ in range(12_000))
    every = everything(space)
    assert chi_square(counts, dict.fromkeys(every, 1 / len(every))) > 0.001


def mutation_odds(space: MemberSpace, parent: Members, member: Member) -> dict[Members, Fraction]:
    """What becomes of `parent` when `member` surely moves and no other one does, written from the rule."""
    rest = [m for m in parent if m != member]
    held = {(m.source, m.target, m.delay) for m in rest}

    def fits(m: Member) -> bool:
        same_way = (m.source < m.target) == (member.source < member.target)
        return m in space.members and (m.source, m.target, m.delay) not in held and same_way

    ways: list[dict[Member, Fraction]] = []
    for end in ("source", "target"):
        near = {member._replace(**{end: getattr(member, end) + s}): Fraction(1, abs(s)) for s in (-2, -1, 1, 2)}
        ways.append({m: weight for m, weight in near.items() if fits(m)})
    delays = sorted(m.delay for m in space.members if m._replace(delay=member.delay) == member)
    place = delays.index(member.delay)
    ways.append({
        m: Fraction(1) for d in (*delays[max(0, place - 1) : place], *delays[place + 1 : place + 2])
        if fits(m := member._replace(delay=d))
    })  # fmt: skip
    for name in ("through", "join", "read"):
        values = {getattr(m, name) for m in space.members} - {getattr(member, name)}
        ways.append({m: Fraction(1) for v in values if fits(m := member._replace(**{name: v}))})
    ways = [way for way in ways if way]
    found: dict[Members, Fraction] = Counter()
    for way in ways:
        for moved, weight in way.items():
            found[tuple(sorted((*rest, moved)))] += weight / sum(way.values()) / len(ways)
    return found or {parent: Fraction(1)}


class Chosen(random.Random):
    """A generator by whose first draws only the connection at one place mutates."""

    def __init__(self, seed: int, place: int) -> None:
        super().__init__(seed)
        self.left = place

    def random(self) -> float:
        self.left -= 1
        return 0.0 if self.left == -1 else 1.0

    def getrandbits(self, k: int) -> int:
        return super().getrandbits(k)


@pytest.mark.parametrize(
    ("space", "parent"),
    [
        (described(5, (1, 2, 5), ("", "a()", "b()")), (Member(3, 1, 2, "a()"),)),
        (described(5, (1, 2, 5), ("", "a()")), (Member(3, 1, 1), Member(3, 1, 2, "a()"))),
        (described(4, (1, 3), forward=True), (Member(1, 3, 3), Member(2, 2, 1))),
        (described(3), (Member(0, 0), Member(1, 0))),
        (MemberSpace((Member(2, 0, 1), Member(2, 1, 1), Member(2, 0, 4)), 2), (Member(2, 0, 1), Member(2, 1, 1))),
        (MemberSpace((Member(2, 0, 1),), 1), (Member(2, 0, 1),)),
    ],
)
def test_odds_of_a_mutation(space: MemberSpace, parent: Members, chi_square: ChiSquare) -> None:
    for place, member in enumerate(parent):
        expected = mutation_odds(space, parent, member)
        counts = Counter(member_mutation.mutate(space, parent, Chosen(seed, place), 0.5) for seed in range(4_000))
        assert set(counts) == set(expected)
        if len(expected) > 1:
            assert chi_square(counts, {k: float(v) for k, v in expected.items()}) > 0.001


def test_fixed_connections_never_move() -> None:
    always = Member(2, 2, 1)
    base = described(5, (1, 2))
    space = MemberSpace(tuple(m for m in base.members if m.slot != always.slot), 2, (always,))
    rng = random.Random(2)
    for _ in range(300):
        parent = space.architecture(rng.randrange(space.size))
        for child in (member_mutation.mutate(space, parent, rng, 1.0), member_crossover.crossover(space, parent, rng)):
            assert always in child
            assert space.holds(child)


def swaps(space: MemberSpace, parent: Members) -> list[Members]:
    found = []
    for a, b in combinations([m for m in parent if m not in space.fixed], 2):
        new = (a._replace(target=b.target), b._replace(target=a.target))
        child = tuple(sorted((*(m for m in parent if m not in (a, b)), *new)))
        ways = [(m.source < m.target) == (n.source < n.target) for m, n in zip((a, b), new, strict=True)]
        if all(ways) and child != parent and space.holds(child):
            found.append(child)
    return found


@pytest.mark.parametrize(
    ("space", "parent"),
    [
        (described(6, (1, 2), ("", "a()"), 3), (Member(3, 1, 2, "a()"), Member(4, 0, 1), Member(5, 2, 1))),
        (described(6, (1, 2), most=3), (Member(4, 1, 1), Member(4, 1, 2), Member(5, 0, 1))),
        (described(4, (1,), most=3, forward=True), (Member(1, 3, 1), Member(2, 0, 1))),
    ],
)
def test_odds_of_a_crossover(space: MemberSpace, parent: Members, chi_square: ChiSquare) -> None:
    expected = swaps(space, parent) or [parent]
    odds = Counter(dict.fromkeys(expected, 0))
    for child in expected:
        odds[child] += 1
    counts = Counter(member_crossover.crossover(space, parent, random.Random(seed)) for seed in range(3_000))
    assert set(counts) == set(odds)
    if len(odds) > 1:
        assert chi_square(counts, {k: v / len(expected) for k, v in odds.items()}) > 0.001


def test_a_lone_connection_gets_another_one(chi_square: ChiSquare) -> None:
    space = described(3, (1, 2), ("", "a()"))
    parent = (Member(1, 0, 1, "a()"),)
    free = [m for m in space.members if m.slot != parent[0].slot]
    counts = Counter(member_crossover.crossover(space, parent, random.Random(seed)) for seed in range(4_000))
    assert chi_square(counts, {tuple(sorted((*parent, m))): 1 / len(free) for m in free}) > 0.001
    full = MemberSpace(space.members, 1)
    assert member_crossover.crossover(full, parent, random.Random(0)) == parent


def architectures() -> Iterator[tuple[MemberSpace, Members]]:
    for space in (described(5, (1, 2), ("", "a()"), 3), described(4, (1, 4), most=3, forward=True)):
        rng = random.Random(9)
        yield from ((space, space.architecture(rng.randrange(space.size))) for _ in range(200))


def test_operators_stay_in_the_space_and_keep_what_they_do_not_move() -> None:
    for seed, (space, parent) in enumerate(architectures()):
        moved = member_mutation.mutate(space, parent, random.Random(seed), 0.7)
        crossed = member_crossover.crossover(space, parent, random.Random(seed))
        assert space.holds(moved)
        assert space.holds(crossed)
        assert moved == member_mutation.mutate(space, parent, random.Random(seed), 0.7)
        if len(parent) > 1:
            assert Counter((m.source, *m[2:]) for m in crossed) == Counter((m.source, *m[2:]) for m in parent)

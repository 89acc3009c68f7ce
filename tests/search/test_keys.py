from __future__ import annotations

from bcgraph import keys


def test_known_value() -> None:
    # A change of this number is a change of every recorded run.
    assert keys.derive(0, "evolve", 3, "mutate", 1) == 8697142263968110787


def test_elements_are_told_apart() -> None:
    found = {
        keys.derive(0),
        keys.derive(1),
        keys.derive(0, "a"),
        keys.derive(0, "a", "b"),
        keys.derive(0, "ab"),
        keys.derive(0, "1"),
        keys.derive(0, 1),
        keys.derive(0, 1, 1),
        keys.derive(0, 11),
        keys.derive(0, -1),
    }
    assert len(found) == 10
    assert all(0 <= k < 2**64 for k in found)


def test_generators_are_fresh() -> None:
    first, second = keys.rng(7, "x"), keys.rng(7, "x")
    assert [first.random() for _ in range(3)] == [second.random() for _ in range(3)]

"""Keys: where all randomness comes from.

A random choice is a pure function of a seed and a path that says what the choice is for, such as
`(seed, "evolve", iteration, "mutate", index)`. No generator lives from one choice to the next, so a run that was
interrupted and taken up again makes the same choices as one that was not.
"""

from __future__ import annotations

import hashlib
from random import Random


def derive(seed: int, *path: str | int) -> int:
    """A 64-bit unsigned number that depends on `seed` and every element of `path`, and on nothing else.

    The same on every machine and Python version. A string and an integer that look alike (`"1"` and `1`) are
    different elements, and so are `("a", "b")` and `("ab",)`.
    """
    parts = [_encode(seed), *(_encode(p) for p in path)]
    return int.from_bytes(hashlib.sha256(b"".join(parts)).digest()[:8], "big")


def rng(seed: int, *path: str | int) -> Random:
    """A fresh generator for one purpose, seeded by `derive(seed, *path)`."""
    return Random(derive(seed, *path))


def _encode(part: str | int) -> bytes:
    kind, text = ("s", part) if isinstance(part, str) else ("i", str(int(part)))
    data = text.encode()
    return f"{kind}{len(data)}:".encode() + data

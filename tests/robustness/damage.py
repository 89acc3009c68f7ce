"""Random damage to bytes, by a key."""

from __future__ import annotations

import random
from collections.abc import Callable

Damage = Callable[[bytes, random.Random], bytes]


def _place(content: bytes, rng: random.Random) -> tuple[int, int]:
    start = rng.randrange(len(content))
    return start, min(len(content), start + rng.randrange(1, 64))


def _bit(content: bytes, rng: random.Random) -> bytes:
    place = rng.randrange(len(content))
    return content[:place] + bytes([content[place] ^ 1 << rng.randrange(8)]) + content[place + 1 :]


def _cut(content: bytes, rng: random.Random) -> bytes:
    return content[: rng.randrange(len(content))]


def _lost(content: bytes, rng: random.Random) -> bytes:
    start, end = _place(content, rng)
    return content[:start] + content[end:]


def _inserted(content: bytes, rng: random.Random) -> bytes:
    start, end = _place(content, rng)
    return content[:start] + rng.randbytes(end - start) + content[start:]


def _zeros(content: bytes, rng: random.Random) -> bytes:
    start, end = _place(content, rng)
    return content[:start] + bytes(end - start) + content[end:]


def _twice(content: bytes, rng: random.Random) -> bytes:
    start, end = _place(content, rng)
    return content[:end] + content[start:]


def _digit(content: bytes, rng: random.Random) -> bytes:
    """Another digit, which leaves text and JSON whole."""
    places = [i for i, byte in enumerate(content) if 48 <= byte <= 57]
    place = rng.choice(places) if places else rng.randrange(len(content))
    return content[:place] + bytes([48 + (content[place] - 47) % 10]) + content[place + 1 :]


KINDS: dict[str, Damage] = {
    "bit": _bit,
    "cut": _cut,
    "lost": _lost,
    "inserted": _inserted,
    "zeros": _zeros,
    "twice": _twice,
    "digit": _digit,
}


def damaged(content: bytes, seed: int) -> bytes:
    """`content` with one kind of damage, which changes it."""
    rng = random.Random(seed)
    kind = list(KINDS.values())[seed % len(KINDS)]
    while True:
        found = kind(content, rng)
        if found != content:
            return found

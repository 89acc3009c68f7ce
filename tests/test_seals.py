"""Seals: found in whatever holds them, and broken by any change."""

import pytest

from bcgraph import seals


def sealed() -> bytes:
    return seals.seal(b"before " + seals.BLANK.encode() + b" after, with \x00 bytes")


def test_a_seal_fits_what_it_was_made_for() -> None:
    content = sealed()
    assert seals.intact(content)
    assert not seals.rewritten(content)
    assert len(content) == len(b"before  after, with \x00 bytes") + len(seals.BLANK)
    assert seals.seal(b"before " + seals.BLANK.encode() + b" after, with \x00 bytes") == content
    assert seals.intact(b"nothing of the kind") is None


def test_every_changed_bit_is_noticed() -> None:
    content = sealed()
    mark = content.index(b"bcgraph-sha256:")
    for place in range(len(content)):
        for bit in range(8):
            changed = content[:place] + bytes([content[place] ^ 1 << bit]) + content[place + 1 :]
            # Where the seal itself is no longer one, the reader of the format finds its place without it.
            gone = mark <= place < mark + len(seals.BLANK) and seals.intact(changed) is None
            assert gone or seals.intact(changed) is False


def test_another_size_is_told_apart() -> None:
    content = sealed()
    assert seals.rewritten(content + b"x")
    assert seals.intact(content + b"x") is False
    assert seals.intact(content[:-1]) is False


@pytest.mark.parametrize(
    "value", [None, 3, "", "bcgraph-sha256:", seals.BLANK[:-1], "x" + seals.BLANK, seals.BLANK + "0"]
)
def test_what_is_no_seal(value: object) -> None:
    assert not seals.is_seal(value)
    assert seals.is_seal(seals.BLANK)

"""A sample of the texts that the nightly script runs."""

from tests.robustness.fuzz import chunk, text_of


def test_some_texts() -> None:
    found = chunk(range(150))
    assert not found.faults, found.faults[:1]
    assert found.codes["fine"] > 0
    assert len(found.codes) > 5


def test_a_text_follows_from_its_number() -> None:
    assert text_of(7) == text_of(7) != text_of(8)

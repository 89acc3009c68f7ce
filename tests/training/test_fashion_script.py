"""The script for a GPU that is there for minutes: in pieces it trains what it trains in one go."""

from __future__ import annotations

from pathlib import Path

import pytest

from bcgraph import dsl
from benchmarks.placement import fashion

TEXT = """
bcg 1

network small {
  input    = image(1, 8, 8)
  steps    = 2
  backbone = tiny(width=8, classes=10)
}

data = digits(batch=256)

search { evolve { strategy = gains; keep = 4; stages = 1 } }

train { epochs = 2; optimizer = adamw(lr=0.005) }
"""


def test_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fashion, "DRAWS", 0)
    monkeypatch.setattr(fashion, "GAINS", (0.1,))
    spec = dsl.parse(TEXT)
    logs = []
    for _ in range(20):
        try:
            fashion.run(spec, tmp_path / "pieces", seeds=1, minutes=0, device="cpu")
            break
        except fashion.OutOfTimeError:
            logs.append(sum(len(path.read_text().splitlines()) - 1 for path in (tmp_path / "pieces").glob("*/log.csv")))
    # Two epochs of the search, then two each of none and of two placements, one at a time.
    assert logs == [0, 0, 1, 2, 3, 4, 5, 6]
    fashion.run(spec, tmp_path / "whole", seeds=1, minutes=60, device="cpu")
    assert fashion.summary(tmp_path / "pieces") == fashion.summary(tmp_path / "whole")
    assert fashion.summary(tmp_path / "whole").count("\n") == 4

"""`make demo`, with one epoch in place of its twelve."""

import re
from pathlib import Path

import pytest

from bcgraph.cli.demo import demo


@pytest.mark.slow
def test_demo(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    demo(tmp_path / "out", epochs=1)
    printed = capsys.readouterr().out
    chosen = re.search(r"found: (.*)", printed)
    assert chosen is not None
    *_, winner, baseline = (re.split(r" {2,}", line) for line in printed.splitlines())
    assert winner[0] == chosen[1]
    assert baseline[0] == "none"
    for row in (winner, baseline):
        # onnxruntime may flip a spike here and there, but not an accuracy.
        assert float(row[2]) == pytest.approx(float(row[3]), abs=0.02)
        assert Path(row[4]).is_file()
    assert (tmp_path / "out/winner.svg").is_file()

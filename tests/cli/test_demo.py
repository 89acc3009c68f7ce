"""`make demo`, with one epoch in place of its twelve."""

import re
from pathlib import Path

import pytest

from bcgraph.cli.demo import demo


@pytest.mark.slow
@pytest.mark.parametrize(
    ("paper", "says"),
    [
        (False, ("12 of 121, by E-score", "the best of these on a supernet of 1 epochs")),
        (True, ("8 of 60, by N-score and E-score", "evolutionary, on a supernet of 1 epochs")),
    ],
    ids=["sifted", "paper"],
)
def test_demo(tmp_path: Path, capsys: pytest.CaptureFixture[str], paper: bool, says: tuple[str, str]) -> None:
    demo(tmp_path / "out", epochs=1, paper=paper)
    printed = capsys.readouterr().out
    for step, line in zip(("one", "two"), says, strict=True):
        assert f"step {step}: {line}\n" in printed
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

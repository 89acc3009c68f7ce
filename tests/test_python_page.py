"""`docs/python.md`: its examples run one after the other, as a reader would type them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import bcgraph
from tests import pages

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs/python.md").read_text()


def test_the_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "specs").symlink_to(ROOT / "specs")
    blocks = [block.text for block in pages.of_kind("docs/python.md", "python")]
    assert len(blocks) >= 7
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, "docs/python.md", "exec"), names)
    printed = capsys.readouterr().out
    shown = re.findall(r"^(<NetworkSpec .*)$", PAGE, re.MULTILINE)
    assert shown
    assert all(line in printed for line in shown)


def test_every_public_function_is_shown() -> None:
    for name in bcgraph.__all__:
        if name[0].islower() and name not in ("compiler", "training"):
            assert f"bcgraph.{name}" in PAGE, name

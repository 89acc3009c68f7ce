from pathlib import Path

import pytest

from tests.cli.conftest import TINY, Command

ROUGH = TINY.replace("  steps    = 2", "\tsteps=2   # two").replace(
    "data = digits(batch=64)", "data=digits( batch = 64 )"
)


@pytest.fixture
def rough(tmp_path: Path) -> Path:
    path = tmp_path / "rough.bcg"
    path.write_text(ROUGH)
    return path


def test_a_file_is_rewritten_once(bcgraph: Command, rough: Path) -> None:
    done = bcgraph("fmt", "rough.bcg")
    assert (done.code, done.out) == (0, "")
    assert done.err == "rough.bcg: changed\n1 file changed\n"
    once = rough.read_text()
    assert "# two" in once
    assert "\t" not in once
    done = bcgraph("fmt", "rough.bcg")
    assert (done.code, done.err) == (0, "")
    assert rough.read_text() == once


def test_check_changes_nothing(bcgraph: Command, rough: Path) -> None:
    done = bcgraph("fmt", "--check", "rough.bcg")
    assert done.code == 1
    assert "would be changed" in done.err
    assert rough.read_text() == ROUGH
    bcgraph("fmt", "rough.bcg")
    assert bcgraph("fmt", "--check", "rough.bcg").code == 0


def test_to_standard_output(process: Command, rough: Path) -> None:
    done = process("fmt", "--stdout", "rough.bcg")
    assert done.code == 0
    assert rough.read_text() == ROUGH
    assert process("fmt", "-", stdin=ROUGH.encode()).out == done.out
    assert process("fmt", "-", stdin=done.out.encode()).out == done.out


def test_a_file_that_does_not_parse_is_left_alone(bcgraph: Command, rough: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.bcg"
    bad.write_text("bcg 1\nnetwork x {\n")
    assert "bad.bcg:" in bcgraph("fmt", "bad.bcg", "rough.bcg").fault("E011")
    assert bad.read_text() == "bcg 1\nnetwork x {\n"
    assert rough.read_text() != ROUGH


def test_links_and_modes_survive(bcgraph: Command, rough: Path, tmp_path: Path) -> None:
    rough.chmod(0o640)
    link = tmp_path / "link.bcg"
    link.symlink_to(rough)
    assert bcgraph("fmt", "link.bcg").code == 0
    assert link.is_symlink()
    assert rough.stat().st_mode & 0o777 == 0o640
    assert rough.read_text() != ROUGH

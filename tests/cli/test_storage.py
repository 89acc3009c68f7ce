"""`--storage` on PostgreSQL: what a command prints and leaves never holds the password."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import TINY, Command
from tests.cli.test_interrupt import interrupt
from tests.cli.test_search import SEARCH
from tests.search.postgresql import PASSWORD, files_of, serving, without_secret


@pytest.mark.slow
def test_nobody_sees_the_password(bcgraph: Command, tmp_path: Path) -> None:
    with serving() as server:
        url = server.database("secret")
        (tmp_path / "net.bcg").write_text(TINY + SEARCH)
        done = bcgraph("search", "net.bcg", "--out", "found", "--audit", "0", "--storage", url)
        assert done.code == 0, done.err
        shown = bcgraph("report", "found", "--storage", url, "--json")
        assert shown.code == 0
        assert "postgresql://searcher:***@" in shown.out
        wrong = bcgraph("search", "net.bcg", "--out", "other", "--storage", server.url("secret", PASSWORD + "x"))
        assert "password authentication failed" in wrong.fault("E091")
        nowhere = bcgraph("search", "net.bcg", "--out", "third", "--storage", server.url("nosuch"))
        assert 'database "nosuch" does not exist' in nowhere.fault("E091")
        # Not quoted, a password is taken for something else; the message must not tell for what.
        raw = bcgraph("search", "net.bcg", "--out", "raw", "--storage", f"postgresql://u:{PASSWORD}@127.0.0.1/x")
        assert "is not the URL of a storage" in raw.fault("E091")
        arguments = ["search", "net.bcg", "--out", "stopped", "--seed", "1", f"--storage={url}"]
        code, stopped = interrupt(arguments, tmp_path, Path("stopped/log.jsonl"))
        assert code == 130
        assert "--storage=postgresql://searcher:***@" in stopped
    for result in (done, shown, wrong, nowhere, raw):
        without_secret(result.out, result.err)
        assert "s3cr" not in result.out + result.err
    without_secret(stopped, *files_of(tmp_path))
    assert (tmp_path / "found/report.html").exists()

"""The networks of `benchmarks.placement.kinds`, and its table."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.placement import kinds, rows
from benchmarks.placement.records import Outcome


def test_every_network_is_another_one() -> None:
    found = list(kinds.architectures())
    assert len({(places, kind) for places, kind, _ in found}) == len(found) >= 40
    # The last of a kind, and what stands beside it: parsing all of them says nothing more.
    chosen = [kinds.network(statements) for _, _, statements in (found[0], *found[1:9], *found[-4:])]
    assert len(set(chosen)) == len(chosen)
    assert chosen[0].connections == ()
    assert chosen[-1].forward[0].delay == 2


def test_what_is_kept_is_not_trained_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kinds.work, "outcome", lambda spec, seed: Outcome(0.5 + seed / 10, 0.6, 0.1, 1.0))
    jobs = list(kinds.jobs())
    path = tmp_path / "kinds.csv"
    rows.write(path, kinds.Run, [kinds.train(job) for job in jobs[:-1]])
    asked: list[kinds.Job] = []
    monkeypatch.setattr(kinds.work, "extend", lambda path, kind, done, missing, run, **_: asked.extend(missing))
    kinds.run(path, workers=1, limit=None)
    assert asked == jobs[-1:]
    lines = kinds.summary(rows.read(path, kinds.Run)).splitlines()
    assert len(lines) == 2 + len(list(kinds.architectures()))
    assert lines[2].split()[-1] == "3"

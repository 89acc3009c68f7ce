"""kill -9 at any moment loses nothing: the history is that of a run that nobody touched."""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from pathlib import Path

import pytest

from bcgraph.search import history
from tests import forked
from tests.search import studies

ROOT = Path(__file__).parents[2]


def search(out: Path, kills: int, seed: int = 0, *more: str) -> dict[str, int]:
    command = [sys.executable, "-m", "tests.search.killing", str(out), str(kills), str(seed), *more]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = forked.run(command, cwd=ROOT, env=environment, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    found: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.slow
def test_killed_at_random_moments(tmp_path: Path) -> None:
    assert search(tmp_path / "whole", 0) == {}
    kills: Counter[str] = Counter()
    # How often one search can be killed before it is done depends on the machine, so there are as many as it takes.
    for attempt in range(1, 7):
        out = tmp_path / f"killed{attempt}"
        kills.update(search(out, 30, seed=attempt))
        assert history(out) == history(tmp_path / "whole")
        assert studies.evaluations(out) == history(out)["evaluations"]
        for name in ("best.bcg", "spec.bcg", "supernet.safetensors", "run.json", "finish.json"):
            assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
        for path in (tmp_path / "whole").glob("finish/*/*/*.safetensors"):
            if path.name != "state.safetensors":  # which says how long epochs took
                assert (out / path.relative_to(tmp_path / "whole")).read_bytes() == path.read_bytes(), path
        left = {p.name for p in out.iterdir()}
        assert left == {p.name for p in (tmp_path / "whole").iterdir()}, "nothing half-written stays behind"
        if sum(kills.values()) >= 12 and {"init", "supernet", "evolve", "finish"} <= set(kills):
            break
    print(f"killed by stage: {dict(kills)}")
    assert sum(kills.values()) >= 12
    assert {"init", "supernet", "evolve", "finish"} <= set(kills), kills


@pytest.mark.slow
def test_killed_in_the_space_of_a_file(tmp_path: Path) -> None:
    """Alternatives, forward connections, a fixed one, a bound that costs nothing and one that is measured."""
    search(tmp_path / "whole", 0, 0, "space")
    kills = search(tmp_path / "killed", 4, 1, "space")
    assert sum(kills.values()) >= 3, kills
    found = history(tmp_path / "killed")
    assert found == history(tmp_path / "whole")
    assert any(c["delay"] == 2 or c["through"] for e in found["evaluations"] for c in e["members"])
    for name in ("best.bcg", "spec.bcg", "supernet.safetensors", "finish.json"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name

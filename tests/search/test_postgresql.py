"""The study in PostgreSQL: a real server, real connections that are really cut, and a password that nobody sees."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bcgraph.errors import RunError
from bcgraph.schema import NetworkSpec
from bcgraph.search import Options, history, run
from bcgraph.search.records import storage, study
from bcgraph.search.records.evaluations import Evaluation
from tests import forked
from tests.search import landscape, studies
from tests.search.postgresql import Server, files_of, serving, small, without_secret

ROOT = Path(__file__).parents[2]
EXPECTED = {"init": 12, "evolve": 16}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The history of a search that nothing happened to, in a file."""
    out = tmp_path_factory.mktemp("whole")
    run(small(), out, evaluators=landscape.Fake())
    return history(out)["evaluations"]


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every evaluation is written at once, however long that takes, and nobody waits long before another try."""
    sleep = time.sleep
    monkeypatch.setattr(study, "OVERHEAD", 1e12)
    monkeypatch.setattr(time, "sleep", lambda seconds: sleep(min(seconds, 0.05)))


def at(events: dict[int, Callable[[], object]]) -> landscape.Fake:
    """An evaluator during whose n-th evaluation something happens."""
    count = 0

    def judge(candidate: NetworkSpec) -> Evaluation:
        nonlocal count
        count += 1
        events.get(count, lambda: None)()
        return landscape.evaluation(candidate)

    return landscape.Fake(judge=judge)


def search(out: Path, url: str, fake: landscape.Fake | None = None) -> Any:
    """The history of a search, which its studies hold, too."""
    run(small(), out, options=Options(storage=url), evaluators=fake or landscape.Fake())
    found = history(out)["evaluations"]
    assert studies.evaluations(out, url) == found
    return found


def stages(server: Server, database: str) -> dict[str, int]:
    return {name.rpartition("/")[2]: count for name, count in server.trials(database).items()}


def test_the_same_history_as_in_a_file(server: Server, tmp_path: Path, whole: Any) -> None:
    url = server.database("same")
    assert search(tmp_path, url) == whole
    assert stages(server, "same") == EXPECTED
    assert search(tmp_path, url, landscape.Fake(limit=0)) == whole, "a finished search is not made again"
    assert not (tmp_path / "study.log").exists()
    without_secret(*files_of(tmp_path))
    assert f'"storage": "postgresql://searcher:***@127.0.0.1:{server.port}/same"' in (tmp_path / "run.json").read_text()


def test_two_searches_side_by_side(server: Server, tmp_path: Path, whole: Any) -> None:
    url = server.database("both")
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    both = [
        forked.Popen(
            [sys.executable, "-m", "tests.search.postgresql", url, str(tmp_path / str(seed)), str(seed)],
            cwd=ROOT,
            env=environment,
            stderr=subprocess.PIPE,
        )
        for seed in (0, 1)
    ]
    for process in both:
        _, error = process.communicate(timeout=120)
        assert process.returncode == 0, error.decode()
    assert history(tmp_path / "0")["evaluations"] == studies.evaluations(tmp_path / "0", url) == whole
    run(small(), tmp_path / "alone", seed=1, evaluators=landscape.Fake())
    assert history(tmp_path / "1")["evaluations"] == history(tmp_path / "alone")["evaluations"]
    assert history(tmp_path / "1")["evaluations"] == studies.evaluations(tmp_path / "1", url)
    assert sorted(server.trials("both").values()) == sorted([*EXPECTED.values()] * 2)


@pytest.mark.usefixtures("written")
def test_connections_that_are_cut(server: Server, tmp_path: Path, whole: Any) -> None:
    url = server.database("cut")
    cuts: list[int] = []
    places = (1, 2, 9, 12, 13, 20, 28)
    events: dict[int, Callable[[], object]] = {n: lambda: cuts.append(server.cut("cut")) for n in places}
    assert search(tmp_path, url, at(events)) == whole
    assert stages(server, "cut") == EXPECTED
    assert sum(cuts) >= len(places)
    print(f"{sum(cuts)} connections cut")


@pytest.mark.usefixtures("written")
def test_a_server_that_is_started_again(
    server: Server, tmp_path: Path, whole: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = server.database("again")
    fake = at({5: server.stop, 9: server.start, 20: server.stop})
    # The second time it stays away until everything else is done and only the study is waited for.
    waited: list[float] = []
    sleep = time.sleep

    def waiting(seconds: float) -> None:
        if len(fake.asked) == sum(EXPECTED.values()):
            waited.append(seconds)
            if len(waited) == 3:
                server.start()
        sleep(seconds)

    monkeypatch.setattr(time, "sleep", waiting)
    assert search(tmp_path, url, fake) == whole
    assert len(waited) >= 3
    assert stages(server, "again") == EXPECTED


@pytest.mark.usefixtures("written")
def test_a_server_that_stays_away(server: Server, tmp_path: Path, whole: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    url = server.database("gone")
    monkeypatch.setattr(study, "PATIENCE", 0.5)
    try:
        with pytest.raises(RunError) as caught:
            search(tmp_path, url, at({7: server.stop}))
        assert caught.value.code == "E091"
        assert "postgresql://searcher:***@" in str(caught.value)
        with pytest.raises(RunError) as again:
            search(tmp_path, url)
        without_secret(str(caught.value), str(again.value), *files_of(tmp_path))
    finally:
        server.start()
    # The first stage was done, and is not made again.
    rest = landscape.Fake()
    assert search(tmp_path, url, rest) == whole
    # The last one is the network without connections, beside the candidates.
    assert len(rest.asked) == EXPECTED["evolve"] + 1
    assert stages(server, "gone") == EXPECTED


def test_a_search_that_is_killed(server: Server, tmp_path: Path, whole: Any) -> None:
    url, rng = server.database("killed"), random.Random(0)
    command = [sys.executable, "-m", "tests.search.postgresql", url, str(tmp_path), "0"]
    kills = 0
    while not (tmp_path / "best.bcg").exists():
        assert kills < 20
        process = forked.Popen(command, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"})
        log, limit = tmp_path / "log.jsonl", time.monotonic() + 60
        before = log.stat().st_size if log.exists() else 0
        while process.poll() is None and (not log.exists() or log.stat().st_size == before) and kills < 3:
            assert time.monotonic() < limit
            time.sleep(0.001)
        if kills < 3:
            time.sleep(rng.uniform(0, 0.3))
            process.send_signal(signal.SIGKILL)
            kills += 1
        process.wait(timeout=60)
    assert kills >= 1
    assert history(tmp_path)["evaluations"] == studies.evaluations(tmp_path, url) == whole
    assert stages(server, "killed") == EXPECTED


def test_a_trial_that_is_there_twice_counts_once(server: Server, tmp_path: Path, whole: Any) -> None:
    import optuna

    url = server.database("twice")
    search(tmp_path, url)
    for name in server.trials("twice"):
        found = optuna.load_study(study_name=name, storage=url.replace("postgresql:", "postgresql+psycopg:"))
        found.add_trial(found.get_trials()[3])
    assert history(tmp_path)["evaluations"] == whole
    assert search(tmp_path, url) == whole


def test_a_report_needs_no_server(server: Server, tmp_path: Path, whole: Any) -> None:
    url = server.database("reported")
    search(tmp_path, url)
    server.stop()
    try:
        assert history(tmp_path)["evaluations"] == history(tmp_path, storage=url)["evaluations"] == whole
    finally:
        server.start()


def test_a_missing_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(RunError) as caught:
        storage.connect("postgresql://u:secret@127.0.0.1/x")
    assert caught.value.code == "E092"
    assert "bcgraph[postgresql]" in str(caught.value)
    assert "secret" not in str(caught.value)

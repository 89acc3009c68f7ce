"""Files of a search that were changed: named, refused, or written again from their source; never believed."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bcgraph import dsl, files
from bcgraph.errors import BcgraphWarning, RunError
from bcgraph.schema import NetworkSpec
from bcgraph.search import Options, history, run
from bcgraph.search.records.log import Log
from bcgraph.search.scores.audit import Audit, Finding, kept
from tests.search import landscape, studies


@pytest.fixture(scope="module")
def spec() -> NetworkSpec:
    text = """
    bcg 1
    network five { input = image(1, 8, 8); steps = 2; backbone = tiny(width=4, classes=10) }
    data = digits
    search {
      init { pool = 30; keep = 6 }
      evolve { iterations = 3; top = 4; population = 8; offspring = 3; mutation = 0.7 }
    }
    """
    return dsl.parse(text)


@pytest.fixture
def done(spec: NetworkSpec, tmp_path: Path) -> Path:
    go(spec, tmp_path / "run")
    return tmp_path / "run"


def go(spec: NetworkSpec, out: Path, **more: Any) -> Any:
    return run(spec, out, evaluators=more.pop("evaluators", None) or landscape.Fake(), **more)


def lines(out: Path) -> list[bytes]:
    return (out / "log.jsonl").read_bytes().splitlines(keepends=True)


def without_digests(out: Path) -> None:
    """As a version before digests wrote it."""
    text = re.sub(rb', "digest": "[0-9a-f]{16}"}', b"}", (out / "log.jsonl").read_bytes())
    (out / "log.jsonl").write_bytes(text)


def pasted(found: list[bytes]) -> list[bytes]:
    best = json.loads(found[-1]) | {"iteration": 99, "index": 0, "accuracy": 0.999}
    return [*found, json.dumps(best).encode() + b"\n"]


def changed(found: list[bytes]) -> list[bytes]:
    return [*found[:40], re.sub(rb'"accuracy": -?[0-9.]+', b'"accuracy": 0.999', found[40]), *found[41:]]


EDITS: dict[str, Callable[[list[bytes]], list[bytes]]] = {
    "a pasted line": pasted,
    "a changed value": changed,
    "a line twice": lambda found: [*found[:36], found[35], *found[36:]],
    "a missing line": lambda found: [*found[:10], *found[11:]],
    "two lines swapped": lambda found: [*found[:10], found[11], found[10], *found[12:]],
    "a line without a digest": lambda found: [*found, b'{"kind": "note", "text": "trust me"}\n'],
    "a note that was changed": lambda found: [found[0].replace(b'"origin": "pool"', b'"origin": "loop"'), *found[1:]],
}


@pytest.mark.parametrize("edit", EDITS)
def test_a_log_that_was_edited_is_refused(spec: NetworkSpec, done: Path, edit: str) -> None:
    (done / "log.jsonl").write_bytes(b"".join(EDITS[edit](lines(done))))
    for use in (lambda: history(done), lambda: go(spec, done)):
        with pytest.raises(RunError, match=r"line \d+ of .* is damaged") as caught:
            use()
        assert caught.value.code == "E085"


@pytest.mark.parametrize("edit", ["a pasted line", "a line twice", "a missing line", "two lines swapped"])
def test_what_no_search_makes_is_found_without_digests(spec: NetworkSpec, done: Path, edit: str) -> None:
    (done / "log.jsonl").write_bytes(b"".join(EDITS[edit](lines(done))))
    without_digests(done)
    for use in (lambda: history(done), lambda: go(spec, done)):
        with pytest.raises(RunError, match=r"line \d+ of"):
            use()


def test_an_architecture_that_the_search_does_not_propose_is_found(spec: NetworkSpec, done: Path) -> None:
    found = lines(done)
    record = json.loads(found[45])
    taken = [json.loads(line)["backward"] for line in found]
    record["backward"] = next([[j, i]] for j in range(5) for i in range(j + 1) if [[j, i]] not in taken[30:])
    (done / "log.jsonl").write_bytes(b"".join([*found[:45], json.dumps(record).encode() + b"\n", *found[46:]]))
    without_digests(done)
    with pytest.raises(RunError, match="is not the one this search makes"), pytest.warns(BcgraphWarning):
        go(spec, done)


def test_one_evaluation_too_many_is_found(spec: NetworkSpec, done: Path) -> None:
    """Of an iteration that the search has, but which ended: replaying names it."""
    smaller = dsl.parse(dsl.format_spec(spec).replace("iterations = 3", "iterations = 2"))
    identity = json.loads((done / "run.json").read_text())
    identity["spec"]["search"]["evolve"]["iterations"] = 2
    del identity["seal"]
    (done / "run.json").write_text(json.dumps(identity))
    without_digests(done)
    with pytest.raises(RunError, match=r"one more than the search makes: iterations = 2"):
        go(smaller, done)


def test_a_log_of_an_earlier_version_resumes_and_is_sealed(spec: NetworkSpec, tmp_path: Path) -> None:
    go(spec, tmp_path / "whole")
    out = tmp_path / "old"
    with pytest.raises(KeyboardInterrupt):
        go(spec, out, evaluators=landscape.Fake(limit=35))
    without_digests(out)
    with pytest.warns(BcgraphWarning, match="without digests"):
        assert len(history(out)["evaluations"]) == 35
    with pytest.warns(BcgraphWarning, match="without digests"):
        go(spec, out)
    assert history(out) == history(tmp_path / "whole")
    # The digests that were added cover the lines that had none.
    found = lines(out)
    (out / "log.jsonl").write_bytes(b"".join([re.sub(rb'"n": ', b'"n": 1', found[3]), *found[4:]]))
    with pytest.raises(RunError, match="is damaged"):
        history(out)


def test_a_log_of_another_run_is_refused(spec: NetworkSpec, done: Path, tmp_path: Path) -> None:
    go(spec, tmp_path / "other", seed=1)
    (done / "log.jsonl").write_bytes((tmp_path / "other/log.jsonl").read_bytes())
    with pytest.raises(RunError, match=r"line 1 of .* is damaged"):
        history(done)


def damaged(content: bytes, rng: random.Random) -> bytes:
    place = rng.randrange(len(content))
    kind = rng.randrange(4)
    if kind == 0:
        return content[:place] + bytes([content[place] ^ 1 << rng.randrange(8)]) + content[place + 1 :]
    if kind == 1:
        return content[:place]
    if kind == 2:
        return content[:place] + content[place + rng.randrange(1, 50) :]
    return content[:place] + rng.randbytes(rng.randrange(1, 50)) + content[place:]


@pytest.mark.parametrize("seed", range(12))
def test_a_damaged_study_is_written_again(spec: NetworkSpec, done: Path, seed: int) -> None:
    before = history(done)
    content, rng = (done / "study.log").read_bytes(), random.Random(seed)
    for _ in range(5):
        (done / "study.log").write_bytes(damaged(content, rng))
        go(spec, done)
        assert history(done) == before
        assert studies.evaluations(done) == before["evaluations"]


def test_a_study_with_another_value_is_written_again(spec: NetworkSpec, done: Path) -> None:
    text = (done / "study.log").read_text()
    value = history(done)["chosen"]["accuracy"]
    for altered in (text.replace(str(value), "0.999"), text.replace("maximize", "minimize"), "[" * 100_000 + "\n"):
        (done / "study.log").write_text(altered)
        go(spec, done)
        assert studies.evaluations(done) == history(done)["evaluations"]


def test_a_storage_with_other_values_is_refused_and_kept(spec: NetworkSpec, tmp_path: Path) -> None:
    import sqlite3

    url = f"sqlite:///{tmp_path}/study.db"
    go(spec, tmp_path / "run", options=Options(storage=url))
    with sqlite3.connect(tmp_path / "study.db") as database:
        database.execute(
            "update trial_user_attributes set value_json = '\"mine\"' where key = 'origin' and trial_id = 3"
        )
    before = (tmp_path / "study.db").read_bytes()
    with pytest.raises(RunError, match="the storage holds something else") as caught:
        go(spec, tmp_path / "run", options=Options(storage=url))
    assert caught.value.code == "E085"
    assert (tmp_path / "study.db").read_bytes() == before


def test_each_trial_is_small(network: Any, tmp_path: Path) -> None:
    """It names the ports of its own connections, not all pairs of the space."""
    sizes = []
    for ports in (5, 60):
        settings = dsl.parse(TEXT).search
        wide = NetworkSpec(**(dict(network(ports).__dict__) | {"search": settings}))
        go(wide, tmp_path / str(ports))
        sizes.append((tmp_path / str(ports) / "study.log").stat().st_size)
    assert sizes[1] < 1.1 * sizes[0]


TEXT = """
bcg 1
network five { input = image(1, 8, 8); steps = 2; backbone = tiny(width=4, classes=10) }
search { init { pool = 20; keep = 6 }; evolve { iterations = 1; top = 4; population = 8; offspring = 3 } }
"""


SHAPES = ["[]", "null", "3", '{"format": 1}', "[" * 100_000, '{"format": 1, "seed": Infinity}', "{", "\0", '{"a":' * 99]


@pytest.mark.parametrize("content", SHAPES, ids=range(len(SHAPES)))
def test_json_of_another_shape(spec: NetworkSpec, done: Path, content: str) -> None:
    whole = (done / "run.json").read_bytes()
    for name in ("audit.json", "workers.json"):
        (done / name).write_text(content)
    with pytest.warns(BcgraphWarning, match=r"audit.json. is left out"):
        assert history(done)["audit"] is None
    (done / "audit.json").unlink()
    (done / "run.json").write_text(content)
    for use in (lambda: history(done), lambda: go(spec, done)):
        with pytest.raises(RunError) as caught:
            use()
        assert caught.value.code == "E085"
    (done / "run.json").write_bytes(b"\xef\xbb\xbf" + whole)
    with pytest.raises(RunError, match="not what was written"):
        history(done)


@pytest.mark.parametrize("index", ["Infinity", "-1", "1e999", "0.5", '"0"', "true", "1" * 5000, "[" * 100_000, "null"])
def test_records_with_impossible_numbers(done: Path, index: str) -> None:
    without_digests(done)
    found = lines(done)
    found[7] = found[7].replace(b'"index": 7', f'"index": {index}'.encode())
    (done / "log.jsonl").write_bytes(b"".join(found))
    with pytest.raises(RunError, match="line 8 of"):
        history(done)


def test_an_audit_with_another_value_is_left_out(done: Path) -> None:
    Audit(20, (Finding("n", "reproducibility", "float64", 0.75),)).write(done)
    assert history(done)["audit"]["findings"][0]["value"] == 0.75
    assert kept(done, 20)
    text = (done / "audit.json").read_text()
    (done / "audit.json").write_text(text.replace("0.75", "0.95"))
    with pytest.warns(BcgraphWarning):
        assert not kept(done, 20)


def test_a_removed_lock_lets_nobody_in(spec: NetworkSpec, tmp_path: Path) -> None:
    out = tmp_path / "run"
    with files.locked(out):
        (out / ".lock").unlink()
        with pytest.raises(RunError) as caught:
            go(spec, out)
        assert caught.value.code == "E086"
    go(spec, out)


def test_two_writers_of_one_log_are_noticed(done: Path) -> None:
    """Where no lock works: the second to write finds that the log is not as it left it."""
    from bcgraph.search.records.evaluations import Note

    name = json.loads((done / "run.json").read_text())["study"]
    one, other = Log.open(done, name), Log.open(done, name)
    one.append(Note("mine"))
    with pytest.raises(RunError) as caught:
        other.append(Note("also mine"))
    assert caught.value.code == "E086"
    one.append(Note("still mine"))
    one.close()
    other.close()
    third = Log.open(done, name)
    (done / "log.jsonl").rename(done / "moved.jsonl")
    with pytest.raises(RunError):
        third.append(Note("into nothing"))
    third.close()

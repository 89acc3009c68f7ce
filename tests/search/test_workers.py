"""Workers: whoever computes, and whatever happens to them, the history is that of one process.

On a real cluster of two nodes on this machine, with processes that are really killed.
"""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import bcgraph
from bcgraph.errors import BcgraphWarning, DataError, RunError
from bcgraph.schema import NetworkSpec
from bcgraph.search import Options, history, run
from bcgraph.search.distributed import pool as pools
from bcgraph.search.distributed import usage
from bcgraph.search.distributed.chunks import Chunks, FixedTasks, divide
from bcgraph.search.distributed.pool import Pool
from bcgraph.search.distributed.tasks import PooledEvaluator
from bcgraph.search.distributed.training import Task, Training
from bcgraph.search.distributed.worker import Workload
from bcgraph.search.evaluators import Standard
from bcgraph.search.events import Event
from bcgraph.search.finish.training import Trainer
from bcgraph.search.result import SearchResult
from bcgraph.search.scores.scorer import ScoringBatch
from tests import forked
from tests.search import raying
from tests.search.raying import Cluster, connected
from tests.search.threads import threads

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
SAME = ("best.bcg", "spec.bcg", "run.json", "supernet.safetensors")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with raying.cluster(2, 2) as found:
        yield found


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Here and in the processes that tests start: the supernet is trained on as many threads as there are."""
    with threads(1):
        yield


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A search by one process that nothing happened to."""
    out = tmp_path_factory.mktemp("whole")
    run(raying.spec(), out, options=Options(threads=1))
    return out


def search(out: Path, cluster: Cluster, workers: int, progress: Callable[[Event], None] | None = None) -> None:
    run(raying.spec(), out, options=Options(workers=workers, ray=cluster.address), progress=progress)


def same(out: Path, whole: Path) -> None:
    assert history(out) == history(whole)
    for name in SAME:
        assert (out / name).read_bytes() == (whole / name).read_bytes(), name


@pytest.mark.parametrize("workers", [1, 4])
def test_one_history(cluster: Cluster, whole: Path, tmp_path: Path, workers: int) -> None:
    search(tmp_path, cluster, workers)
    same(tmp_path, whole)
    (used,) = usage.read(tmp_path)
    assert (used["workers"], used["threads"], used["lost"]) == (workers, 1, 0)
    assert used["machines"] == min(workers, 2)


def test_workers_killed_in_the_middle_of_an_evaluation(cluster: Cluster, whole: Path, tmp_path: Path) -> None:
    kills: list[str] = []
    wanted = {"init": 2, "evolve": 1}

    def kill(stage: str) -> None:
        for _ in range(wanted[stage]):
            if cluster.kill_one():
                kills.append(stage)
                time.sleep(0.5)

    threads: dict[str, threading.Thread] = {}

    def progress(event: Event) -> None:
        # The stage `evolve` begins where the supernet is trained.
        stage = "evolve" if event.stage == "supernet" else event.stage
        if stage not in threads:
            threads[stage] = threading.Thread(target=kill, args=(stage,), daemon=True)
            threads[stage].start()

    with pytest.warns(BcgraphWarning, match="was lost; what it was doing is done again"):
        search(tmp_path, cluster, 2, progress)
    same(tmp_path, whole)
    (used,) = usage.read(tmp_path)
    print(f"killed: {kills}, lost {used['lost']}, done again {used['again']}")
    assert used["lost"] == len(kills)
    assert set(kills) == {"init", "evolve"}
    assert used["again"] >= used["lost"]


def test_a_node_that_is_removed(cluster: Cluster, whole: Path, tmp_path: Path) -> None:
    # Three workers for three nodes, with room for one more on those that stay. Spreading is what Ray's scheduler tries,
    # not what it promises: two of them may stand on one node, but one is on the node that goes.
    node = cluster.add(1)

    def remove() -> None:
        while not cluster.workers(on=node):
            time.sleep(0.005)
        cluster.remove(node)

    thread = threading.Thread(target=remove, daemon=True)
    thread.start()
    with pytest.warns(BcgraphWarning, match="was lost"):
        search(tmp_path, cluster, 3)
    thread.join(timeout=60)
    same(tmp_path, whole)
    (used,) = usage.read(tmp_path)
    print(f"a node removed: {used['lost']} worker lost, {used['again']} tasks done again")
    assert used["lost"] == 1
    assert used["machines"] in (2, 3)
    assert used["again"] >= 1


def test_the_driver_killed_and_started_again(cluster: Cluster, whole: Path, tmp_path: Path) -> None:
    for attempt, workers in enumerate((2, 1)):
        command = [sys.executable, "-m", "tests.search.raying", cluster.address, str(tmp_path), str(workers)]
        process = forked.Popen(command, cwd=ROOT, stderr=subprocess.PIPE)
        if attempt == 0:
            # The first stage is done, and the workers are about to evaluate on the supernet.
            while process.poll() is None and not (tmp_path / "supernet.safetensors").exists():
                time.sleep(0.002)
            time.sleep(random.Random(1).uniform(0, 0.1))
            assert process.poll() is None, "it ended before it was killed"
            process.send_signal(signal.SIGKILL)
        _, error = process.communicate(timeout=120)
        assert process.returncode == (-signal.SIGKILL if attempt == 0 else 0), error.decode()
        until = time.monotonic() + 60
        while cluster.workers(doing=False):
            assert time.monotonic() < until, "workers outlive their driver"
            time.sleep(0.05)
    same(tmp_path, whole)


def test_any_order_of_arrival(cluster: Cluster) -> None:
    times = [random.Random(i).choice((0.0, 0.01, 0.05)) for i in range(60)]
    with connected(cluster):
        pool = Pool(4, 1)
        pool.give(raying.Naps())
        found = list(pool.run(FixedTasks([(t, i / 1e9) for i, t in enumerate(times)])))
        assert found == [(t, i / 1e9) for i, t in enumerate(times)]
        assert list(pool.run(FixedTasks([]))) == []
        # A job in the place of another, in the same processes.
        pool.give(raying.Faulty())
        assert list(pool.run(FixedTasks([(i,) for i in range(9)]))) == [(i,) for i in range(9)]
        assert len({i.pid for i in pool.seen}) <= 4
        pool.close()


def test_what_ends_a_pool(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    monkeypatch.setattr(pools, "ATTEMPTS", 2)
    with connected(cluster):
        pool = Pool(1, 1)
        pool.give(raying.Deadly())
        with (
            pytest.warns(BcgraphWarning, match="was lost"),
            pytest.raises(RunError, match="2 workers were lost on the same task") as caught,
        ):
            list(pool.run(FixedTasks([(i,) for i in range(30)])))
        assert caught.value.code == "E093"
        # A worker that has just ended another task is lost on that one, as far as the pool can tell.
        assert 2 <= pool.usage.lost <= 4
        pool.close()

        pool = Pool(1, 1)
        pool.give(raying.Faulty())
        with pytest.raises(DataError) as data:
            list(pool.run(FixedTasks([(i,) for i in range(30)])))
        assert (data.value.code, data.value.diagnostics[0].hint) == ("E081", "copy it")
        with pytest.raises(ray.exceptions.RayTaskError, match="a mistake"):
            list(pool.run(FixedTasks([(14,)])))
        monkeypatch.setattr(pool, "_own", replace(pool._own, versions=(("bcgraph", "0.0.1"),)))
        pool.give(raying.Naps())
        with pytest.raises(RunError, match=r"other versions: .* there, bcgraph 0\.0\.1 here"):
            list(pool.run(FixedTasks([(0.0,)])))
        pool.close()

        pool = Pool(1, 99, patience=1.0)
        pool.give(raying.Naps())
        with pytest.raises(RunError, match="each needs 99 CPUs, and the cluster has 4 in all"):
            list(pool.run(FixedTasks([(0.0,)])))
        pool.close()


def test_work_is_divided_evenly() -> None:
    assert [list(r) for r in divide(7, 3)] == [[0, 1], [2, 3], [4, 5, 6]]
    assert divide(2, 5) == [range(1), range(1, 2)]
    assert divide(0, 3) == []
    chunks = Chunks(range(100), workers=2, grain=0.5)
    sizes: list[int] = []
    while (chunk := chunks.draw()) is not None:
        sizes.append(len(chunk))
        chunks.took(chunk, 0.1 * len(chunk))
    assert sizes[0] == 1
    assert max(sizes) == 5, "as many as make up the grain"
    assert sizes[-1] == 1
    assert sum(sizes) == 100


def test_dead_and_failing_candidates_keep_their_reasons(cluster: Cluster) -> None:
    dead = bcgraph.parse(raying.TEXT.replace("steps = 2;", "steps = 2; neuron = lif(threshold=1e6);"))
    batch = ScoringBatch(torch.rand((20, 1, 8, 8), generator=torch.Generator().manual_seed(0)), torch.arange(20) % 10)
    with connected(cluster):
        pool = Pool(2, 1)

        def given(workload: Workload) -> Pool:
            pool.give(workload)
            return pool

        failed = "failed: CompileError: error[E073]: this cannot be computed"
        for spec, reason in ((raying.spec(), failed), (dead, "no neuron fires")):
            specs = [spec.with_backward(pairs) for pairs in ([(4, 0)], [(2, 2)], [], [(3, 1), (2, 2)])]
            scorer = raying.Fragile(batch, 0, ("n", "e"))
            alone = list(scorer(specs))
            assert list(PooledEvaluator(raying.Fragile(batch, 0, ("n", "e")), spec, given)(specs)) == alone
            assert [dict(e.reasons).get("n") for e in alone].count(reason) == 2
        pool.close()


# --- The last stage -----------------------------------------------------------------------------------------

FINISH = """
bcg 1
network five { input = image(1, 8, 8); steps = 2; backbone = tiny(width=3, classes=10) }
data = digits(batch=100)
search {
  init { pool = 0; keep = 3; batch = 20 }
  evolve { score = n; iterations = 0 }
  finish { top = 1; seeds = 2 }
}
train { epochs = 2 }
"""


def shared(cluster: Cluster) -> Options:
    """Two workers of the cluster."""
    return Options(workers=2, ray=cluster.address)


def alone_and_shared(
    spec: NetworkSpec, cluster: Cluster, folder: Path
) -> tuple[SearchResult, SearchResult, list[Event]]:
    """A search in one process, in `one`, and with two workers, in `many`, with its events; both find the same."""
    events: list[Event] = []
    one = run(spec, folder / "one", options=Options(threads=1))
    many = run(spec, folder / "many", options=shared(cluster), progress=events.append)
    assert many.best == one.best
    return one, many, events


def same_files(folder: Path, pattern: str) -> int:
    """The number of files of one process, which are those of the workers to the byte."""
    paths = sorted((folder / "one").glob(pattern))
    for path in paths:
        assert (folder / "many" / path.relative_to(folder / "one")).read_bytes() == path.read_bytes()
    return len(paths)


def test_the_last_stage_is_that_of_one_process_whoever_trains(cluster: Cluster, tmp_path: Path) -> None:
    one, many, events = alone_and_shared(bcgraph.parse(FINISH), cluster, tmp_path)
    assert many.finish == one.finish
    assert history(tmp_path / "many") == history(tmp_path / "one")
    same_files(tmp_path, "finish/*/*/last.safetensors")
    assert [e.done for e in events if e.stage == "finish"] == [2, 4, 6, 8]


HALVING = """
bcg 1
network five { input = image(1, 8, 8); steps = 2; backbone = tiny(width=3, classes=10) }
data = digits(batch=251)
search {
  init { pool = 8; keep = 4; scores = [locality] }
  evolve { strategy = halving; eta = 2 }
}
train { epochs = 2 }
"""


def test_halving_is_that_of_one_process_whoever_trains(cluster: Cluster, tmp_path: Path) -> None:
    spec = bcgraph.parse(HALVING)
    one, many, _ = alone_and_shared(spec, cluster, tmp_path)
    assert many.records == one.records
    assert [(r.iteration, r.index) for r in many.records if r.stage == "evolve"] == [(0, 0), (0, 1), (1, 0), (2, 0)]
    runs = same_files(tmp_path, "candidates/*/*/last.safetensors")
    assert runs == 6, "four short ones, which the second rung asks for again, the winner and none"
    # Nothing is trained twice, and nothing is left to do.
    assert run(spec, tmp_path / "many", options=shared(cluster)).records == one.records


def test_a_worker_without_the_directory_sends_the_files(tmp_path: Path) -> None:
    spec = bcgraph.parse(FINISH)
    network = spec.with_backward([(4, 0)])
    standard = Standard(spec, 0, tmp_path / "elsewhere")
    trainer = standard.finish(lambda _: None)
    own = Trainer(trainer.train.subset(range(100)), trainer.validation.subset(range(50)), tmp_path / "elsewhere")
    accuracy = own.one(network, 7, tmp_path / "here")
    work = Training(own, b"the run.json of another machine").start()
    done = work(Task(network, 7, "finish/none/seed-0"))
    assert done.accuracy == accuracy
    files = dict(done.files)
    assert files["last.safetensors"] == (tmp_path / "here/last.safetensors").read_bytes()
    assert {"state.safetensors", "log.csv", "spec.bcg"} <= files.keys()
    assert not (tmp_path / "elsewhere").exists()

"""One supernet trained by processes on two nodes, and several at once: what one process computes, whatever is lost."""

from __future__ import annotations

import os
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

import bcgraph
from bcgraph import training, weights
from bcgraph.errors import BcgraphWarning, RunError
from bcgraph.schema import NetworkSpec
from bcgraph.search import Options, run
from bcgraph.search.distributed.elastic import ElasticTraining, Node, broken, spread
from bcgraph.search.events import Event
from bcgraph.search.supernet import devices
from bcgraph.search.supernet.checkpoint import STATE, WEIGHTS
from bcgraph.search.supernet.several import Run
from bcgraph.search.supernet.supernet import Supernet, SupernetEpoch
from bcgraph.training.distributed.machines import Listener, interface
from tests import needs
from tests.search import raying
from tests.search.raying import Cluster, connected
from tests.search.threads import threads

TEXT = """
bcg 1
network five {{ input = image(1, 8, 8); steps = 2; backbone = tiny(width=3, classes=10) }}
data = digits(batch=251)
search {{ supernet {{ epochs = {epochs} }} }}
"""


def spec(epochs: int) -> NetworkSpec:
    return bcgraph.parse(TEXT.format(epochs=epochs))


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    with threads(1):
        yield


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    needs.package("ray")
    with raying.cluster(1, 1) as found:
        yield found


def supernet(net: NetworkSpec, machine: training.Options, seed: int = 7) -> Supernet:
    return Supernet(net, seed, devices.divided(net, 7)[0], dtype=torch.float64, machine=machine)


SEEDS = """
bcg 1
network five { input = image(1, 8, 8); steps = 2; backbone = tiny(width=3, classes=10) }
data = digits(batch=251)
search {
  init { pool = 0; keep = 2 }
  supernet { epochs = 2; seeds = 2 }
  evolve { iterations = 1; top = 2; population = 2; offspring = 1 }
}
"""


@pytest.mark.slow
def test_a_search_with_two_supernets_at_once_and_a_process_killed(tmp_path: Path, cluster: Cluster) -> None:
    net, killed = bcgraph.parse(SEEDS), []
    epochs: list[int] = []

    def report(event: Event) -> None:
        if event.stage != "supernet":
            return
        epochs.append(event.done)
        if not killed:
            killed.extend(cluster.workers(title=b"ray::Rank"))
            os.kill(killed[0], signal.SIGKILL)

    options = Options(workers=2, ray=cluster.address)
    with pytest.warns(BcgraphWarning, match="training resumes after epoch"):
        many = run(net, tmp_path / "many", options=options, progress=report)
    assert epochs == [1, 2, 3, 4]
    one = run(net, tmp_path / "one", options=Options(threads=1))
    assert many.records == one.records
    assert [len(values) for _, values in many.chosen.evaluation.samples] == [2]
    for folder in ("", "supernets/2"):
        for name in (STATE, WEIGHTS):
            assert (tmp_path / "many" / folder / name).read_bytes() == (tmp_path / "one" / folder / name).read_bytes()


@pytest.mark.slow
def test_machines_that_never_come(tmp_path: Path, cluster: Cluster) -> None:
    gpus = training.Options("cuda", 3)
    runs = [Run(supernet(spec(1), gpus), tmp_path)]
    with (
        connected(cluster),
        pytest.raises(RunError, match="has not had 3 free GPUs to train the supernet on") as caught,
    ):
        ElasticTraining(gpus, patience=0.1)(runs, lambda run, epoch: None)
    assert caught.value.code == "E093"


@pytest.mark.slow
def test_a_node_lost_while_two_train_one_supernet(tmp_path: Path, cluster: Cluster) -> None:
    net = spec(3)
    one, alone, there = supernet(net, training.Options()), tmp_path / "one", tmp_path / "two"
    alone.mkdir()
    there.mkdir()
    expected = one.train(alone, lambda _: None)
    two = supernet(net, training.Options(devices=2))
    told: list[SupernetEpoch] = []

    def report(_: Run, epoch: SupernetEpoch) -> None:
        told.append(epoch)
        if epoch.epoch == 1:
            cluster.remove(cluster.nodes[1])

    lost = pytest.warns(BcgraphWarning, match="a process that trains was lost; training resumes after epoch")
    with connected(cluster), lost:
        ElasticTraining(two.machine)([Run(two, there)], report)
    assert [epoch.epoch for epoch in told] == [1, 2, 3]
    for a, b in zip(expected, told, strict=True):
        assert (a.epoch, a.steps) == (b.epoch, b.steps)
        assert abs(a.loss - b.loss) < 1e-9
    found, other = (weights.unpack(folder / STATE)[0] for folder in (alone, there))
    assert found.keys() == other.keys()
    for name, value in found.items():
        assert (other[name] - value).abs().max() < 1e-9, name
    state = two.full.state_dict()
    for name, value in one.full.state_dict().items():
        assert (state[name] - value).abs().max() < 1e-9, name


def test_processes_spread_over_machines() -> None:
    two = [Node("a", 4), Node("b", 2)]
    assert spread(two, Counter(), 3, share=True) == ["a", "a", "b"]
    assert spread(two, Counter({"a": 4}), 2, share=True) == ["b", "b"]
    assert Counter(spread(two, Counter(), 12, share=True)) == {"a": 8, "b": 4}
    assert Counter(spread(two, Counter(), 6, share=False)) == {"a": 4, "b": 2}
    assert spread(two, Counter({"a": 1}), 6, share=False) is None
    assert spread([], Counter(), 1, share=True) is None


def test_the_first_process_listens_on_one_address() -> None:
    listener = Listener("127.0.0.1")
    assert listener.socket.getsockname() == ("127.0.0.1", listener.port)
    listener.socket.close()
    if sys.platform == "linux":
        assert interface("127.0.0.1") == "lo"
    assert interface("203.0.113.77") is None


def test_what_says_that_a_process_is_gone() -> None:
    assert broken(RuntimeError("[third_party/gloo/gloo/transport/tcp/pair.cc:561] Connection closed by peer"))
    assert broken(dist.DistNetworkError("the store does not answer"))
    assert not broken(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not broken(ValueError("gloo"))

"""Exported networks as Python values: copies of them, and inputs that cannot be."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import bcgraph
from bcgraph.errors import RunError
from bcgraph.runtime import Network

TEXT = """bcg 1
network n { input = sequence(3); steps = 2; backbone = b(); backward lif -> lif }
block b() { linear = linear(4); lif = lif(); fc = linear(2) }
"""

X = np.random.default_rng(0).normal(size=(2, 5, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Network:
    path = tmp_path_factory.mktemp("networks") / "n.onnx"
    spec = bcgraph.parse(TEXT)
    bcgraph.export(spec, path, state_dict=bcgraph.compile(spec).state_dict(), form="step")
    return Network(path, threads=1)


@pytest.mark.parametrize("copied", [copy.deepcopy, copy.copy, lambda n: pickle.loads(pickle.dumps(n))])
def test_a_copy_computes_the_same(network: Network, copied: Callable[[Network], Network]) -> None:
    np.testing.assert_array_equal(copied(network)(X), network(X))


@pytest.mark.parametrize(
    "given",
    [torch.zeros(2, 5, 3, requires_grad=True), torch.zeros(2, 5, 3, dtype=torch.bfloat16), [[1, 2], [3]], None],
)
def test_what_is_no_array_is_refused(network: Network, given: Any) -> None:
    with pytest.raises(RunError, match="E090"):
        network(given)
    with pytest.raises(RunError, match="E090"):
        network.stream().push(given)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e39])
def test_a_step_takes_finite_values_alone(network: Network, bad: float) -> None:
    states: dict[str, Any] = network.zeros(5)
    output, _ = network.step(X[0].astype(np.float64), {name: v.astype(np.float64) for name, v in states.items()})
    assert np.isfinite(output).all()
    with pytest.raises(RunError, match="not finite"):
        network.step(np.full_like(X[0], bad, dtype=np.float64), states)
    name = next(iter(states))
    with pytest.raises(RunError, match="not finite"):
        network.step(X[0], {**states, name: np.full_like(states[name], bad, dtype=np.float64)})


class _Shared(Network):
    """A network whose states another thread replaces each time after they were read."""

    @property
    def _zeros(self) -> Any:
        known = self.__dict__["zeros"]
        self.__dict__["zeros"] = (7, dict.fromkeys(known[1]))
        return known

    @_zeros.setter
    def _zeros(self, value: Any) -> None:
        self.__dict__["zeros"] = value


def test_states_are_those_of_the_batch_whatever_another_thread_asks_for(network: Network) -> None:
    shared = _Shared(network.path, threads=1)
    wanted = network.begin(5)
    shared._zeros = (5, wanted)
    assert shared.begin(5) == wanted

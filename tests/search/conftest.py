from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest

from bcgraph import schema
from bcgraph.schema import NetworkSpec
from tests import neurons

MakeNetwork = Callable[..., NetworkSpec]


def chain(ports: int, backward: Iterable[tuple[int, ...]] = (), *, halve_at: tuple[int, ...] = ()) -> NetworkSpec:
    """A plain chain of `ports` LIF layers on a 3x16x16 image; resolution halves before the ports of `halve_at`."""
    body: list[schema.LayerNode] = []
    for i in range(ports):
        stride = 2 if i in halve_at else 1
        body += [
            schema.Conv(name=f"conv{i}", channels=4, kernel=3, stride=stride, padding=1),
            schema.BatchNorm(name=f"bn{i}"),
            schema.NeuronLayer(name=f"lif{i}", neuron=neurons.lif()),
        ]
    body += [
        schema.AdaptivePool(name="pool", kind="adaptive_avgpool", size=1),
        schema.Flatten(name="flatten"),
        schema.Linear(name="fc", features=10),
    ]
    spec = NetworkSpec(
        name="chain",
        input=schema.ImageInput(3, 16, 16),
        steps=4,
        backbone=schema.Backbone.build(schema.Call("chain"), "", tuple(body)),
    )
    return spec.with_backward(backward)  # type: ignore[arg-type]


@pytest.fixture
def network() -> MakeNetwork:
    return chain


@pytest.fixture
def chi_square() -> Callable[[dict[object, int], dict[object, float]], float]:
    """The p-value of counts against exact probabilities; 0 when something impossible was counted."""
    from scipy.stats import chisquare

    def p_value(counts: dict[object, int], probabilities: dict[object, float]) -> float:
        if set(counts) - set(probabilities):
            return 0.0
        total = sum(counts.values())
        keys = list(probabilities)
        observed = [counts.get(k, 0) for k in keys]
        expected = [probabilities[k] * total for k in keys]
        return float(chisquare(observed, expected).pvalue)

    return p_value

"""Networks that are trained side by side end where each would end alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from bcgraph import data, dsl, training
from bcgraph.schema import NetworkSpec
from bcgraph.training.options import Options
from benchmarks.placement import together, why
from benchmarks.placement.together import Entry

TEXT = """
bcg 1

network rows {
  input    = sequence(1, 1, 8)
  steps    = 8
  readout  = last
  feedback = project(gain=GAIN)
  backbone = tiny(width=4, classes=10)
}

data = arrays(root="ROOT", batch=16)

train {
  epochs    = 2
  loss      = last
  optimizer = adamw(lr=0.01, weight_decay=0.02)
}
"""


@pytest.fixture
def text(tmp_path: Path) -> str:
    """50 samples of noise to train on, three batches of 16 and one of 2, and 30 to test."""
    rng = np.random.default_rng(0)
    x = rng.random((80, 8, 1, 1, 8), dtype=np.float32)
    y = np.arange(80) % 10
    np.savez(tmp_path / "x.npz", x_train=x[:50], y_train=y[:50], x_test=x[50:], y_test=y[50:])
    return TEXT.replace("ROOT", str(tmp_path / "x.npz"))


def _network(text: str, connections: tuple[tuple[int, int], ...], gain: float = 1.0) -> NetworkSpec:
    return dsl.parse(text.replace("GAIN", str(gain))).with_backward(connections)


def test_many_equal_each_alone(text: str, tmp_path: Path) -> None:
    """In float64: connections of every kind of resize, two into one port, own gains, own seeds and so own orders."""
    entries = [
        Entry(_network(text, ()), 0),
        Entry(_network(text, ((4, 0), (3, 0), (1, 1)), 0.1), 1),
        Entry(_network(text, ((4, 0), (4, 3), (2, 2))), 2),
    ]
    found = together.train(entries, dtype=torch.float64)
    for number, (entry, outcome) in enumerate(zip(entries, found, strict=True)):
        alone = training.train(
            entry.spec, out=tmp_path / str(number), seed=entry.seed, schedule="folded", options=Options(precision="64")
        )
        assert outcome.accuracy == pytest.approx(alone.accuracy, abs=1e-12)
        assert outcome.best == pytest.approx(alone.best, abs=1e-12)
        assert outcome.loss == pytest.approx(alone.history[-1].loss, abs=1e-9)
    assert len({outcome.loss for outcome in found}) == 3


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("loss      = last", "loss      = tet"),
        ("epochs    = 2", "epochs    = 2\n  clip      = 1"),
        ("sequence(1, 1, 8)", "sequence(1, 2, 4)"),
        ("tiny(width=4, classes=10)", "tiny(width=4, classes=10)\n  backward @4 -> @0 { delay = 2 }"),
        ("tiny(width=4, classes=10)", "tiny(width=4, classes=10)\n  neuron   = lif(reset=soft)"),
    ],
)
def test_what_is_not_written_there_is_refused(text: str, old: str, new: str) -> None:
    spec = dsl.parse(text.replace("GAIN", "1").replace(old, new))
    with pytest.raises(ValueError, match="is trained alone"):
        together.train([Entry(spec, 0)])


def test_looking_on_changes_nothing_and_sees_what_a_gain_does() -> None:
    """A gain of 0 is no connection, to the bit; with gain 1 the currents of the target vary more."""
    spec, some = dsl.load(why.SPEC), ((4, 0),)
    networks = why.Watched(
        [why.network(pairs, gain) for pairs, gain in (((), 1.0), (some, 0.0), (some, 1.0))], [0, 0, 0], torch.float32
    )
    before = {name: value.clone() for name, value in networks.state_dict().items()}
    splits = data.load(spec.data, spec.input, spec.steps)
    none, quiet, loud = why.look(networks, splits)
    assert none == quiet
    assert [look[:2] for look in loud[:6]] == [(0, 0), (1, 0), (2, 0), (3, 0), (4, 0), (0, 1)]
    assert loud[0][:4] == none[0][:4]
    assert loud[5][3] > 1.5 * none[5][3]
    assert loud[0][4] > 100 * none[0][4], "loud feedback makes the gradients of early steps explode"
    assert all(torch.equal(value, before[name]) for name, value in networks.state_dict().items())


def test_dividing_by_the_root_of_what_arrives() -> None:
    spec = why.network(((4, 0), (3, 0)), 1.0)
    networks = why.Divided([spec, why.network(((4, 1),), 1.0)], [0, 0], torch.float64)
    current, values = torch.ones(2, 16, 8, 3), torch.ones(2, 16, 8, 3)
    got = networks.received(0, current.double(), values.double(), torch.tensor([0, 0]))
    torch.testing.assert_close(got[0], torch.full_like(got[0], 3 / 3**0.5))
    torch.testing.assert_close(got[1], torch.ones_like(got[1]))

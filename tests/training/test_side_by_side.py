"""Networks that are trained side by side end where each would end alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from bcgraph import dsl, training
from bcgraph.schema import NetworkSpec
from bcgraph.training.options import Options
from benchmarks.placement import together
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

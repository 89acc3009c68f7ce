from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import bcgraph
from bcgraph import dsl, files, weights
from bcgraph.training.events import Epoch, log_text

TEXT = """
bcg 1
network five {{ input = image(1, 8, 8); steps = 2; backbone = tiny(width=3, classes=10); {backward} }}
train {{ epochs = {epochs} }}
"""
FAR = "backward @4 -> @0"


def kept(
    path: Path, seed: int, accuracies: list[float], backward: str = "", epochs: int = 2, held_out: str = "test"
) -> Path:
    """A training run as `bcgraph train` leaves it, with these accuracies."""
    spec = bcgraph.parse(TEXT.format(backward=backward, epochs=epochs))
    path.mkdir(parents=True)
    history = [Epoch(k + 1, 0.1, 2.0 - a, a + 0.1, a, 1.5) for k, a in enumerate(accuracies)]
    identity: dict[str, Any] = {**weights.describe(spec), "train.epochs": epochs, "seed": seed, "data": "digits"}
    identity |= {} if held_out == "test" else {"held_out": held_out}
    files.write_bytes(path / "state.safetensors", weights.pack({}, {"identity": identity}))
    (path / "log.csv").write_text(log_text(history, held_out))
    (path / "spec.bcg").write_text(dsl.format_spec(spec))
    return path


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """Three seeds of a network without connections and of one with a far connection, in one folder."""
    for seed, accuracy in enumerate((0.80, 0.82, 0.81)):
        kept(tmp_path / f"none-{seed}", seed, [0.1, accuracy])
    for seed, accuracy in enumerate((0.70, 0.71, 0.69)):
        kept(tmp_path / f"far-{seed}", seed, [0.1, accuracy], FAR)
    return tmp_path

"""`python -m benchmarks.placement.why`: why loud feedback hurts, and what else helps against it.

On the rows of digits, with the settings of `specs/tiny_digits_rows.bcg`. Two CSV files, each written when it is whole:

- `watched`: at the start and in training, by port and step: the share of neurons that fire, the variance of the
  current, and the norm of the loss's gradient by that current, for no connection, the worst pair (4->0 with 4->1), the
  best (1->1 with 3->3) and all 15, at gain 1, 0.1 and 0;
- `cures`: the accuracy of the worst pair, of eight random connections and of all 15 with gain 1, with gain 0.1, and
  with what others would do: the sum divided by the root of one more than what arrives, a learning rate of a tenth for
  projections, a warm-up, a norm after the sum; and with 48 epochs in place of 12.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from bcgraph import dsl, keys, schema, shapes
from bcgraph.data import Splits
from bcgraph.search.space.search_space import Architecture
from benchmarks.placement import rows, together, work
from benchmarks.placement.together import Entry, Networks

SPEC = Path(__file__).parents[2] / "specs" / "tiny_digits_rows.bcg"
WATCHED = Path(__file__).with_name("digits_rows_watched.csv")
CURES = Path(__file__).with_name("digits_rows_cures.csv")

SEEDS = 5
WATCHED_SEEDS = 3
PAIRS: Mapping[str, Architecture] = {"4>0 4>1": ((4, 0), (4, 1)), "1>1 3>3": ((1, 1), (3, 3))}
"""The worst of all 121 architectures, and the best."""

GAINS = (1.0, 0.1, 0.0)
EPOCHS = (0, 1, 4, 12)
"""After so many epochs the networks are looked at."""


@dataclass(frozen=True, slots=True)
class Look:
    """One port at one step after some epochs: means over a batch of 256 training samples.

    `rate` is the share of neurons that fire, `variance` that of the current over samples, channels and places, and
    `gradient` the Euclidean norm of the mean loss's gradient by the current.
    """

    connections: str
    gain: float
    seed: int
    epoch: int
    port: int
    step: int
    rate: float
    variance: float
    gradient: float


@dataclass(frozen=True, slots=True)
class Cure:
    """One training run with a cure."""

    connections: str
    cure: str
    seed: int
    accuracy: float
    best: float
    loss: float


def network(architecture: Architecture, gain: float, train: Mapping[str, object] | None = None) -> schema.NetworkSpec:
    """The file's network with connections of one gain, trained as `train` says where that differs."""
    spec = dsl.load(SPEC)
    spec = spec.with_backward(schema.BackwardConnection(j, i, gain=gain) for j, i in architecture)
    return spec.model_copy(update={"train": spec.train.model_copy(update=dict(train or {}))})


# --- What happens inside ----------------------------------------------------------------------------------


class Watched(Networks):
    """Networks that keep the current of each port and step while `kept` is a list."""

    kept: list[tuple[int, Tensor]] | None = None

    def seen(self, port: int, current: Tensor) -> Tensor:
        if self.kept is not None:
            current.retain_grad()
            self.kept.append((port, current))
        return current


def watched() -> list[Look]:
    """Train and look on."""
    named: Mapping[str, Architecture] = {"none": (), **PAIRS, "all": work.every_pair(dsl.load(SPEC))}
    labels = [
        (name, gain, seed)
        for seed in range(WATCHED_SEEDS)
        for name, some in named.items()
        for gain in (GAINS if some else GAINS[:1])
    ]
    entries = [Entry(network(named[name], gain), seed) for name, gain, seed in labels]
    looks: list[Look] = []

    def after(epoch: int, networks: Networks, splits: Splits) -> None:
        if epoch in EPOCHS:
            assert isinstance(networks, Watched)
            looks.extend(
                Look(*labels[k], epoch, *values) for k, found in enumerate(look(networks, splits)) for values in found
            )

    together.train(entries, kind=Watched, after=after)
    return looks


def look(networks: Watched, splits: Splits) -> list[list[tuple[int, int, float, float, float]]]:
    """Port, step, rate, variance and gradient, of each network, for one batch, with nothing changed."""
    x, y = splits.train.take(range(256))
    frames = together.row(x).unsqueeze(1).expand(-1, networks.size, -1, -1, -1).to(networks.dtype)
    before = {name: value.clone() for name, value in networks.running.items()}
    networks.train()
    networks.kept = []
    outputs = networks(frames)
    loss = F.cross_entropy(outputs.flatten(0, 1), y.repeat(networks.size), reduction="none")
    loss.view(networks.size, -1).mean(1).sum().backward()
    kept, networks.kept = networks.kept, None
    networks.zero_grad(set_to_none=True)
    for name, value in before.items():
        networks.running[name].copy_(value)
    found: list[list[tuple[int, int, float, float, float]]] = [[] for _ in range(networks.size)]
    membranes: dict[int, Tensor] = {}
    steps: dict[int, int] = {}
    given = dict(dsl.load(SPEC).neuron.arguments)
    tau, threshold = float(str(given["tau"])), float(str(given["threshold"]))
    for port, current in kept:
        step = steps.get(port, 0)
        steps[port] = step + 1
        values = current.detach()
        membrane = values + tau * membranes[port] if port in membranes else values
        spike = membrane > threshold
        membranes[port] = membrane * ~spike
        rate = spike.float().flatten(1).mean(1)
        variance = values.flatten(1).var(1)
        gradient = (torch.zeros_like(values) if current.grad is None else current.grad).flatten(1).norm(dim=1)
        for k in range(networks.size):
            found[k].append((port, step, float(rate[k]), float(variance[k]), float(gradient[k])))
    return found


# --- Cures ------------------------------------------------------------------------------------------------


class Divided(Networks):
    """The sum at a port is divided by the root of one more than what arrives."""

    def received(self, port: int, current: Tensor, values: Tensor, members: Tensor) -> Tensor:
        arriving = torch.bincount(members, minlength=self.size).to(current.dtype)
        return super().received(port, current, values, members) / (1 + arriving).sqrt().view(-1, 1, 1, 1)


class Normed(Networks):
    """A norm of its own after the sum at each port that something arrives at."""

    def __init__(self, specs: Sequence[schema.NetworkSpec], seeds: Sequence[int], dtype: torch.dtype) -> None:
        super().__init__(specs, seeds, dtype)
        for port, (shape, *_) in enumerate(shapes.ports(specs[0].backbone, specs[0].input)):
            members = sorted({int(k) for pair, some in self.members.items() if pair[1] == port for k in some})
            if members:
                name = f"after.{port}"
                self.values[f"after/{port}/weight"] = torch.nn.Parameter(torch.ones(len(members), shape, dtype=dtype))
                self.values[f"after/{port}/bias"] = torch.nn.Parameter(torch.zeros(len(members), shape, dtype=dtype))
                self.running[f"{name}.running_mean"] = torch.zeros(len(members) * shape, dtype=dtype)
                self.running[f"{name}.running_var"] = torch.ones(len(members) * shape, dtype=dtype)

    def received(self, port: int, current: Tensor, values: Tensor, members: Tensor) -> Tensor:
        whole = super().received(port, current, values, members)
        some = members.unique()
        normed = self._norm(f"after.{port}", self.spec.norm, whole.index_select(0, some))
        return whole.index_copy(0, some, normed)


Way: TypeAlias = tuple[float, Mapping[str, object], type[Networks], Mapping[str, float]]
WAYS: Mapping[str, Way] = {
    "gain 1": (1.0, {}, Networks, {}),
    "gain 0.1": (0.1, {}, Networks, {}),
    "sum over root": (1.0, {}, Divided, {}),
    "projections at a tenth of the rate": (1.0, {}, Networks, {"backward": 0.1}),
    "warm-up of 3 epochs": (1.0, {"schedule": schema.Cosine(warmup=3)}, Networks, {}),
    "norm after the sum": (1.0, {}, Normed, {}),
    "gain 1, 48 epochs": (1.0, {"epochs": 48}, Networks, {}),
    "gain 0.1, 48 epochs": (0.1, {"epochs": 48}, Networks, {}),
}


def cured(way: str) -> list[Cure]:
    """Train the worst pair, eight random connections and all 15 in one way."""
    gain, settings, kind, rates = WAYS[way]
    every = work.every_pair(dsl.load(SPEC))
    labels: list[tuple[str, int]] = []
    entries: list[Entry] = []
    for seed in range(SEEDS):
        drawn = tuple(sorted(keys.rng(seed, "quiet", 8).sample(every, 8)))
        named: Mapping[str, Architecture] = {"none": (), **PAIRS, "8": drawn, "all": every}
        for name, some in named.items():
            if name == "none" and way not in ("gain 1", "gain 1, 48 epochs"):
                continue
            labels.append((name, seed))
            entries.append(Entry(network(some, gain, settings), seed))
    outcomes = together.train(entries, kind=kind, rates=rates)
    return [
        Cure(name, way, seed, found.accuracy, found.best, found.loss)
        for (name, seed), found in zip(labels, outcomes, strict=True)
    ]


# --- The command ------------------------------------------------------------------------------------------


def run(folder: Path) -> None:
    """Make what is missing in a folder."""
    path = folder / CURES.name
    done = list(rows.read(path, Cure))
    for way in WAYS:
        if way not in {row.cure for row in done}:
            done += cured(way)
            rows.write(path, Cure, done)
            print(way, *(f"{row.connections}: {row.accuracy:.3f}" for row in done if row.cure == way), flush=True)
    path = folder / WATCHED.name
    if not path.exists():
        rows.write(path, Look, watched())


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.placement.why", description="Why loud feedback hurts")
    parser.add_argument("--out", type=Path, default=Path("out/why"), help="a folder for the CSV files")
    asked = parser.parse_args()
    with work.one_thread():
        run(asked.out)


if __name__ == "__main__":
    main()

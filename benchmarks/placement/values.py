"""`python -m benchmarks.placement.values`: what each predictor says of every architecture that the table holds.

`--spec` and `--out` measure it for the network of another table, `--only` measures some predictors.

For each seed (of weights, batch, split and order) all 121 architectures get their scores on one batch, their accuracy
on the weights of supernets (trained for several numbers of epochs, with batch norms as training left them and
recalibrated), and what short training runs of their own reach on validation data. The values are kept in
`predictors.csv` as soon as a predictor is done; the same command goes on with what is missing.
"""

from __future__ import annotations

import argparse
import csv
import io
import math
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from bcgraph import dsl, files
from bcgraph.errors import BcgraphError
from bcgraph.schema import EvolveSpec, InitSpec, NetworkSpec, SearchSpec, SupernetSpec
from bcgraph.search.space.pairs import Space
from benchmarks.placement import records
from benchmarks.placement.__main__ import SPEC

VALUES = Path(__file__).with_name("predictors.csv")

EPOCHS = (20, 60)
RECALIBRATE = 8
BATCH = 100
"""Samples that are scored."""

PAPER = ("n", "e")
"""The paper's scores (eq. 13 and 19)."""
OTHERS = ("naswot", "snip", "grad_norm")
"""Those of others, of one pass each."""


@dataclass(frozen=True, slots=True)
class Shot:
    """A supernet of so many epochs, evaluated after recalibrating with so many batches."""

    epochs: int
    recalibrate: int

    def __str__(self) -> str:
        return f"supernet{self.epochs}" + (f"r{self.recalibrate}" if self.recalibrate else "")


SHOTS = tuple(Shot(epochs, recalibrate) for epochs in EPOCHS for recalibrate in (0, RECALIBRATE))
SHORT = {"short9": 9, "short3": 3}
"""Training runs of a ninth and of a third of the epochs: the first rungs of successive halving by threes."""
TOGETHER = 31
"""Short training runs side by side."""

PREDICTORS = (*PAPER, *map(str, SHOTS), *OTHERS, *SHORT)
SEARCHED = (*PAPER, *map(str, SHOTS))
"""What the paper's method asks."""

Values = dict[tuple[str, int], list[float]]
"""For a predictor and a seed the values of all architectures, in the order of the space."""


@cache
def base(path: Path = SPEC) -> NetworkSpec:
    """The network of a file without connections."""
    return dsl.load(path).with_backward(())


def architectures() -> Space:
    """The space that the table holds."""
    return Space(len(base().ports), 2)


def read(path: Path = VALUES) -> Values:
    """The values in a file, none where there is no file; which predictors it has is told by its first line.

    Raises ValueError for a file of something else.
    """
    if not path.exists():
        return {}
    names = [records.written(a) for a in architectures()]
    found: Values = {}
    with path.open(newline="", encoding="utf-8") as stream:
        rows = csv.DictReader(stream)
        held = list(rows.fieldnames or ())[2:]
        if rows.fieldnames != ["seed", "backward", *held] or not set(held) <= set(PREDICTORS):
            raise ValueError(f"{path} holds other predictors than {', '.join(PREDICTORS)}")
        for place, row in enumerate(rows):
            if row["backward"] != names[place % len(names)]:
                raise ValueError(f"{path} has architectures in another order than the space")
            for name in held:
                if row[name]:
                    found.setdefault((name, int(row["seed"])), []).append(float(row[name]))
    return found


def write(path: Path, values: Values) -> None:
    """Replace the file in one step."""
    stream = io.StringIO()
    table = csv.writer(stream, lineterminator="\n")
    held = [name for name in PREDICTORS if any(name == known for known, _ in values)]
    table.writerow(["seed", "backward", *held])
    for seed in sorted({seed for _, seed in values}):
        columns = [values.get((name, seed)) for name in held]
        for place, architecture in enumerate(architectures()):
            cells = ["" if column is None else repr(column[place]) for column in columns]
            table.writerow([seed, records.written(architecture), *cells])
    files.write_text(path, stream.getvalue())


def measure(
    seed: int, known: Values, path: Path = SPEC, only: Sequence[str] = PREDICTORS
) -> Iterator[tuple[str, list[float]]]:
    """Each predictor of `only` that `known` lacks for this seed, with its values."""
    missing = [name for name in only if (name, seed) not in known]
    specs = [base(path).with_backward(a) for a in architectures()]
    yield from _scored(specs, seed, path, [name for name in missing if name in (*PAPER, *OTHERS)])
    for epochs in EPOCHS:
        yield from _shots(specs, seed, path, [s for s in SHOTS if s.epochs == epochs and str(s) in missing])
    for name, part in SHORT.items():
        if name in missing:
            yield name, _trained(specs, seed, part)


def _scored(specs: Sequence[NetworkSpec], seed: int, path: Path, names: list[str]) -> Iterator[tuple[str, list[float]]]:
    """Scores. Those of others are asked apart from the paper's, which are as a search asks for them alone."""
    from bcgraph.search.evaluators import Standard

    for group in (PAPER, OTHERS):
        asked = tuple(name for name in group if name in names)
        if not asked:
            continue
        spec = searched(EPOCHS[0], path)
        assert spec.search is not None
        init = spec.search.init.model_copy(update={"scores": asked})
        spec = spec.model_copy(update={"search": spec.search.model_copy(update={"init": init})})
        with tempfile.TemporaryDirectory() as folder:
            standard = Standard(spec, seed, Path(folder), inits=1, score_dtype="float32")
            found = list(standard.init()([one.model_copy(update={"search": spec.search}) for one in specs]))
        for name in asked:
            yield name, [one.value(name) for one in found]


def _shots(
    specs: Sequence[NetworkSpec], seed: int, path: Path, shots: Sequence[Shot]
) -> Iterator[tuple[str, list[float]]]:
    """Accuracies on the weights of one supernet."""
    from bcgraph.search.supernet.devices import divided
    from bcgraph.search.supernet.one_shot import OneShot
    from bcgraph.search.supernet.supernet import Supernet

    if not shots:
        return
    spec = searched(shots[0].epochs, path)
    train, validation = divided(spec, seed)
    supernet = Supernet(spec, seed, train)
    with tempfile.TemporaryDirectory() as folder:
        supernet.train(Path(folder), lambda _: None)
    for shot in shots:
        found = OneShot(supernet, validation, shot.recalibrate)(specs)
        yield str(shot), [one.value("accuracy") for one in found]


def _trained(specs: Sequence[NetworkSpec], seed: int, part: int) -> list[float]:
    """Validation accuracies after one epoch in `part`, each from the start and with a schedule of its own."""
    from bcgraph import data
    from bcgraph.search.supernet.devices import divided
    from benchmarks.placement import together

    epochs = max(1, round(specs[0].train.epochs / part))
    train, validation = divided(specs[0], seed)
    splits = replace(data.load(specs[0].data, specs[0].input, specs[0].steps), train=train, test=validation)
    short = [one.model_copy(update={"train": one.train.model_copy(update={"epochs": epochs})}) for one in specs]
    entries = [together.Entry(one, seed) for one in short]
    return [
        outcome.accuracy
        for start in range(0, len(entries), TOGETHER)
        for outcome in together.train(entries[start : start + TOGETHER], splits=splits)
    ]


def searched(epochs: int, path: Path = SPEC) -> NetworkSpec:
    """The network with the settings that its predictors are measured by."""
    search = SearchSpec(
        init=InitSpec(batch=BATCH), supernet=SupernetSpec(epochs=epochs), evolve=EvolveSpec(score="oneshot")
    )
    return base(path).model_copy(update={"search": search})


def seeds_of(values: Values, names: Sequence[str] = SEARCHED) -> list[int]:
    """The seeds for which all of `names` are measured."""
    every = sorted({seed for _, seed in values})
    return [seed for seed in every if all((name, seed) in values for name in names)]


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.placement.values", description=(__doc__ or "").split("\n\n")[0]
    )
    parser.add_argument("--out", type=Path, default=VALUES, help="the CSV file")
    parser.add_argument("--spec", type=Path, default=SPEC, help="a file with the network of the table; of 5 ports")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--only", nargs="+", choices=PREDICTORS, default=PREDICTORS, help="measure these")
    parser.add_argument("--limit", type=float, default=math.inf, help="stop after so many predictors")
    asked = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    done = 0
    try:
        with files.locked(asked.out.parent):
            values = read(asked.out)
            for seed in range(asked.seeds):
                for name, found in measure(seed, values, asked.spec, asked.only):
                    values[name, seed] = found
                    write(asked.out, values)
                    print(f"seed {seed}: {name}", flush=True)
                    done += 1
                    if done >= asked.limit:
                        return
    except (BcgraphError, ValueError) as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit("interrupted; the same command goes on")


if __name__ == "__main__":
    main()

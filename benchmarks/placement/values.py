"""`python -m benchmarks.placement.values`: what each predictor says of every architecture that the table holds.

`--spec` and `--out` measure it for the network of another table.

For each seed (of weights, batch, split and order) all 121 architectures get an N-score, an E-score and their accuracy
on the weights of supernets: trained for several numbers of epochs, with batch norms as training left them and
recalibrated. The values are kept in `predictors.csv` as soon as a predictor is done; the same command goes on with what
is missing.
"""

from __future__ import annotations

import argparse
import csv
import io
import math
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
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

SCORES = ("n", "e")


@dataclass(frozen=True, slots=True)
class Shot:
    """A supernet of so many epochs, evaluated after recalibrating with so many batches."""

    epochs: int
    recalibrate: int

    def __str__(self) -> str:
        return f"supernet{self.epochs}" + (f"r{self.recalibrate}" if self.recalibrate else "")


SHOTS = tuple(Shot(epochs, recalibrate) for epochs in EPOCHS for recalibrate in (0, RECALIBRATE))
PREDICTORS = (*SCORES, *map(str, SHOTS))

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
    """The values in a file, none where there is no file. Raises ValueError for a file of something else."""
    if not path.exists():
        return {}
    names = [records.written(a) for a in architectures()]
    found: Values = {}
    with path.open(newline="", encoding="utf-8") as stream:
        rows = csv.DictReader(stream)
        if rows.fieldnames != ["seed", "backward", *PREDICTORS]:
            raise ValueError(f"{path} holds other predictors than {', '.join(PREDICTORS)}")
        for place, row in enumerate(rows):
            if row["backward"] != names[place % len(names)]:
                raise ValueError(f"{path} has architectures in another order than the space")
            for name in PREDICTORS:
                if row[name]:
                    found.setdefault((name, int(row["seed"])), []).append(float(row[name]))
    return found


def write(path: Path, values: Values) -> None:
    """Replace the file in one step."""
    stream = io.StringIO()
    table = csv.writer(stream, lineterminator="\n")
    table.writerow(["seed", "backward", *PREDICTORS])
    for seed in sorted({seed for _, seed in values}):
        columns = [values.get((name, seed)) for name in PREDICTORS]
        for place, architecture in enumerate(architectures()):
            cells = ["" if column is None else repr(column[place]) for column in columns]
            table.writerow([seed, records.written(architecture), *cells])
    files.write_text(path, stream.getvalue())


def measure(seed: int, known: Values, path: Path = SPEC) -> Iterator[tuple[str, list[float]]]:
    """Each predictor that `known` lacks for this seed, with its values."""
    from bcgraph.search.evaluators import Standard
    from bcgraph.search.supernet.one_shot import OneShot
    from bcgraph.search.supernet.supernet import Supernet

    space = architectures()
    with tempfile.TemporaryDirectory() as folder:
        for epochs in (None, *EPOCHS):
            spec = searched(epochs or EPOCHS[0], path)
            specs = [spec.with_backward(a) for a in space]
            standard = Standard(spec, seed, Path(folder), inits=1, score_dtype="float32")
            if epochs is None:
                if any((name, seed) not in known for name in SCORES):
                    scored = list(standard.init()(specs))
                    yield "n", [one.value("n") for one in scored]
                    yield "e", [one.value("e") for one in scored]
                continue
            shots = [s for s in SHOTS if s.epochs == epochs and (str(s), seed) not in known]
            if not shots:
                continue
            train, validation = standard.splits
            supernet = Supernet(spec, seed, train)
            (Path(folder) / str(epochs)).mkdir()
            supernet.train(Path(folder) / str(epochs), lambda _: None)
            for shot in shots:
                found = OneShot(supernet, validation, shot.recalibrate)(specs)
                yield str(shot), [one.value("accuracy") for one in found]


def searched(epochs: int, path: Path = SPEC) -> NetworkSpec:
    """The network with the settings that its predictors are measured by."""
    search = SearchSpec(
        init=InitSpec(batch=BATCH), supernet=SupernetSpec(epochs=epochs), evolve=EvolveSpec(score="oneshot")
    )
    return base(path).model_copy(update={"search": search})


def seeds_of(values: Values, names: Sequence[str] = PREDICTORS) -> list[int]:
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
    parser.add_argument("--limit", type=float, default=math.inf, help="stop after so many predictors")
    asked = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    done = 0
    try:
        with files.locked(asked.out.parent):
            values = read(asked.out)
            for seed in range(asked.seeds):
                for name, found in measure(seed, values, asked.spec):
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

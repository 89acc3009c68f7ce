"""`python -m benchmarks.placement.gains`: ways to place feedback, compared by what they reach and what they cost.

On `specs/tiny_digits_rows.bcg` or the file of `--spec`, each way, or those of `--ways`, is tried from several seeds,
from the file to a network trained on all of the training data. Costs are processor seconds of one thread, with the
training of the network that a way ends with:

- `none`, `all`: no search; no connection, and all 15 at gain 0.1;
- `gains 2`, `gains 4`: `strategy = gains`, which keeps so many connections;
- `paper`: the search of the file; `sifted`: the settings of `tiny_digits_rows_sifted.bcg`;
- `random, as gains`, `random, as paper`: random architectures of the paper's space, each trained on the search's part
  of the training data and compared on its validation part, for as long as the other way takes; at least one.

Every try is kept in a CSV file as soon as it is done; the same command resumes. `--summary` prints the table, and
`python -m benchmarks.placement.ways` writes those of the kept files into the page.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

from bcgraph import dsl, files, keys, pruning
from bcgraph.cli.output import table
from bcgraph.schema import EvolveSpec, NetworkSpec, SearchSpec
from bcgraph.search.space.search_space import space
from benchmarks.placement import records, rows
from benchmarks.placement.work import one_thread

SPEC = Path(__file__).parents[2] / "specs" / "tiny_digits_rows.bcg"
SIFTED = SPEC.with_stem(SPEC.stem + "_sifted")
SEEDS = 10


@dataclass(frozen=True, slots=True)
class Try:
    """One way from one seed.

    `accuracy` is that of the network at the end, on the test part; `kept` that of the weights which `strategy = gains`
    leaves without another training, empty for other ways. `search` and `training` are processor seconds.
    """

    way: str
    seed: int
    backward: str
    accuracy: float
    kept: str
    search: float
    training: float

    @property
    def cost(self) -> float:
        """Processor seconds of everything."""
        return self.search + self.training


@dataclass(frozen=True, slots=True)
class Found:
    """The network that a way ends with, and the accuracy of weights that it has already."""

    spec: NetworkSpec
    kept: float | None = None


Way: TypeAlias = Callable[[NetworkSpec, int, Path, float], Found]
"""From the network without connections, a seed, an empty folder, and the processor seconds that it may take."""


def _none(base: NetworkSpec, seed: int, folder: Path, budget: float) -> Found:
    return Found(base)


def _all(base: NetworkSpec, seed: int, folder: Path, budget: float) -> Found:
    return Found(pruning.quiet(base).with_backward(pruning.every(base)))


def _gains(keep: int) -> Way:
    def way(base: NetworkSpec, seed: int, folder: Path, budget: float) -> Found:
        from bcgraph import data, training
        from bcgraph.compiler import compile as compile_network
        from bcgraph.search import run
        from bcgraph.search.supernet.pruned_run import trained

        evolve = EvolveSpec(strategy="gains", keep=keep)
        result = run(_searched(base, base.search.model_copy(update={"evolve": evolve})), folder, seed=seed)
        model = compile_network(result.best)
        model.load_state_dict(trained(folder, result.spec, result.seed, result.best))
        test = data.load(base.data, base.input, base.steps).test
        return Found(result.best, training.evaluate(model, test, readout=base.readout))

    return way


def _paper(base: NetworkSpec, seed: int, folder: Path, budget: float) -> Found:
    from bcgraph.search import run

    return Found(run(base, folder, seed=seed).best)


def _sifted(base: NetworkSpec, seed: int, folder: Path, budget: float) -> Found:
    return _paper(_searched(base, dsl.load(SIFTED).search), seed, folder, budget)


def _random(base: NetworkSpec, seed: int, folder: Path, budget: float) -> Found:
    """Train random architectures until another one would not leave the time for a training of the best of them."""
    from bcgraph import data, training
    from bcgraph.search.supernet.devices import divided

    train, validation = divided(base, seed)
    splits = replace(data.load(base.data, base.input, base.steps), train=train, test=validation)
    choices = space(base, base.search.max_backward)
    began = time.process_time()
    best: tuple[float, NetworkSpec] | None = None
    number = 0
    while True:
        drawn = choices.architecture(keys.rng(seed, "ways", number).randrange(choices.size))
        spec = base.with_backward(drawn)
        found = training.train(spec, out=folder / str(number), seed=seed, splits=splits).accuracy
        best = (found, spec) if best is None or found > best[0] else best
        number += 1
        spent = time.process_time() - began
        # Another one, and the last training, take about as long as those before.
        if spent + 2 * spent / number > budget:
            return Found(best[1])


WAYS: Mapping[str, tuple[Way, str | None]] = {
    "none": (_none, None),
    "all": (_all, None),
    "gains 2": (_gains(2), None),
    "gains 4": (_gains(4), None),
    "random, as gains": (_random, "gains 4"),
    "paper": (_paper, None),
    "random, as paper": (_random, "paper"),
    "sifted": (_sifted, None),
}
"""Each way, and the one whose cost it may have."""


def _searched(base: NetworkSpec, search: SearchSpec) -> NetworkSpec:
    return NetworkSpec(**(dict(base.__dict__) | {"search": search}))


def attempt(text: str, way: str, seed: int, budget: float) -> Try:
    """Try one way, on one thread."""
    with one_thread():
        return _tried(text, way, seed, budget)


def _tried(text: str, way: str, seed: int, budget: float) -> Try:
    from bcgraph import training

    base = dsl.parse(text)
    # What is imported and read once belongs to no way.
    from bcgraph import artifacts, data  # noqa: F401

    data.load(base.data, base.input, base.steps)
    with tempfile.TemporaryDirectory() as folder:
        began = time.process_time()
        found = WAYS[way][0](base, seed, Path(folder) / "search", budget)
        searched = time.process_time()
        result = training.train(found.spec, out=Path(folder) / "train", seed=seed)
        ended = time.process_time()
    pairs = tuple((bc.source, bc.target) for bc in sorted(found.spec.backward))
    kept = "" if found.kept is None else repr(found.kept)
    spent = round(searched - began, 1), round(ended - searched, 1)
    return Try(way, seed, records.written(pairs), result.accuracy, kept, *spent)


def missing(done: Sequence[Try], seeds: int, ways: Sequence[str] = tuple(WAYS)) -> Iterator[tuple[str, int, float]]:
    """Way, seed and budget of what can be tried now, seed by seed; a way waits for the one whose cost it may have."""
    cost = {(each.way, each.seed): each.cost for each in done}
    for seed in range(seeds):
        for way in ways:
            _, like = WAYS[way]
            if (way, seed) not in cost and (like is None or (like, seed) in cost):
                yield way, seed, 0.0 if like is None else cost[like, seed]


def run(spec: Path, path: Path, ways: Sequence[str], *, workers: int, seeds: int) -> None:
    """Try what is missing in `path`."""
    text = dsl.format_spec(dsl.load(spec).with_backward(()))
    with files.locked(path.parent):
        done = list(rows.read(path, Try))
        print(f"{len(done)} done in {path}", flush=True)
        running: dict[Future[Try], tuple[str, int]] = {}
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(workers, mp_context=context) as pool:
            while True:
                for way, seed, budget in missing(done, seeds, ways):
                    if len(running) < workers and (way, seed) not in running.values():
                        running[pool.submit(attempt, text, way, seed, budget)] = way, seed
                if not running:
                    return
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    del running[future]
                    done.append(future.result())
                    rows.write(path, Try, done)


def common_seeds(tries: Sequence[Try]) -> list[int]:
    """The seeds that all tried ways have."""
    by: dict[str, set[int]] = {}
    for each in tries:
        by.setdefault(each.way, set()).add(each.seed)
    return sorted(set.intersection(*by.values())) if by else []


def rows_of(tries: Sequence[Try]) -> tuple[int, list[tuple[str, ...]]]:
    """The number of seeds that all tried ways have, and for each way means and deviation over these."""
    ways = [way for way in WAYS if any(t.way == way for t in tries)]
    seeds = common_seeds(tries)
    rows: list[tuple[str, ...]] = []
    for way in ways if seeds else ():
        own = [t for t in tries if t.way == way and t.seed in seeds]
        accuracy = [t.accuracy for t in own]
        kept = [float(t.kept) for t in own if t.kept]
        rows.append(
            (
                way,
                f"{statistics.mean(accuracy):.3f}",
                f"{statistics.stdev(accuracy):.3f}" if len(own) > 1 else "-",
                f"{min(accuracy):.3f}",
                f"{statistics.mean(kept):.3f}" if kept else "",
                f"{statistics.mean(t.search for t in own):.0f}",
                f"{statistics.mean(t.cost for t in own):.0f}",
            )
        )
    return len(seeds), rows


HEADER = ("way", "accuracy", "deviation", "lowest", "weights kept", "search, s", "with training, s")


def summary(tries: Sequence[Try]) -> str:
    """A table of what is done so far."""
    seeds, rows = rows_of(tries)
    return f"{seeds} seeds have all ways\n\n" + table(HEADER, rows, right=range(1, len(HEADER)))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.placement.gains", description="Ways to place feedback")
    parser.add_argument("--out", type=Path, default=Path("out/ways/digits_rows_ways.csv"), help="the CSV file")
    parser.add_argument("--spec", type=Path, default=SPEC, help="a file with a network and a search")
    parser.add_argument("--ways", nargs="+", choices=tuple(WAYS), default=tuple(WAYS), help="try these")
    parser.add_argument("--workers", type=int, default=2, help="processes, each on one thread")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="how many")
    parser.add_argument("--summary", action="store_true", help="only print the table so far")
    asked = parser.parse_args()
    try:
        if not asked.summary:
            asked.out.parent.mkdir(parents=True, exist_ok=True)
            run(asked.spec, asked.out, asked.ways, workers=asked.workers, seeds=asked.seeds)
        print(summary(rows.read(asked.out, Try)))
    except KeyboardInterrupt:
        sys.exit("interrupted; the same command resumes")


if __name__ == "__main__":
    main()

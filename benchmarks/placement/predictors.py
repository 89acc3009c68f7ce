"""`python -m benchmarks.placement.predictors`: how well the scores and the supernet rank what was trained in full.

For each seed all architectures of the table get an N-score, an E-score and the accuracy on a supernet's weights.
Printed are Kendall's correlations with the mean test accuracy of the table, 95 % intervals from resampled
architectures, and the true rank of the one that each predictor likes best.
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from scipy.stats import kendalltau

from bcgraph import dsl
from bcgraph.cli.output import table
from bcgraph.schema import EvolveSpec, InitSpec, NetworkSpec, SearchSpec, SupernetSpec
from bcgraph.search.operators.space import Space
from benchmarks.placement import records
from benchmarks.placement.__main__ import SPEC, known

TABLE = Path(__file__).with_name("digits_rows.csv")
RESAMPLED = 1000


def interval(predicted: Sequence[float], truth: Sequence[float], seed: int) -> tuple[float, float]:
    """The middle 95 % of Kendall's correlation over architectures drawn with replacement."""
    rng = random.Random(seed)
    found = []
    for _ in range(RESAMPLED):
        drawn = [rng.randrange(len(truth)) for _ in truth]
        found.append(float(kendalltau([predicted[i] for i in drawn], [truth[i] for i in drawn]).statistic))
    found.sort()
    return found[RESAMPLED // 40], found[-RESAMPLED // 40 - 1]


def predictions(spec: NetworkSpec, seed: int) -> Iterator[tuple[str, list[float]]]:
    """Each predictor's values for all architectures of the space, in its order."""
    from bcgraph.search.evaluators import Standard

    space = Space(len(spec.ports), spec.search.max_backward)
    specs = [spec.with_backward(space.architecture(index)) for index in range(space.size)]
    with tempfile.TemporaryDirectory() as folder:
        standard = Standard(spec, seed, Path(folder), inits=1, score_dtype="float32")
        scored = list(standard.init()(specs))
        yield "N-score", [one.value("n") for one in scored]
        yield "E-score", [one.value("e") for one in scored]
        yield "supernet", [one.value("accuracy") for one in standard.evolve(lambda _: None)(specs)]


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.placement.predictors", description=(__doc__ or "").split("\n\n")[0]
    )
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=20, help="of the supernet")
    parser.add_argument("--batch", type=int, default=100, help="samples that are scored")
    asked = parser.parse_args()
    search = SearchSpec(
        init=InitSpec(batch=asked.batch),
        supernet=SupernetSpec(epochs=asked.epochs),
        evolve=EvolveSpec(score="oneshot"),
    )
    spec = dsl.load(SPEC).with_backward(()).model_copy(update={"search": search})
    accuracies = records.by_architecture(known(spec, TABLE))
    space = Space(len(spec.ports), spec.search.max_backward)
    truth = [statistics.mean(accuracies[records.written(a)]) for a in space]
    best = sorted(range(space.size), key=lambda i: -truth[i])
    rows = []
    for seed in range(asked.seeds):
        for name, values in predictions(spec, seed):
            low, high = interval(values, truth, seed)
            first = max(range(space.size), key=lambda i: values[i])
            rank = best.index(first) + 1
            tau = float(kendalltau(values, truth).statistic)
            rows.append((name, seed, f"{tau:+.2f}", f"{low:+.2f} to {high:+.2f}", rank, f"{truth[first]:.3f}"))
    rows.sort()
    print(table(("predictor", "seed", "Kendall", "95 %", "rank of its best", "accuracy"), rows, right=(1, 2, 4, 5)))


if __name__ == "__main__":
    main()

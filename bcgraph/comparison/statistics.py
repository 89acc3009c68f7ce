"""Means over seeds, and how sure a difference is."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

SURE = 0.05
"""A difference whose p-value is below this is called one."""


@dataclass(frozen=True, slots=True)
class Summary:
    """`mean` and sample standard deviation of values over seeds; the deviation is None for fewer than two values."""

    count: int
    mean: float
    deviation: float | None

    @staticmethod
    def of(values: Sequence[float]) -> Summary:
        """The summary of one value or more."""
        spread = statistics.stdev(values) if len(values) > 1 else None
        return Summary(len(values), statistics.fmean(values), spread)

    def __str__(self) -> str:
        """`0.8125 +- 0.0123`, without a deviation where there is none."""
        return f"{self.mean:.4f}" + ("" if self.deviation is None else f" +- {self.deviation:.4f}")


@dataclass(frozen=True, slots=True)
class Difference:
    """The mean difference of two groups, its 95 % interval, and a two-sided p-value; None where these are undefined.

    `paired` says that values of the same seed were compared (Student's t-test of the differences); otherwise the
    groups count as independent (Welch's t-test). `pairs` is the number of seeds in common.
    """

    mean: float
    low: float | None
    high: float | None
    p: float | None
    paired: bool
    pairs: int

    @property
    def sure(self) -> bool:
        """Whether chance alone makes such a difference in fewer than 5 of 100 cases."""
        return self.p is not None and self.p < SURE


def difference(values: Mapping[int, float], base: Mapping[int, float]) -> Difference:
    """How much larger `values` are than `base`, both by seed; neither may be empty.

    Paired by the seeds that both have when those are two or more. Values that all differ by the same amount have no
    p-value, since a t-test knows nothing of them, unless that amount is 0, whose p-value is 1.
    """
    common = sorted(values.keys() & base.keys())
    if len(common) > 1:
        return _paired([values[seed] - base[seed] for seed in common])
    mean = statistics.fmean(values.values()) - statistics.fmean(base.values())
    if min(len(values), len(base)) < 2:
        return Difference(mean, None, None, None, paired=False, pairs=len(common))
    return _welch(list(values.values()), list(base.values()), len(common))


def partial_spearman(a: Sequence[float], b: Sequence[float], given: Sequence[float]) -> float | None:
    """Spearman's partial correlation of a and b given a third; None where one of the two does not vary beside it."""
    from scipy import stats

    ab, ag, bg = (float(stats.spearmanr(x, y).statistic) for x, y in ((a, b), (a, given), (b, given)))
    scale = (1 - ag**2) * (1 - bg**2)
    # Also where a correlation is not a number.
    return (ab - ag * bg) / math.sqrt(scale) if scale > 1e-12 else None


def _paired(differences: Sequence[float]) -> Difference:
    from scipy import stats

    count, mean = len(differences), statistics.fmean(differences)
    error = statistics.stdev(differences) / math.sqrt(count)
    # Differences of equal shares of correct samples are equal up to rounding.
    if error < 1e-12:
        p = 1.0 if abs(mean) < 1e-12 else None
        return Difference(mean, mean, mean, p, paired=True, pairs=count)
    reach = error * float(stats.t.ppf(0.975, count - 1))
    p_value = 2 * float(stats.t.sf(abs(mean) / error, count - 1))
    return Difference(mean, mean - reach, mean + reach, p_value, paired=True, pairs=count)


def _welch(values: Sequence[float], base: Sequence[float], common: int) -> Difference:
    from scipy import stats

    mean = statistics.fmean(values) - statistics.fmean(base)
    if statistics.variance(values) + statistics.variance(base) < 1e-24:
        p = 1.0 if abs(mean) < 1e-12 else None
        return Difference(mean, mean, mean, p, paired=False, pairs=common)
    found = stats.ttest_ind(values, base, equal_var=False)
    interval = found.confidence_interval(0.95)
    return Difference(mean, float(interval.low), float(interval.high), float(found.pvalue), paired=False, pairs=common)

"""What the runs with other gains say: `quiet.py`, and why (`why.py`)."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path

from scipy.stats import kendalltau

from bcgraph import dsl
from benchmarks.placement import deep, other_tables, predictors, quiet, records, rows, why
from benchmarks.placement.text import markdown, p_value

Key = tuple[float, str, int]


@cache
def runs() -> dict[Key, float]:
    """The accuracy of each run by gain, connections and seed."""
    return {run.key: run.accuracy for run in rows.read(quiet.TABLE, quiet.Run)}


def _accuracy(job: quiet.Job) -> float | None:
    return runs().get(quiet.key_of(job))


@cache
def _none() -> dict[int, float]:
    return {seed: value for (_, written, seed), value in runs().items() if written == "none"}


def gains() -> str:
    """Mean accuracy by what is connected and the gain, and against none, paired by seeds (and connections)."""
    found: dict[tuple[str, float], list[tuple[float, float]]] = {}
    for job in quiet.jobs(dsl.load(quiet.SPEC)):
        purpose, gain, pairs, seed = job
        value = _accuracy(job)
        if purpose in ("all", "random", "single") and pairs and value is not None and seed in _none():
            label = {"all": "all 15", "single": "1, each of 15"}.get(purpose, f"{len(pairs)} random")
            found.setdefault((label, gain), []).append((value, _none()[seed]))
    table = []
    for label in ("1, each of 15", "1 random", "2 random", "4 random", "8 random", "all 15"):
        cells = []
        for gain in quiet.GAINS:
            pairs = found.get((label, gain), [])
            cells.append(_cell(pairs))
        if any(cells):
            table.append((label, *cells))
    none = statistics.mean(_none().values())
    header = ("connections", *(f"gain {gain:g}" for gain in quiet.GAINS))
    return markdown(header, [*table, (f"none: {none:.3f}", *([""] * len(quiet.GAINS)))], right=range(1, 6))


def _cell(pairs: Sequence[tuple[float, float]]) -> str:
    if not pairs:
        return ""
    ahead = sum(value > none for value, none in pairs)
    return f"{statistics.mean(value for value, _ in pairs):.3f}, {ahead} of {len(pairs)}"


def by_gain() -> str:
    """All 121 architectures at gain 0.1 beside gain 1: the spread, the best, the worst, and what is below none."""
    loud = {
        predictors.pairs(key): values for key, values in records.by_architecture(records.read(records.TABLE)).items()
    }
    quiet_ones: dict[predictors.Pairs, list[float]] = {}
    for (gain, written, _), value in runs().items():
        if gain == quiet.TABLE_GAIN or written == "none":
            quiet_ones.setdefault(predictors.pairs(written), []).append(value)
    whole = [pairs for pairs in loud if pairs in quiet_ones]
    lines = []
    for label, found in (("1", loud), ("0.1", quiet_ones)):
        means = {pairs: statistics.mean(found[pairs]) for pairs in whole}
        some = [value for pairs, value in means.items() if pairs]
        below = sum(value < means[()] for value in some)
        cells = (means[()], min(some), statistics.median(some), max(some), statistics.stdev(some))
        lines.append((label, *(f"{cell:.3f}" for cell in cells), f"{below} of {len(some)}"))
    means = [[statistics.mean(found[pairs]) for pairs in whole] for found in (loud, quiet_ones)]
    same = kendalltau(*means).statistic
    kept = [(*lines[0], ""), (*lines[1], f"{same:+.2f}")]
    header = ("gain", "none", "worst", "median", "best", "deviation between placements", "below none", "Kendall")
    return markdown(header, kept, right=range(8))


@cache
def _cures() -> dict[tuple[str, str, int], float]:
    return {(c.cure, c.connections, c.seed): c.accuracy for c in rows.read(why.CURES, why.Cure)}


CONNECTIONS = ("4>0 4>1", "1>1 3>3", "8", "all")


def cures() -> str:
    """Mean accuracy of each way, with the p of a paired t-test against gain 0.1 of as many epochs."""
    lines = []
    for way in why.WAYS:
        if (way, "all", 0) not in _cures():
            continue
        rival = "gain 0.1, 48 epochs" if "48" in way else "gain 0.1"
        cells = []
        for name in CONNECTIONS:
            own = [_cures()[way, name, seed] for seed in range(why.SEEDS)]
            other = [_cures()[rival, name, seed] for seed in range(why.SEEDS)]
            text = f"{statistics.mean(own):.3f} ± {statistics.stdev(own):.3f}"
            if way != rival:
                text += f" ({p_value(own, other)})"
            cells.append(text)
        none = [_cures().get((way, "none", seed)) for seed in range(why.SEEDS)]
        known = [value for value in none if value is not None]
        lines.append((way, f"{statistics.mean(known):.3f}" if known else "", *cells))
    header = ("way", "none", "4->0, 4->1", "1->1, 3->3", "8 random", "all 15")
    return markdown(header, lines, right=range(1, 6))


def watched() -> str:
    """Firing, the variance of the current and the gradient by it at port 0, at the start and at the end."""
    looks = rows.read(why.WATCHED, why.Look)
    found: dict[tuple[str, float, int, int, int], list[why.Look]] = {}
    for look in looks:
        found.setdefault((look.connections, look.gain, look.epoch, look.port, look.step), []).append(look)
    lines = []
    for epoch in (why.EPOCHS[0], why.EPOCHS[-1]):
        for name in ("none", *CONNECTIONS):
            for gain in (1.0, quiet.TABLE_GAIN):
                first, last = (found.get((name, gain, epoch, 0, step)) for step in (0, 7))
                if first is None or last is None:
                    continue
                every = [
                    each for (n, g, e, _, _), some in found.items() if (n, g, e) == (name, gain, epoch) for each in some
                ]
                rate = statistics.mean(each.rate for each in every)
                variance = statistics.mean(each.variance for each in last)
                ends = [statistics.mean(each.gradient for each in some) for some in (first, last)]
                growth = math.log10(ends[0] / ends[1]) if min(ends) > 0 else math.nan
                label = name.replace(">", "->").replace(" ", ", ")
                gain_text = "" if name == "none" else f"{gain:g}"
                numbers = (f"{rate:.3f}", f"{variance:.2f}", f"{ends[0]:.1e}", f"{ends[1]:.1e}", f"{growth:+.1f}")
                lines.append((epoch, label, gain_text, *numbers))
    header = (
        "epochs",
        "connections",
        "gain",
        "firing, all ports",
        "variance of the current, port 0, last step",
        "gradient by it, first step",
        "last step",
        "first over last, powers of ten",
    )
    return markdown(header, lines, right=(0, *range(2, 8)))


def paired() -> str:
    """Gain 0.1 against 1 and against none: mean difference, and p of a paired t-test over seeds and connections."""
    lines = []
    for label, wanted in (("1, each of 15", "single"), ("8 random", "random"), ("all 15", "all")):
        pairs: list[tuple[float, float, float]] = []
        for job in quiet.jobs(dsl.load(quiet.SPEC)):
            purpose, gain, connections, seed = job
            if purpose != wanted or gain != quiet.TABLE_GAIN or (wanted == "random" and len(connections) != 8):
                continue
            values = [_accuracy((purpose, g, connections, seed)) for g in (gain, 1.0)]
            if values[0] is not None and values[1] is not None and seed in _none():
                pairs.append((values[0], values[1], _none()[seed]))
        if len(pairs) > 4:
            for name, place in (("gain 1", 1), ("none", 2)):
                differences = [each[0] - each[place] for each in pairs]
                p = p_value([each[0] for each in pairs], [each[place] for each in pairs])
                lines.append((label, name, f"{statistics.mean(differences):+.3f}", len(pairs), p))
    header = ("connections", "gain 0.1 against", "mean difference", "pairs", "paired t-test")
    return markdown(header, lines, right=(2, 3, 4))


ELSEWHERE: Mapping[str, tuple[str, Path]] = {
    "japanese_vowels": ("vowels", quiet.TABLE.with_name("japanese_vowels_gain.csv")),
    "fashion_rows": ("clothes", quiet.TABLE.with_name("fashion_rows_gain.csv")),
}
"""The runs at other gains on other data, and what the page calls these."""


def gains_elsewhere() -> str:
    """Mean accuracy at gain 0.1 and 1 on other data, and how many runs are above none with the same seed."""
    labels = ("1, each of 15", "1 random", "2 random", "4 random", "8 random", "all 15")
    columns: list[dict[str, str]] = []
    header = ["connections"]
    for name, (word, path) in ELSEWHERE.items():
        found = {run.key: run.accuracy for run in rows.read(path, quiet.Run)}
        # Single connections at gain 1 are those of the table of all architectures, of the same seeds.
        loud = records.read(other_tables.TABLES_OF[name][0])
        found = {(1.0, each.backward, each.seed): each.accuracy for each in loud} | found
        none = {seed: value for (_, written, seed), value in found.items() if written == "none"}
        spec = dsl.load(other_tables.TABLES_OF[name][1])
        for gain in (quiet.TABLE_GAIN, 1.0):
            cells: dict[str, list[tuple[float, float]]] = {}
            missing: set[str] = set()
            for job in quiet.jobs(spec, ("all", "random", "single"), (gain,), quiet.TABLE_SEEDS):
                purpose, _, pairs, seed = job
                value = found.get(quiet.key_of(job))
                label = {"all": labels[-1], "single": labels[0]}.get(purpose, f"{len(pairs)} random")
                if value is None:
                    missing.add(label)
                elif pairs:
                    cells.setdefault(label, []).append((value, none[seed]))
            columns.append({label: _cell(cells.get(label, [])) for label in labels if label not in missing})
            header.append(f"{word}, gain {gain:g}")
        columns[-2]["none"] = f"{statistics.mean(none.values()):.3f}"
    lines = [(label, *(column.get(label, "") for column in columns)) for label in ("none", *labels)]
    return markdown(header, lines, right=range(1, len(header)))


def deep_gains() -> str:
    """Mean accuracy of a deep network by what is connected and the first scale, and against none, paired by seeds."""
    found = rows.read(deep.TABLE, deep.Run)
    none = {run.seed: run.accuracy for run in found if run.connections == "none"}
    cells: dict[tuple[str, bool], dict[float, list[tuple[float, float]]]] = {}
    for run in found:
        if run.connections != "none":
            name = run.connections.partition(",")[0]
            by = cells.setdefault((name, run.divided), {})
            by.setdefault(run.gain, []).append((run.accuracy, none[run.seed]))
    lines = [("none", f"{statistics.mean(none.values()):.3f}", *([""] * (len(deep.GAINS) - 1)))]
    for (name, divided), by in sorted(cells.items(), key=lambda item: (item[0][0] == "all", item[0])):
        words = "all 153" if name == "all" else name.replace(">", "->").replace(" 16", ", 16")
        words += ", over root" if divided else ""
        lines.append((words, *(_cell(by.get(gain, [])) for gain in deep.GAINS)))
    header = ("connections", *(f"gain {gain:g}" for gain in deep.GAINS))
    return markdown(header, lines, right=range(1, len(header)))


TABLES: Mapping[str, Callable[[], str]] = {
    "gains in a deep network": deep_gains,
    "gains elsewhere": gains_elsewhere,
    "gains": gains,
    "gains, paired": paired,
    "all placements by gain": by_gain,
    "cures": cures,
    "watched": watched,
}

"""Nightly, `python -m tests.robustness.fuzz`: a million texts with random faults, through `parse` and `format`.

`--minutes 10` ends after so many minutes, `--processes 1` keeps to one core.

Each text is one of the files in `specs/` with words dropped, repeated, swapped or replaced, and now and then bytes. It
must give a specification that survives formatting, or diagnostics that point into it, within `--seconds` of processor
time. The figures are printed at the end; any other outcome prints the text and ends with 1. A text follows from its
number alone, so `--first` repeats one.
"""

from __future__ import annotations

import argparse
import collections
import math
import multiprocessing
import random
import resource
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from bcgraph import schema
from bcgraph.dsl.parser import grammar
from tests.dsl.test_fuzz import PIECES, check

SPECS = Path(__file__).parents[2] / "specs"
CHUNK = 100


@dataclass
class Figures:
    """What came of some texts."""

    texts: int = 0
    codes: collections.Counter[str] = field(default_factory=collections.Counter)
    slowest: tuple[float, int] = (0.0, 0)
    faults: list[tuple[int, str, str]] = field(default_factory=list)

    def add(self, other: Figures) -> None:
        self.texts += other.texts
        self.codes.update(other.codes)
        self.slowest = max(self.slowest, other.slowest)
        self.faults += other.faults


@cache
def sources() -> tuple[tuple[str, ...], ...]:
    """The words of each file in `specs/`, with the white space between them."""
    return tuple(tuple(_words(path.read_text(encoding="utf-8"))) for path in sorted(SPECS.rglob("*.bcg")))


def _words(text: str) -> Iterator[str]:
    end = 0
    for token in grammar().lex(text):
        assert token.start_pos is not None
        yield text[end : token.start_pos]
        yield str(token)
        end = token.start_pos + len(str(token))
    yield text[end:]


def text_of(number: int) -> str:
    """The text with a number."""
    rng = random.Random(number)
    # A fault is in some words and their neighbors, so a text counts by how short it is: more faults in the same time.
    words = list(rng.choices(sources(), [1 / len(some) for some in sources()])[0])
    for _ in range(rng.choice([1, 1, 2, 3, 8])):
        place = rng.randrange(len(words))
        match rng.randrange(6):
            case 0:
                del words[place]
            case 1:
                words.insert(place, rng.choice(PIECES))
            case 2:
                words[place] = rng.choice(PIECES)
            case 3:
                other = rng.randrange(len(words))
                words[place], words[other] = words[other], words[place]
            case 4:
                words[place : place + 5] *= rng.randrange(2, 40)
            case _:
                words[place] = "".join(chr(rng.randrange(1, 0x2FF)) for _ in range(rng.randrange(1, 9)))
    return "".join(words)


def chunk(numbers: range) -> Figures:
    """Texts of consecutive numbers."""
    found = Figures()
    for number in numbers:
        found.texts += 1
        text = text_of(number)
        started = time.process_time()
        try:
            result = check(text)
            found.codes["fine" if isinstance(result, schema.NetworkSpec) else result[0].code] += 1
        except BaseException as error:
            found.faults.append((number, f"{type(error).__name__}: {error}", text))
        found.slowest = max(found.slowest, (time.process_time() - started, number))
    return found


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--texts", type=int, default=1_000_000)
    options.add_argument("--first", type=int, default=0)
    options.add_argument("--processes", type=int, default=multiprocessing.cpu_count())
    options.add_argument("--seconds", type=float, default=20.0)
    options.add_argument("--minutes", type=float, default=math.inf)
    asked = options.parse_args()
    last = asked.first + asked.texts
    chunks = [range(n, min(n + CHUNK, last)) for n in range(asked.first, last, CHUNK)]
    total, started = Figures(), time.monotonic()
    with multiprocessing.Pool(asked.processes) as pool:
        for found in pool.imap_unordered(chunk, chunks):
            total.add(found)
            if time.monotonic() - started > 60 * asked.minutes:
                break
        pool.terminate()
        pool.join()
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(f"{total.texts:,} texts from {asked.first:,} in {time.monotonic() - started:,.0f} s")
    print(f"{1000 * (used.ru_utime + used.ru_stime) / max(1, total.texts):.1f} ms of processor time each")
    memory = used.ru_maxrss / 1024
    print(f"slowest: text {total.slowest[1]}, {total.slowest[0]:.2f} s of processor time, memory {memory:.0f} MiB")
    for code, count in sorted(total.codes.items()):
        print(f"{code:>6} {count:>10,}")
    for number, what, text in total.faults[:5]:
        print(f"text {number}: {what}\n{text}\n", file=sys.stderr)
    slow = total.slowest[0] > asked.seconds
    print(f"{len(total.faults)} faults{', and one text too slow' if slow else ''}")
    return int(bool(total.faults) or slow)


if __name__ == "__main__":
    sys.exit(main())

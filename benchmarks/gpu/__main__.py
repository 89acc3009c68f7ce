"""`python -m benchmarks.gpu [--dry] [--resume] [--seconds N] [--page FILE] [--table FILE]`."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.gpu import measure, page
from benchmarks.gpu.plan import DRY, Plan


def main(arguments: list[str] | None = None) -> int:
    """Returns 1 where a part has failed or was dropped in a dry run, or where there is no GPU."""
    parser = argparse.ArgumentParser(description="Measure on a GPU, and write the tables of docs/gpu.md.")
    parser.add_argument("--dry", action="store_true", help="go through everything on the CPU, with a small network")
    parser.add_argument("--resume", action="store_true", help="measure only what the table lacks")
    parser.add_argument("--seconds", type=float, help="what all parts may take together")
    parser.add_argument("--page", type=Path, help="the page to write into [default: docs/gpu.md; needed with --dry]")
    parser.add_argument("--table", type=Path, help="the table to write [default: benchmarks/gpu.csv, or beside --page]")
    given = parser.parse_args(arguments)
    if given.dry and given.page is None:
        parser.error("--dry needs a --page of its own: its figures mean nothing")
    if not given.dry and not torch.cuda.is_available():
        print("this machine has no GPU; --dry goes through everything on the CPU", file=sys.stderr)
        return 1
    plan = DRY if given.dry else Plan()
    plan = plan if given.seconds is None else replace(plan, seconds=given.seconds)
    where = given.page or page.PAGE
    table = given.table or (page.TABLE if given.page is None else where.with_suffix(".csv"))
    try:
        _, dropped = measure(plan, where, table, resume=given.resume)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    return 1 if given.dry and dropped else 0


if __name__ == "__main__":
    sys.exit(main())

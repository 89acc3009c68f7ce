"""Commands that need no torch must not pay for it."""

from __future__ import annotations

import subprocess
import sys

from benchmarks.harness import Row, best_of_each

SPEC = "specs/tiny_digits_rows.bcg"


def run() -> list[Row]:
    def call(*arguments: str) -> None:
        subprocess.run([sys.executable, *arguments], check=True, capture_output=True)

    commands = {"check": ["check", SPEC], "fmt --check": ["fmt", "--check", SPEC], "show": ["show", SPEC]}
    torch, *ours = best_of_each(
        lambda: call("-c", "import torch"), *(lambda c=c: call("-m", "bcgraph", *c) for c in commands.values())
    )
    return [
        Row(f"bcgraph {name}", f"{seconds:.3f} s", f"{torch:.3f} s", f"{seconds / torch:.2f}", "<= 0.5")
        for name, seconds in zip(commands, ours, strict=True)
    ]

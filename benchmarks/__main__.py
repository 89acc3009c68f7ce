"""`python -m benchmarks [NAME...]`: run all benchmarks, or those named, and print a table of each."""

from __future__ import annotations

import sys
from importlib import import_module

from benchmarks.harness import machine, show

# Module -> what it measures. Each has `run() -> list[Row]`.
BENCHMARKS = {
    "start": "bcgraph check against importing torch",
    "operators": "search operators, in specifications per second",
    "compiling": "compile beyond weight initialization",
    "inference": "ResNet-18, 3x32x32, T = 4, batch 32, two backward connections",
    "deployment": "exported files in onnxruntime against torch eager, the same network",
    "scaling": "the same by steps, by connections and by their distance",
    "training": "one training step of the same, batch 32: time, and memory above the idle model",
    "recurrent": "small nets with feedback, one thread: against a plain loop and its peers",
    "many_connections": "ResNet-18, T = 4, batch 4: none, all 153 backward connections, and these one by one",
    "accuracy": "digits and their rows trained, against a plain PyTorch script, 5 seeds; of accuracies the difference",
    "memory": "a forward pass of the same, by the number of steps: memory above the idle model",
    "scoring": "one candidate, ResNet-18, T = 4, batch 64, on from a trace against a fresh model",
    "workers": "scoring throughput of two workers of one thread against one",
    "supernet": "candidates on a supernet, ResNet-18, T = 4, together against one by one",
    "gpu": "inference, training, scoring and supernet of the same on a GPU",
}


def main(names: list[str]) -> None:
    unknown = [name for name in names if name not in BENCHMARKS]
    if unknown:
        sys.exit(f"unknown: {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}")
    print(machine())
    for name in names or BENCHMARKS:
        print(f"\n{name}: {BENCHMARKS[name]}")
        print(show(import_module(f"benchmarks.{name}").run()))


if __name__ == "__main__":
    main(sys.argv[1:])

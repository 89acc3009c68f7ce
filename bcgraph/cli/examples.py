"""Examples of every command, as its `--help` shows them."""

from __future__ import annotations

from collections.abc import Mapping

EXAMPLES: Mapping[str, tuple[str, ...]] = {
    "new": (
        "bcgraph new net.bcg",
        "bcgraph new net.bcg --data cifar10 --backbone resnet18",
    ),
    "demo": ("bcgraph demo", "bcgraph demo --out demo --epochs 4"),
    "check": ("bcgraph check net.bcg", "bcgraph check --json *.bcg"),
    "fmt": ("bcgraph fmt net.bcg", "bcgraph fmt --check *.bcg"),
    "show": (
        "bcgraph show net.bcg",
        "bcgraph show --graph net.bcg",
        "bcgraph show net.bcg --set steps=6",
        "bcgraph show net.onnx > net.bcg",
    ),
    "schema": ("bcgraph schema > schema.json",),
    "import": (
        "bcgraph import module.py:build --example 1x3x32x32 --out net.bcg",
        "bcgraph import net.nir --out net.bcg --steps 10",
    ),
    "compile": (
        "bcgraph compile net.bcg -o net.onnx",
        "bcgraph compile run -o net.onnx --form step",
        "bcgraph compile run -o net.onnx --card --license apache-2.0",
        "bcgraph compile run -o net.nir",
        "bcgraph compile run -o net.c --int8",
    ),
    "score": ("bcgraph score net.bcg", "bcgraph score net.bcg --audit --candidates 50"),
    "search": (
        "bcgraph search net.bcg --out found",
        "bcgraph search net.bcg --out found --workers 4",
        "bcgraph search net.bcg --out found --set search.evolve.strategy=gains",
    ),
    "train": (
        "bcgraph train net.bcg --out run",
        "bcgraph train net.bcg --out run --accelerator cuda",
        "bcgraph train found --out trained --seed 1",
    ),
    "eval": ("bcgraph eval run", "bcgraph eval net.bcg --weights net.safetensors"),
    "run": (
        "bcgraph run net.onnx --data digits",
        "bcgraph run net.onnx --images photos",
        "bcgraph run net.onnx --stream < frames.txt",
    ),
    "profile": ("bcgraph profile net.bcg", "bcgraph profile run --picture costs.svg"),
    "draw": ("bcgraph draw net.bcg -o net.svg", "bcgraph draw found -o found.png"),
    "report": ("bcgraph report found", "bcgraph report found --json", "bcgraph report run --out curves.svg"),
    "compare": (
        "bcgraph compare run-1 run-2",
        "bcgraph compare runs --out runs.svg",
        "bcgraph compare found-1 found-2 --pooled pooled.svg",
    ),
    "view": ("bcgraph view net.bcg", "bcgraph view found"),
    "lsp": ("bcgraph lsp",),
    "data": ("bcgraph data", "bcgraph data cifar10 --root ~/data"),
    "explain": ("bcgraph explain E061", "bcgraph explain"),
    "plugins": ("bcgraph plugins", "bcgraph plugins --json"),
}
"""Command lines, by the name of their command."""

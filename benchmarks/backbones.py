"""`python -m benchmarks.backbones PAGE`: train each backbone for an epoch on real data, search it, export and run it.

The networks are narrow, so that all of it takes minutes: what is shown is that every part works on every backbone, not
what it can reach. Each row is kept in `backbones.csv` beside the page's table as soon as it is done; the same command
goes on with what is missing. Fashion-MNIST and JapaneseVowels have to be there (`docs/training.md` says how).
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import bcgraph
from bcgraph import data, files, runtime, training, weights
from bcgraph.errors import BcgraphError
from bcgraph.schema import NetworkSpec
from bcgraph.search import driver
from benchmarks.placement import rows

TABLE = Path(__file__).with_name("backbones.csv")
_MARKED = re.compile(r"<!-- backbones that were trained -->\n.*?<!-- end -->\n", re.DOTALL)

# The two steps differ much where a network is deep, so that each has norm statistics of its own: with shared ones the
# networks learn as well, and are at chance in evaluation after so few updates.
CLOTHES = (
    "input = image(1, 32, 32); steps = 2; norm = bn(statistics=per_step)",
    "fashion_mnist(size=32, batch=25, train=4000, test=1000)",
)
VOWELS = "input = sequence(12); steps = 25; readout = last", "japanese_vowels(batch=30)"
SPEECH = "input = signal(12, 25); steps = 4", "japanese_vowels(batch=30)"

NETWORKS: dict[str, tuple[tuple[str, str], str]] = {
    "sew_resnet18": (CLOTHES, "width=4"),
    "sew_resnet34": (CLOTHES, "width=4"),
    "sew_resnet50": (CLOTHES, "width=4"),
    "ms_resnet18": (CLOTHES, "width=4"),
    "ms_resnet34": (CLOTHES, "width=4"),
    "vgg9": (CLOTHES, "width=4"),
    "vgg11": (CLOTHES, "width=4, hidden=32, norm=true"),
    "vgg16": (CLOTHES, "width=4, hidden=32, norm=true"),
    "mobilenet_v2": (CLOTHES, "width=8"),
    "spikformer": (CLOTHES, "width=16, depth=1, heads=2"),
    "sdt": (CLOTHES, "width=16, depth=1"),
    "rsnn": (VOWELS, "width=32, classes=9, norm=true"),
    "conv1d": (SPEECH, "width=16, classes=9"),
}


@dataclass(frozen=True, slots=True)
class Row:
    """What came of one backbone."""

    backbone: str
    data: str
    ports: int
    trained: float
    evaluations: int
    found: str
    searched: float
    changed: float
    exported: float
    seconds: float


def spec_of(name: str) -> NetworkSpec:
    """The narrow network of a backbone with its data, an epoch of training and a small search."""
    (given, source), arguments = NETWORKS[name]
    return bcgraph.parse(
        f"""bcg 1
network narrow_{name} {{ {given}; backbone = {name}({arguments}) }}
data = {source}
search {{
  max_backward = 1
  init {{ pool = 4; keep = 2; scores = [n, e]; batch = 36 }}
  supernet {{ epochs = 1 }}
  evolve {{ iterations = 1; top = 2; population = 2; offspring = 1 }}
}}
train {{ epochs = 1; optimizer = adamw(lr=0.005) }}
"""
    )


def measure(name: str, seed: int = 0) -> Row:
    """Train, search, export and run one backbone."""
    started = time.perf_counter()
    spec = spec_of(name)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        trained = training.train(spec, out=place / "trained", seed=seed)
        searched = driver.run(spec, place / "searched", seed=seed)
        splits = data.load(spec.data, spec.input, spec.steps)
        report = bcgraph.export(spec, place / "net.onnx", state_dict=weights.load(trained.path))
        x, y = splits.test.take(range(len(splits.test)))
        chosen, _ = runtime.predictions(runtime.Network(report.path), x.numpy(), batch=50)
    accuracy = searched.chosen.evaluation.accuracy
    return Row(
        backbone=name,
        data=spec.data.name,
        ports=len(spec.ports),
        trained=trained.accuracy,
        evaluations=len(searched.records),
        found=" ".join(f"@{c.source}->@{c.target}" for c in searched.best.backward) or "none",
        searched=0.0 if accuracy is None else accuracy,
        changed=0.0 if report.proof is None else report.proof.differing_samples,
        exported=float((chosen == y.numpy()).mean()),
        seconds=round(time.perf_counter() - started, 1),
    )


def table(found: tuple[Row, ...]) -> str:
    """The rows as Markdown, in the order of `NETWORKS`."""
    lines = [
        "| backbone | arguments | data | ports | after an epoch | in onnxruntime | search: evaluations, best |",
        "|---|---|---|--:|--:|--:|---|",
    ]
    for row in sorted(found, key=lambda row: list(NETWORKS).index(row.backbone)):
        lines.append(
            f"| `{row.backbone}` | `{NETWORKS[row.backbone][1]}` | `{row.data}` | {row.ports} | {row.trained:.3f} "
            f"| {row.exported:.3f} | {row.evaluations}, {row.found} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.backbones", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("page", type=Path, nargs="?", help="the page whose table is filled")
    parser.add_argument("--out", type=Path, default=TABLE, help="the CSV file of what is done")
    parser.add_argument("--only", nargs="*", default=list(NETWORKS), help="backbones to measure")
    asked = parser.parse_args()
    try:
        for name in asked.only:
            done = rows.read(asked.out, Row)
            if name not in {row.backbone for row in done}:
                rows.write(asked.out, Row, (*done, row := measure(name)))
                print(f"{name}: {row.trained:.3f} after an epoch, {row.exported:.3f} in onnxruntime", flush=True)
    except BcgraphError as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit("interrupted; the same command goes on")
    made = table(rows.read(asked.out, Row))
    print(made)
    if asked.page is not None:
        block = f"<!-- backbones that were trained -->\n\n{made}\n\n<!-- end -->\n"
        files.write_text(asked.page, _MARKED.sub(lambda _: block, asked.page.read_text(encoding="utf-8")))


if __name__ == "__main__":
    main()

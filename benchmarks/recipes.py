"""`python -m benchmarks.recipes > docs/recipes.md`: what each recipe stands for, and what it would take to run it.

Everything here is counted from the specifications; nothing is measured.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from bcgraph import dsl, schema, shapes
from bcgraph.profile import profile
from bcgraph.schema import NetworkSpec
from bcgraph.search.space.search_space import space_size

FOLDER = Path(__file__).parents[1] / "specs" / "recipes"

# Samples for training, and for the test.
SAMPLES = {
    "cifar10": (50_000, 10_000),
    "cifar100": (50_000, 10_000),
    "tiny_imagenet": (100_000, 10_000),
    "cifar10dvs": (9_000, 1_000),
}
# A search trains on this share of the training samples, and validates on the rest.
TRAIN_SHARE = 0.8

FLOPS = 10e12
"""Floating-point operations a second that a graphics card is assumed to get done."""

# Weight, gradient, and two moments of AdamW, in float32.
BYTES_A_PARAMETER = 16

# Bytes that a training step keeps of each value behind a layer: a spike is a bit beside its membrane.
KEPT: dict[type, float] = {schema.Conv: 4, schema.Linear: 4, schema.NeuronLayer: 4 + 1 / 8}


@dataclass(frozen=True)
class Stands:
    """Accuracies that the paper reports for a recipe, in percent, and in which tables."""

    tables: str
    alone: str
    searched: str = ""
    mean: str = ""


PAPER = {
    "cifar10_resnet18_t4": Stands("1, 3", "94.01", "94.58", "94.49 ± 0.08"),
    "cifar10_resnet18_t6": Stands("1, 3", "94.51", "95.04", "94.91 ± 0.09"),
    "cifar10_resnet19_t4": Stands("1, 3", "94.88", "95.18", "95.27 ± 0.08"),
    "cifar10_resnet19_t6": Stands("1, 3", "95.48", "95.73", "95.67 ± 0.04"),
    "cifar100_plain18_t4": Stands("3", "71.39", "73.33"),
    "cifar100_plain18_t6": Stands("3", "73.86", "74.79"),
    "cifar100_resnet18_t4": Stands("1, 3", "73.38", "74.97", "74.85 ± 0.12"),
    "cifar100_resnet18_t6": Stands("1, 3", "74.71", "75.72", "75.48 ± 0.24"),
    "cifar100_resnet19_t4": Stands("1, 3", "75.24", "77.18", "77.12 ± 0.11"),
    "cifar100_resnet19_t6": Stands("1, 3", "76.02", "78.84", "78.59 ± 0.25"),
    "cifar10dvs_resnet18_t10": Stands("2", "82.40 ± 0.14", mean="82.60 ± 0.13"),
    "tiny_imagenet_resnet18_t5": Stands("1", "", mean="63.43 ± 0.07"),
}

INTRODUCTION = """\
# Recipes

To run an experiment of [the paper](https://openreview.net/forum?id=fIKRJeLH7W) (BCNAS-SNN), take its file in
`specs/recipes`:

<!-- not run: it takes days on a GPU -->

```console
$ bcgraph search specs/recipes/cifar10_resnet18_t4.bcg --out search --score-dtype float64
$ bcgraph train search/best.bcg --out searched                          # the network with the connections found
$ bcgraph train specs/recipes/cifar10_resnet18_t4.bcg --out alone       # the network without any, to compare
```

The files are the rows of the paper's Tables 1 to 3 about its own networks: data set, backbone and number of steps, with
its settings of search and training (section 5.1 and Appendix B). Those in `specs/ablation` are the rows of its Table 4;
with `--set steps=6` they are its second column.

**None of them has been run at scale.** The tests read and compile each recipe at its full size and take two training
steps on small batches of noise in the true shape. The accuracies below are those that the paper reports, to compare
yours with.

In networks of this depth the E-score is rounding noise in float32, the default of `bcgraph search`: use
`--score-dtype float64`. The audit in the report of a search shows how reproducible a score is;
`--set search.init.scores=[n]` leaves the other one out.

This page is made by `python -m benchmarks.recipes`.
"""

CHOICES = """\
## What the paper leaves open

- The paper does not give the batch size: it is 128 here.
- The loss is that of temporal efficient training, without its mean-squared term. The prediction is by the mean output
  over the steps.
- For Tiny-ImageNet the paper names the CIFAR augmentation only; here images are padded by 8 pixels and cropped back to
  64x64. The stem for small images is used on 64x64 as on 32x32.
- The paper's 9:1 split of CIFAR10-DVS is not published: ours is a fixed list. Its frames hold equal numbers of events,
  and training flips them and shifts them by up to 5 pixels.
- The row of ResNet-18 without residual connections in Table 3 is read as CIFAR-100: its accuracies are in that range,
  and the paper shows connections found for that network on CIFAR-100 only.
"""


def page() -> str:
    """The whole of `docs/recipes.md`."""
    parts = (
        INTRODUCTION,
        "## What the paper reports\n",
        _accuracies(),
        "## What a run needs\n",
        _method(),
        _needs(),
        CHOICES,
    )
    return "\n".join(parts)


def load() -> dict[str, NetworkSpec]:
    """All recipes by name."""
    return {path.stem: dsl.load(path) for path in sorted(FOLDER.glob("*.bcg"))}


def training_operations(spec: NetworkSpec) -> float:
    """Floating-point operations of the training that `spec` describes."""
    samples, test = SAMPLES[spec.data.name]
    forward = 2 * profile(spec).operations * spec.steps
    return float(forward * spec.train.epochs * (3 * samples + test))


def search_operations(spec: NetworkSpec) -> float:
    """Floating-point operations of its search: the supernet's training, its evaluations, the scores of step one."""
    samples = SAMPLES[spec.data.name][0]
    forward = 2 * profile(spec).operations * spec.steps
    search = spec.search
    supernet = 3 * TRAIN_SHARE * samples * search.supernet.epochs
    evaluations = search.init.keep + search.evolve.iterations * search.evolve.population
    validating = (1 - TRAIN_SHARE) * samples * evaluations
    assert isinstance(search.init.pool, int)
    # The E-score needs the gradient of the input, but of no weight.
    scoring = 2 * search.init.pool * search.init.batch
    return forward * (supernet + validating + scoring)


def kept(spec: NetworkSpec) -> float:
    """Bytes of a training step in float32, schedule `unrolled`, that are kept for the gradient.

    They are, of each step and sample, the output of each convolution and linear layer, and of each LIF layer its
    membrane and, as bits, its spikes.
    """
    form = spec.input
    walked = shapes.walk(spec.backbone.body, form.shape)
    values = sum(KEPT.get(type(node), 0) * math.prod(shapes.infer(node, shape)) for node, shape in walked)
    return values * spec.steps * spec.data.batch


def memory(spec: NetworkSpec) -> float:
    """What is kept for the gradient, and the weights with what belongs to them, in bytes."""
    return kept(spec) + BYTES_A_PARAMETER * profile(spec).parameters


def _accuracies() -> str:
    header = ["recipe", "tables", "without connections", "searched (Table 3)", "searched, mean of 3 runs (Tables 1, 2)"]
    rows = [
        [f"`{name}`", row.tables, row.alone or "-", row.searched or "-", row.mean or "-"] for name, row in PAPER.items()
    ]
    return _table(header, rows, "llrrr")


def _method() -> str:
    return f"""\
These figures are counted, not measured, for the network without connections. Two connections add less than 2 % to its
operations.

- Memory is that of one training step in float32 with the batch of the recipe: {BYTES_A_PARAMETER} bytes per parameter
  (weight, gradient, the two moments of AdamW). For each step and sample, the outputs of convolutions and linear layers
  and the membranes of neurons take 4 bytes per value, and spikes one bit. Temporary values and the framework come on
  top. `accumulate` in `train` divides all but the bytes of the parameters.
- Hours assume one GPU with {FLOPS / 1e12:g} TFLOP/s. A multiply-accumulate counts as two operations; a training step
  takes three forward passes, an evaluation one. A search consists of the supernet, all evaluations with its weights,
  and the scores of the first population.
- `architectures` is the size of the search space.
"""


def _needs() -> str:
    header = ["recipe", "parameters", "T", "GMAC/step", "memory", "updates", "training", "search", "architectures"]
    rows = []
    for name, spec in load().items():
        found = profile(spec)
        updates = spec.train.epochs * math.ceil(SAMPLES[spec.data.name][0] / spec.data.batch)
        operations = training_operations(spec), search_operations(spec)
        rows.append(
            [
                f"`{name}`",
                f"{found.parameters:,}",
                str(spec.steps),
                f"{found.operations / 1e9:.4f}",
                f"{memory(spec) / 2**30:.1f} GiB",
                f"{updates:,}",
                *(f"{count / FLOPS / 3600:.1f} h" for count in operations),
                f"{space_size(spec, max_backward=spec.search.max_backward):,}",
            ]
        )
    return _table(header, rows, "lrrrrrrrr")


def _table(header: list[str], rows: list[list[str]], sides: str) -> str:
    marks = [{"l": "---", "r": "---:"}[side] for side in sides]
    return "".join(f"| {' | '.join(row)} |\n" for row in (header, marks, *rows))


if __name__ == "__main__":
    print(page(), end="")

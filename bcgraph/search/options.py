"""Settings of a search that are not part of a specification."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bcgraph import pruning
from bcgraph.errors import SearchError, nearest
from bcgraph.schema import NetworkSpec
from bcgraph.urls import shown

if TYPE_CHECKING:
    from bcgraph import training
    from bcgraph.nn.graphs.graphed import Graphs
    from bcgraph.training.options import Precision

ACCURACY = ("float32", "int16")
"""Types for computing accuracies; with `int16` weights are rounded to 16 bits where they meet spikes."""

PRECISIONS = ("32", "bf16-mixed")
"""Precisions of the training runs of a search."""

LATER = {
    "accuracy_dtype": "float32",
    "devices": 1,
    "accelerator": "cpu",
    "evaluated_on": "cpu",
    "at_once": 1,
    "precision": "32",
}
"""Later settings and their values before they existed. An identity omits these values, so that older runs resume."""


@dataclass(frozen=True)
class Options:
    """Settings of a run that are not part of its specification.

    Scores are means over `inits` initializations. Scored networks compute in `score_dtype`, networks on the supernet in
    `accuracy_dtype` (one of `ACCURACY`). `storage` is an Optuna storage URL; without one the run has its own file.
    `workers` processes evaluate, on the Ray cluster at `ray` or on this machine; with both None this process does. The
    number of workers does not belong to a run's identity. `threads` is the number of threads of each evaluation, on
    which float32 values depend: by default 1 with workers and torch's own number without. `devices` processes train the
    supernet on devices of the kind `accelerator` (`cpu`, `cuda`, `mps`, `auto`): of this machine, or with `ray` of all
    machines of the cluster. With `cuda` and no workers, the first of these devices also evaluates. `graphs` is that of
    `training.Options`, for the training runs of a search on it. Up to `at_once` candidates are evaluated in
    one pass; None is 1 on the CPU, and on a GPU what its free memory takes when the run begins. `precision` is that of
    all training runs of the search, the supernet's among them: one of `PRECISIONS`.
    """

    inits: int = 1
    score_dtype: str = "float32"
    accuracy_dtype: str = "float32"
    storage: str | None = None
    workers: int | None = None
    ray: str | None = None
    threads: int | None = None
    devices: int = 1
    accelerator: str = "cpu"
    graphs: Graphs = "auto"
    at_once: int | None = None
    precision: Precision = "32"

    def __post_init__(self) -> None:
        if self.accuracy_dtype not in ACCURACY:
            hint = nearest(self.accuracy_dtype, ACCURACY) or f"one of {', '.join(ACCURACY)}"
            raise SearchError("E089", f"accuracies cannot be computed in `{self.accuracy_dtype}`", hint=hint)
        if self.precision not in PRECISIONS:
            hint = nearest(self.precision, PRECISIONS) or f"one of {', '.join(PRECISIONS)}"
            raise SearchError("E089", f"a search cannot train in the precision `{self.precision}`", hint=hint)
        for name, value in (
            ("--workers", self.workers),
            ("--threads", self.threads),
            ("--devices", self.devices),
            ("--candidates-at-once", self.at_once),
        ):
            if value is not None and value < 1:
                raise SearchError("E089", f"{name} {value}: there must be at least one")
        if self.distributed and (self.at_once or 1) > 1:
            raise SearchError(
                "E089",
                f"--candidates-at-once {self.at_once}, but workers evaluate their candidates one by one",
                hint="leave it out, or --workers",
            )

    def check(self, spec: NetworkSpec) -> None:
        """Raise SearchError (E089) when they contradict `spec`."""
        times = spec.search.supernet.recalibrate
        if times and self.accuracy_dtype != "float32":
            raise SearchError(
                "E089",
                f"supernet.recalibrate = {times}, but `{self.accuracy_dtype}` takes the norms as the supernet has them",
                hint="recalibrate = 0, or --accuracy-dtype float32",
            )

        if self.graphs == "on" and self.device != "cuda":
            raise SearchError("E089", "--graphs on: candidates are trained on the CPU", hint="--accelerator cuda")
        if pruning.one_run(spec.search.evolve.strategy):
            self._check_one_run(spec.search.evolve.strategy)

    def _check_one_run(self, strategy: str) -> None:
        """Raise SearchError (E089) for options that a search in one training run has no use for."""
        wrong = {
            "--workers": self.workers is not None,
            "--ray": self.ray is not None,
            "--devices": self.devices > 1,
            "--accuracy-dtype": self.accuracy_dtype != "float32",
        }
        given = [name for name, found in wrong.items() if found]
        if given:
            raise SearchError(
                "E089",
                f"`strategy = {strategy}` is one training run in one process, which has no use for {given[0]}",
                hint=f"leave {' and '.join(given)} out",
            )

    @property
    def distributed(self) -> bool:
        """Whether worker processes evaluate."""
        return self.workers is not None or self.ray is not None

    @property
    def evaluation_threads(self) -> int | None:
        """The number of threads of an evaluation; None for torch's own number."""
        return 1 if self.threads is None and self.distributed else self.threads

    @property
    def device(self) -> str:
        """Where candidates are evaluated. The scores need float64, which `mps` lacks; workers use CPUs."""
        return "cuda" if self.accelerator == "cuda" and not self.distributed else "cpu"

    @property
    def machine(self) -> training.Options:
        """The devices that train the supernet. Raises RunError (E041) for an unknown accelerator."""
        from bcgraph import training

        graphs = "auto" if self.accelerator == "cpu" else self.graphs
        return training.Options(self.accelerator, self.devices, self.precision, graphs)

    def as_data(self) -> dict[str, Any]:
        """The options that belong to a run's identity, as plain data."""
        own = {
            "inits": self.inits,
            "score_dtype": self.score_dtype,
            "accuracy_dtype": self.accuracy_dtype,
            "threads": self.evaluation_threads,
            "devices": self.devices,
            "accelerator": self.accelerator,
            "evaluated_on": self.device,
            "at_once": self.at_once or 1,
            "precision": self.precision,
            "storage": None if self.storage is None else shown(self.storage),
        }
        return {name: value for name, value in own.items() if name not in LATER or value != LATER[name]}

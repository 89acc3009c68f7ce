"""Settings of a search that no specification holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bcgraph.errors import SearchError, nearest
from bcgraph.schema import NetworkSpec
from bcgraph.urls import without_password

ACCURACY = ("float32", "int16")
"""What accuracies may be computed in; with `int16` weights are rounded to 16 bits where they meet spikes."""


@dataclass(frozen=True)
class Options:
    """Settings of a run that no specification holds.

    `inits` initializations are averaged by the scores; `score_dtype` is what scored networks compute in,
    `accuracy_dtype` those on the supernet (one of `ACCURACY`); `storage` is an Optuna storage URL in place of the
    run's own file. `workers` processes evaluate, on the Ray cluster at `ray` or on this machine (both None: this
    process does); how many is no part of a run's identity. `threads` are those of each evaluation, which float32
    values depend on: 1 with workers, torch's own number without, unless given.
    """

    inits: int = 1
    score_dtype: str = "float32"
    accuracy_dtype: str = "float32"
    storage: str | None = None
    workers: int | None = None
    ray: str | None = None
    threads: int | None = None

    def __post_init__(self) -> None:
        if self.accuracy_dtype not in ACCURACY:
            hint = nearest(self.accuracy_dtype, ACCURACY) or f"one of {', '.join(ACCURACY)}"
            raise SearchError("E089", f"accuracies cannot be computed in `{self.accuracy_dtype}`", hint=hint)
        for name, value in (("--workers", self.workers), ("--threads", self.threads)):
            if value is not None and value < 1:
                raise SearchError("E089", f"{name} {value}: there must be at least one")

    def check(self, spec: NetworkSpec) -> None:
        """Raise SearchError (E089) when they do not go with `spec`."""
        times = spec.search.supernet.recalibrate
        if times and self.accuracy_dtype != "float32":
            raise SearchError(
                "E089",
                f"supernet.recalibrate = {times}, but `{self.accuracy_dtype}` takes the norms as the supernet has them",
                hint="recalibrate = 0, or --accuracy-dtype float32",
            )

    @property
    def distributed(self) -> bool:
        """Whether other processes evaluate."""
        return self.workers is not None or self.ray is not None

    @property
    def evaluation_threads(self) -> int | None:
        """The threads of an evaluation, None for torch's own number."""
        return 1 if self.threads is None and self.distributed else self.threads

    def as_data(self) -> dict[str, Any]:
        """What of them is part of a run's identity, as plain data."""
        # What came later is left out where it is as it always was, so that older runs go on.
        later = {} if self.accuracy_dtype == "float32" else {"accuracy_dtype": self.accuracy_dtype}
        return {
            **later,
            "inits": self.inits,
            "score_dtype": self.score_dtype,
            "threads": self.evaluation_threads,
            "storage": None if self.storage is None else without_password(self.storage),
        }

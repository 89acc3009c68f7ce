"""Slurm: whether `srun` has started the processes that share a training run, and what each of them is.

Only tasks of one step that are as many as `--devices` share a run: `srun --ntasks=4 bcgraph train ... --devices 4`.
In a batch script without `srun`, in an array job, and in a step with another number of tasks each task is a run of its
own, whatever `SLURM_NTASKS` says, and `--devices` starts processes on its machine.
"""

from __future__ import annotations

import os

TASKS, RANK, LOCAL_RANK, NODE, NODES = (
    "SLURM_STEP_NUM_TASKS",
    "SLURM_PROCID",
    "SLURM_LOCALID",
    "SLURM_NODEID",
    "SLURM_STEP_NUM_NODES",
)
"""Set by `srun` for each task. A batch script has some of them without a step, but not the first."""

OUR_RANK = "BCGRAPH_RANK"
"""The rank of this process among those that share a training run, for what only the first of them does."""


def shares(devices: int) -> bool:
    """Whether this process is one of `devices` tasks of a Slurm step, which share a training run."""
    return devices > 1 and _number(TASKS, 1) == devices and _number(RANK, -1) in range(devices)


def nodes() -> int:
    """On how many machines the tasks of the step are."""
    return max(1, _number(NODES, 1))


def note_rank(devices: int) -> None:
    """Keep the rank of this process in the environment, where Slurm has started it as one of several."""
    if shares(devices):
        os.environ[OUR_RANK] = os.environ[RANK]


def _number(name: str, missing: int) -> int:
    try:
        return int(os.environ.get(name, missing))
    except ValueError:
        return missing

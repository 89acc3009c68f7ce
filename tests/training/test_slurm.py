"""Slurm: tasks share a run where `srun` has started as many as there are devices, and nowhere else."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bcgraph.cli.output import leads
from bcgraph.training.distributed import slurm
from tests import forked

JOB = {"SLURM_JOB_ID": "7", "SLURM_JOB_NAME": "net", "SLURM_NTASKS": "2", "SLURM_PROCID": "1", "SLURM_NNODES": "1"}
STEP = {"SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_NUM_NODES": "1", "SLURM_NODEID": "0", "SLURM_NODELIST": "127.0.0.1"}


@pytest.fixture(autouse=True)
def no_slurm(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [*JOB, *STEP, slurm.OUR_RANK, "RANK", "LOCAL_RANK"]:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("environment", "devices", "expected"),
    [
        ({}, 2, False),
        (JOB, 1, False),
        (JOB, 2, False),
        (JOB | STEP, 2, True),
        (JOB | STEP, 1, False),
        (JOB | STEP, 4, False),
        (JOB | STEP | {"SLURM_PROCID": "2"}, 2, False),
        (JOB | STEP | {"SLURM_STEP_NUM_TASKS": "two"}, 2, False),
    ],
)
def test_who_shares_a_run(
    environment: dict[str, str], devices: int, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert slurm.shares(devices) == expected
    assert leads(), "a task that shares nothing prints, whatever its number is"
    monkeypatch.setenv(slurm.OUR_RANK, "")  # restored at the end
    monkeypatch.delenv(slurm.OUR_RANK)
    slurm.note_rank(devices)
    assert leads() != expected, "of those that share a run only the first prints"


@pytest.mark.slow
def test_tasks_of_a_step_train_as_own_processes_do(tmp_path: Path) -> None:
    (tmp_path / "net.bcg").write_text(
        "bcg 1\nnetwork n { input = image(1, 8, 8); steps = 2; backbone = tiny(width=2) }\n"
        "data = digits(batch=600)\ntrain { epochs = 1 }\n"
    )
    base = {k: v for k, v in os.environ.items() if not k.startswith("SLURM")} | {"OMP_NUM_THREADS": "1"}

    def start(out: str, environment: dict[str, str]) -> forked.Popen:
        command = [sys.executable, "-m", "bcgraph", "train", "net.bcg", "--out", out, "--devices", "2"]
        return forked.Popen(
            command, cwd=tmp_path, env=base | environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )

    ranks = [{"SLURM_PROCID": rank, "SLURM_LOCALID": rank} for rank in "01"]
    tasks = [start("step", JOB | STEP | rank) for rank in ranks]
    told = [task.communicate(timeout=240) for task in tasks]
    assert [task.returncode for task in tasks] == [0, 0], told
    assert "accuracy" in told[0][0]
    assert told[1][0] == ""
    alone = start("batch", JOB | {"SLURM_PROCID": "0"})
    _, error = alone.communicate(timeout=240)
    assert alone.returncode == 0, error
    assert (tmp_path / "step/last.safetensors").read_bytes() == (tmp_path / "batch/last.safetensors").read_bytes()

"""Every kernel of every neuron can be built for the GPUs of today, and keeps what it computes in registers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import needs
from tests.library.test_gpu_kernels import CALLS

ROOT = Path(__file__).parents[2]


def built(target: str, dtypes: str, *calls: str) -> list[dict[str, object]]:
    """What `tests.library.built` says of each kernel. Its process is not one that runs the interpreter."""
    needs.package("triton")
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    command = [sys.executable, "-m", "tests.library.built", target, dtypes, *calls]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def test_kernels_are_built_and_stay_in_registers() -> None:
    found = built("sm90", "float32", "probe", "lif()", "plif()")
    assert {each["call"] for each in found} == {"probe", "lif()", "plif()"}
    assert len(found) > 20
    assert [each for each in found if each["spilled"]] == []


@pytest.mark.nightly
@pytest.mark.parametrize("dtypes", ["float32", "bfloat16", "float16", "float64"])
@pytest.mark.parametrize("target", ["sm80", "sm90", "sm100", "gfx942"])
def test_all_kernels_are_built(target: str, dtypes: str) -> None:
    calls = tuple(dict.fromkeys(CALLS.values()))
    found = built(target, dtypes, "probe", *calls)
    assert {each["call"] for each in found} == {"probe", *calls}
    if dtypes != "float64":
        assert [each for each in found if each.get("spilled")] == []


@pytest.mark.nightly
@pytest.mark.parametrize("target", ["sm90", "gfx942"])
def test_every_function_is_built(target: str) -> None:
    found = built(target, "float32,bfloat16", "strange()")
    assert len(found) > 20

"""Hostile texts end in a diagnostic, fast, within a gigabyte of memory."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.dsl.hostile import FORMATTED, TEXTS

# Processor time, since the machine may be busy; all of them together take some 40 seconds.
LIMIT_S = 10.0


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    large = tmp_path_factory.mktemp("hostile") / "large.bcg"
    with large.open("wb") as stream:
        stream.write(b"bcg 1\n")
        stream.truncate(100_000_000)
    root = Path(__file__).parents[2]
    command = [sys.executable, "-m", "tests.dsl.hostile", str(large), "/dev/zero"]
    run = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=600, check=False)
    assert run.returncode == 0, run.stderr[-2000:]
    found = [json.loads(line) for line in run.stdout.splitlines()]
    return {outcome["name"]: outcome for outcome in found}


@pytest.mark.slow
@pytest.mark.parametrize("name", TEXTS)
def test_hostile_text(name: str, outcomes: dict[str, dict[str, Any]]) -> None:
    outcome = outcomes[name]
    assert outcome["wrong"] is None
    assert outcome["code"] == TEXTS[name][1]
    assert outcome["seconds"] < LIMIT_S
    assert outcome["shown"] < 100_000


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMATTED)
def test_formatting_hostile_text(name: str, outcomes: dict[str, dict[str, Any]]) -> None:
    outcome = outcomes[f"format {name}"]
    assert (outcome["code"], outcome["wrong"]) == (None, None)
    assert outcome["seconds"] < LIMIT_S


@pytest.mark.slow
def test_a_hundred_megabytes_are_not_read(outcomes: dict[str, dict[str, Any]]) -> None:
    found = {name: outcome for name, outcome in outcomes.items() if name.startswith("file ")}
    assert len(found) == 2
    for name, outcome in found.items():
        # What is no regular file is not read at all.
        assert (outcome["code"], outcome["wrong"]) == ("E001" if name.startswith("file /dev/") else "E002", None)
        assert outcome["seconds"] < 1.0

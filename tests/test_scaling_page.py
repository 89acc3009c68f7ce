"""docs/scaling.md names commands and options that there are, and shows what the simulation says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer
from typer.core import TyperGroup

from bcgraph.cli.main import build
from benchmarks import growth

PAGE = (Path(__file__).parents[1] / "docs" / "scaling.md").read_text()
COMMANDS = sorted(set(re.findall(r"^(?:\$ )?(bcgraph .*?)(?:\s+#.*)?$", PAGE, re.MULTILINE)))


@pytest.mark.parametrize("line", COMMANDS)
def test_commands(line: str) -> None:
    _, name, *arguments = line.split()
    group = typer.main.get_command(build(name))
    assert isinstance(group, TyperGroup)
    command = group.commands[name]
    command.make_context(name, arguments)


def test_the_simulation(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(growth, "PICTURE", tmp_path / "scaling.svg")
    growth.main()
    _, *tables = capsys.readouterr().out.strip().split("\n\n")
    assert [len(table.splitlines()) for table in tables] == [2 + len(growth.WORKERS)] * 2
    assert all(table in PAGE for table in tables)
    assert (tmp_path / "scaling.svg").read_text().startswith("<?xml")


def test_more_workers_never_make_it_slower() -> None:
    costs = growth.load()
    times = [growth.exhaustive(workers, costs) for workers in growth.WORKERS]
    assert times == sorted(times, reverse=True)
    # One worker does nothing but work.
    total = sum(costs.scores19[i % len(costs.scores19)] for i in range(growth.SPACE))
    assert total < times[0] < 1.01 * total


def test_more_processes_never_make_the_supernet_slower() -> None:
    costs = growth.load()
    times = [growth.spread_step(growth.processes(workers), costs) for workers in growth.WORKERS]
    assert times == sorted(times, reverse=True)
    assert growth.spread_step(1, costs) == costs.step
    # Each has two samples of a batch at least, and what it computes whatever their number is not divided.
    assert growth.processes(growth.WORKERS[-1]) == growth.BATCH // 2
    least = costs.step * costs.fixed / (costs.fixed + costs.sample * growth.BATCH)
    assert times[-1] > least + costs.exchanges * costs.exchange

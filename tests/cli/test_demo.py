"""`bcgraph demo`, with two epochs in place of its twelve, fewer updates in each, and a smaller search."""

import re
from pathlib import Path

import pytest
import torch

from bcgraph.cli.commands.first import demo
from bcgraph.nn.defaults import threads
from bcgraph.schema import NetworkSpec


def smaller(spec: NetworkSpec) -> NetworkSpec:
    init = spec.search.init.model_copy(update={"pool": 8, "keep": 4, "batch": 20})
    evolve = spec.search.evolve.model_copy(update={"iterations": 2, "population": 4, "offspring": 2})
    search = spec.search.model_copy(update={"init": init, "evolve": evolve})
    return spec.model_copy(update={"search": search, "data": spec.data.model_copy(update={"batch": 300})})


@pytest.mark.slow
def test_demo(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    whole = demo._spec
    used = set()

    def spec(name: str, epochs: int | None) -> NetworkSpec:
        used.add(torch.get_num_threads())
        return smaller(whole(name, epochs))

    monkeypatch.setattr(demo, "_spec", spec)
    with threads(2):
        demo.demo_command(tmp_path / "out", epochs=2)
        assert torch.get_num_threads() == 2
    assert used == {1}
    printed = capsys.readouterr().out
    assert "with all connections at gain 0.1, pruned to 4 on the way\n" in printed
    *_, first, second, last = (re.split(r" {2,}", line) for line in printed.splitlines())
    assert (first[0], second[0], last[0]) == ("all at once, pruned", "the paper's search", "none")
    assert first[1].count("->") == 4
    assert f"left: {first[1]}\n" in printed
    assert f"found: {second[1]}\n" in printed
    assert last[1] == "none"
    for row in (first, second, last):
        # onnxruntime may flip a spike here and there, but not an accuracy.
        assert float(row[3]) == pytest.approx(float(row[4]), abs=0.02)
        assert Path(row[5]).is_file()
    assert (tmp_path / "out/gains.svg").is_file()
    assert (tmp_path / "out/gains/report.html").is_file()

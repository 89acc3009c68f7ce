"""The benchmarks for a GPU: all of them run, with a small network on the CPU, and keep to their time."""

from __future__ import annotations

import csv
import time
import warnings
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from bcgraph.errors import BcgraphWarning
from bcgraph.search.supernet.supernet import Supernet
from benchmarks import gpu
from benchmarks.gpu import Part, page, searching
from benchmarks.gpu import budget as budgets
from benchmarks.gpu.__main__ import main
from benchmarks.gpu.budget import Budget, OverrunError
from benchmarks.gpu.plan import DRY, Plan
from benchmarks.gpu.profiled import kind
from benchmarks.harness import Row


def test_a_dry_run_goes_through_everything(tmp_path: Path) -> None:
    """With the peer where it is installed, and every part has rows without it, too."""
    where = tmp_path / "gpu.md"
    where.write_text(f"# A page\n\n{page.BEGIN}{page.UNMEASURED}{page.END}\nwhat follows\n")
    assert main(["--dry", "--seconds", "600", "--page", str(where)]) == 0
    text = where.read_text()
    assert text.startswith("# A page\n")
    assert text.endswith(f"{page.END}\nwhat follows\n")
    assert "Not measured" not in text
    for part in gpu.parts(DRY):
        assert f"### {part.name[:1].upper()}{part.name[1:]}\n" in text
    rows = list(csv.reader((tmp_path / "gpu.csv").read_text().splitlines()))
    assert {len(row) for row in rows} == {6}
    assert "dry run" in rows[0][0]


def test_a_run_measures_what_the_table_lacks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    where, table = tmp_path / "gpu.md", tmp_path / "gpu.csv"
    asked: list[str] = []
    broken = [True]

    def rows(name: str) -> Iterator[Row]:
        asked.append(name)
        yield Row(name, "1 ms", "2 ms", "0.50", "")
        if name == "b" and broken:
            raise RuntimeError("it fails")

    monkeypatch.setattr(gpu, "parts", lambda plan: [Part(name, partial(rows, name)) for name in "abc"])
    gpu.measure(DRY, where, table)
    assert "b (failed: it fails)" in where.read_text()
    broken.clear()
    asked.clear()
    measured, dropped = gpu.measure(DRY, where, table, resume=True)
    assert asked == ["b"]
    assert [row.what for row in measured] == ["a", "b", "c"]
    assert not dropped
    assert [line.split(",")[0] for line in table.read_text().splitlines()[1:]] == ["a", "b", "c"]
    monkeypatch.setattr(gpu, "name_of", lambda plan: "another")
    with pytest.raises(ValueError, match="this is another: give another --table"):
        gpu.measure(DRY, where, table, resume=True)


def test_a_dry_run_has_a_page_of_its_own() -> None:
    with pytest.raises(SystemExit):
        main(["--dry"])


def some() -> Iterator[Row]:
    yield Row("something", "1 ms", "2 ms", "0.50", "<= 1")


def test_what_does_not_fit_in_the_time_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    now = [0.0]

    def slow() -> Iterator[Row]:
        now[0] = 99.5
        yield from some()

    def endless() -> Iterator[Row]:
        yield from some()
        now[0] = 101.0
        time.sleep(60)

    def broken() -> Iterator[Row]:
        yield from ()
        raise ValueError("no such kernel\nmore")

    found = [
        Part("a broken one", broken),
        Part("a long one", some, least=200),
        Part("a slow one", slow),
        Part("an endless one", endless, least=0),
        Part("a late one", some, least=0),
    ]
    monkeypatch.setattr(gpu, "parts", lambda plan: found)
    monkeypatch.setattr(budgets, "SHORT", 0.0)
    where = tmp_path / "gpu.md"
    patient = replace(DRY, patient=True)
    rows, dropped = gpu.measure(patient, where, tmp_path / "gpu.csv", Budget(100, lambda: now[0]))
    assert [row.what for row in rows] == ["something", "something"]
    assert dropped == [
        "a broken one (failed: no such kernel)",
        "a long one",
        "an endless one (stopped when the time was over)",
        "a late one",
    ]
    assert f"of what they need: {'; '.join(dropped)}.\n" in where.read_text()
    assert "### An endless one\n" in where.read_text(), "what was measured before the end is kept"


def test_what_is_said_of_a_part_stands_in_its_table(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def told() -> Iterator[Row]:
        yield from some()
        warnings.warn(BcgraphWarning("a training step runs without CUDA graphs: why"), stacklevel=1)
        raise ValueError("no such kernel")

    monkeypatch.setattr(gpu, "parts", lambda _: [Part("a plain one", told)])
    rows, _ = gpu.measure(DRY, tmp_path / "gpu.md", tmp_path / "gpu.csv", Budget(100))
    assert [row.what for row in rows] == ["something", "warning: a training step runs without CUDA graphs: why"]
    assert "without CUDA graphs: why" in (tmp_path / "gpu.csv").read_text()


def test_each_goal_comes_before_the_first_is_measured_again() -> None:
    names = [part.name for part in gpu.parts(Plan())]
    again = names.index(f"inference, {Plan().precisions[1]}")
    asked = ("training, batch 128", "training without a connection", "scoring", "supernet steps")
    assert {*asked, "evaluations on the supernet", "the paper's whole search"} <= {*names[:again]}


def test_a_step_of_the_supernet_is_timed_apart_from_the_end_of_an_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    keep = Supernet._keep

    def slow(self: Supernet, *given: Any) -> None:
        time.sleep(4)
        keep(self, *given)

    monkeypatch.setattr(Supernet, "_keep", slow)
    known: searching.Known = {}
    rows = list(searching.supernet_step(replace(DRY, updates=6), known))
    for how in ("tf32", "bf16"):
        assert known[f"{searching.STEP}, {how}"] * DRY.large < 2 < known[searching.EPOCH]
    assert [row.what for row in rows][2:] == ["between two epochs of a supernet: its weights checked, its checkpoint"]


def test_the_whole_search_has_its_epochs_and_what_is_between_them() -> None:
    known = {searching.EPOCH: 2.0}
    for how, numbers, step in (("tf32", "float32", 1e-4), ("bf16", "int16", 5e-5)):
        known[f"{searching.SCORING}, {numbers}"] = 0.03
        known[f"{searching.STEP}, {how}"] = step
        known[f"{searching.EVALUATION}, {numbers}"] = 0.0
    rows = {row.what: row.ours for row in searching.whole(DRY, known)}
    # 100 epochs of 40,000 images, and 2,000 candidates.
    assert rows["the paper's search, by default, supernet"] == "10.0 min"
    assert rows["the paper's search, by default, reckoned from its parts"] == "11.0 min"
    assert rows[f"the paper's search, {searching.OPTIONS}, supernet"] == "6.7 min"
    assert rows[f"the paper's search, {searching.OPTIONS}, reckoned from its parts"] == "7.7 min"
    del known[f"{searching.STEP}, bf16"]
    assert len(list(searching.whole(DRY, known))) == 4
    del known[searching.EPOCH]
    assert not list(searching.whole(DRY, known))


def test_a_budget_counts_down() -> None:
    now = [0.0]
    budget = Budget(100, lambda: now[0])
    assert budget.allows(50)
    now[0] = 60
    assert not budget.allows(50)
    assert budget.allows(20)
    now[0] = 95
    assert not budget.allows(0), "too short for anything"
    now[0] = 101
    with pytest.raises(OverrunError), budget.limit():
        time.sleep(5)


def test_the_page_has_a_place_for_what_is_measured() -> None:
    text = page.PAGE.read_text(encoding="utf-8")
    assert page.fill(text, page.UNMEASURED).count(page.UNMEASURED) == 1
    with pytest.raises(ValueError, match="no place between"):
        page.fill("nothing", "")


def test_the_whole_plan_is_the_one_of_the_contract() -> None:
    plan = Plan()
    assert plan.seconds <= 480
    assert (plan.backbone, plan.width, plan.size, plan.steps, plan.batch, plan.large) == (
        "resnet18",
        64,
        32,
        4,
        32,
        128,
    )
    assert {batch for batch, _ in plan.sweep} >= {8, 256}
    assert {steps for _, steps in plan.sweep} >= {1, 16}
    assert len(plan.spec().backward) == 2


@pytest.mark.parametrize(
    ("kernel", "wanted"),
    [
        ("kernel", "neurons and packed spikes"),
        ("cudnn::bn_fw_tr_1C11_kernel_NCHW<float>", "batch norms"),
        ("sm90_xmma_fprop_implicit_gemm_tf32f32", "convolutions and products"),
        ("void at::native::elementwise_kernel<128, 4>", "other elementwise kernels"),
        ("Memcpy DtoD (Device -> Device)", "copies"),
        ("void at::native::multi_tensor_apply_kernel<...>", "update"),
        ("void at::native::reduce_kernel<512, 1>", "sums"),
    ],
)
def test_kernels_are_told_apart(kernel: str, wanted: str) -> None:
    assert kind(kernel) == wanted

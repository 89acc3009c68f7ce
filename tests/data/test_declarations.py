"""What data sets declare, and how a network is checked against it without torch, numpy or the data."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import bcgraph
from bcgraph.data import declaration
from bcgraph.dsl.elaboration.reference import fill
from bcgraph.errors import DataError, Span
from bcgraph.search.evaluators import Standard
from bcgraph.training import train

PAGE = (Path(__file__).parents[2] / "docs" / "training.md").read_text(encoding="utf-8")


def text(data: str, form: str = "image(1, 8, 8)", classes: int = 10, steps: int = 4) -> str:
    body = "{ flatten(); fc = linear(8); lif = lif(); out = linear(classes) }"
    return f"""bcg 1
block net(classes) {body}
network mine {{ input = {form}; steps = {steps}; backbone = net({classes}) }}
data = {data}
"""


@pytest.mark.parametrize("name", declaration.names())
def test_each_is_whole(name: str) -> None:
    declared = declaration.find(name)
    assert declared is not None
    assert callable(declared.loader)
    assert declared.about[0].islower() or declared.about[0].isdigit()
    assert set(declared.settings) <= set(declaration.OPTIONAL)
    assert (declared.train is None) == (declared.test is None)


def test_the_page_lists_them() -> None:
    assert fill(PAGE) == PAGE


@pytest.mark.parametrize(
    ("given", "says", "hint"),
    [
        ({"data": "cifar10()"}, "is image(3, 32, 32), but the network takes image(1, 8, 8)", "image(3, 32, 32)"),
        ({"data": "digits()", "classes": 9}, "has 10 classes, but the network has 9 outputs", "`classes = 10`"),
        ({"data": "digits_rows()", "form": "sequence(1, 1, 8)", "steps": 4}, "has 8 frames, but", "`steps = 8`"),
        ({"data": "japanese_vowels()", "form": "vector(12)", "steps": 25, "classes": 9}, "is sequence(12) or", "12"),
        ({"data": "fashion_rows(size=14)", "form": "sequence(1, 1, 28)"}, "is sequence(1, 1, 14)", "14"),
        ({"data": "fashion_mnist(size=13)"}, "cannot have a `size` of 13", "32, 28, 14, 7"),
        ({"data": "digits(size=4)"}, "`size` is not a setting of the data set `digits`", "leave it out"),
    ],
)  # fmt: skip
def test_a_network_that_cannot_be_fed(tmp_path: Path, given: dict[str, object], says: str, hint: str) -> None:
    path = tmp_path / "net.bcg"
    path.write_text(text(**given))  # type: ignore[arg-type]
    spec = bcgraph.load(path)
    with pytest.raises(DataError) as caught:
        declaration.check_network(spec)
    (found,) = caught.value.diagnostics
    assert says in found.message
    assert hint in str(found.hint)
    assert found.span is not None
    assert (found.span.file, found.span.line) == (str(path), 4)
    # What runs says the same before it reads anything.
    for run in (lambda: train(spec, out=tmp_path / "run"), lambda: Standard(spec, 0, tmp_path).splits):
        with pytest.raises(DataError) as again:
            run()
        assert says in str(again.value)
    assert not (tmp_path / "run").exists()


def test_where_a_data_set_stands_takes_no_part_in_equality() -> None:
    spec = bcgraph.parse(text("digits()"))
    assert isinstance(spec.data.span, Span)
    moved = bcgraph.parse("\n" + text("digits()"))
    assert spec.data == moved.data
    assert hash(spec) == hash(moved)
    assert "span" not in spec.model_dump(mode="json")["data"]
    # Nothing is said of a file that names no data set, or one that is registered.
    declaration.check_network(bcgraph.parse(text("digits()", "image(3, 32, 32)").rpartition("data")[0]))


def test_check_refuses_it_without_torch_and_numpy(tmp_path: Path) -> None:
    path = tmp_path / "net.bcg"
    path.write_text(text("svhn()"))
    program = f"""
import sys
from bcgraph.cli.main import main
sys.argv = ["bcgraph", "check", {str(path)!r}]
try:
    main()
except SystemExit as ended:
    assert ended.code == 1, ended.code
assert not {{"torch", "numpy"}} & sys.modules.keys()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True)
    assert "net.bcg:4:8: error[E081]: the data set `svhn` is image(3, 32, 32)" in done.stderr
    assert "1 error in 1 file" in done.stderr

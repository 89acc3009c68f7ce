"""Settings beside a file, `--set steps=6`: as if the file said it, with located errors of their own."""

from __future__ import annotations

from pathlib import Path

import pytest

import bcgraph
from bcgraph.dsl.elaboration.vocabulary.overrides import FILE, paths
from bcgraph.errors import SpecError
from bcgraph.schema import NetworkSpec

TEXT = """bcg 1
network five { input = image(1, 8, 8); steps = 2; backbone = tiny(width=3, classes=10) }
train { epochs = 4; optimizer = sgd(lr=0.5) }
"""


def spec(*settings: str) -> NetworkSpec:
    return bcgraph.parse(TEXT, settings=settings)


@pytest.mark.parametrize(
    ("setting", "old", "new"),
    [
        ("steps=6", "steps = 2", "steps = 6"),
        ("network.steps = 6", "steps = 2", "steps = 6"),
        ("readout=last", "steps = 2", "steps = 2; readout = last"),
        ("train.epochs=9", "epochs = 4", "epochs = 9"),
        ("train.optimizer=adamw(lr=0.1)", "sgd(lr=0.5)", "adamw(lr=0.1)"),
        ("train.optimizer.lr=0.1", "sgd(lr=0.5)", "sgd(lr=0.1)"),
        ("optimizer.momentum=0.8", "sgd(lr=0.5)", "sgd(lr=0.5, momentum=0.8)"),
        ("backbone.width=8", "width=3", "width=8"),
        ("neuron.tau=0.25", "steps = 2", "steps = 2; neuron = lif(tau=0.25)"),
        ("feedback.gain=0.1", "steps = 2", "steps = 2; feedback = project(gain=0.1)"),
        ("data.batch=64", "train {", "data = digits(batch=64)\ntrain {"),
        ("schedule.warmup=2", "epochs = 4", "epochs = 4; schedule = cosine(warmup=2)"),
        ("iterations=3", "train {", "search { evolve { iterations = 3 } }\ntrain {"),
        ("search.init.scores=[e]", "train {", "search { init { scores = [e] } }\ntrain {"),
        ("finish.seeds=5", "train {", "search { finish { seeds = 5 } }\ntrain {"),
    ],
)
def test_a_setting_is_as_if_the_file_said_it(setting: str, old: str, new: str) -> None:
    assert TEXT.count(old) == 1
    assert spec(setting) == bcgraph.parse(TEXT.replace(old, new))
    assert spec(setting) != spec()


def test_several_settings_and_the_last_of_one_count() -> None:
    found = spec("steps=6", "epochs = 7".replace("epochs", "train.epochs"), "steps=5")
    assert (found.steps, found.train.epochs) == (5, 7)
    assert spec() == bcgraph.parse(TEXT)


@pytest.mark.parametrize(
    ("setting", "code", "column", "hint"),
    [
        ("stepz=6", "E032", 1, "did you mean `steps`?"),
        ("train.epoch=6", "E032", 1, "did you mean `train.epochs`?"),
        ("trian.epochs=6", "E032", 1, "did you mean `train.epochs`?"),
        ("epochs=6", "E032", 1, "write `search.supernet.epochs` or `train.epochs`"),
        ("batch=6", "E032", 1, "write `search.init.batch` or `data.batch`"),
        ("train.loss.width=6", "E032", 1, None),
        ("backbone.widht=6", "E042", 1, "did you mean `width`?"),
        ("steps=0", "E041", 7, "allowed: 1 to 10000"),
        ("  steps = 0", "E041", 11, "allowed: 1 to 10000"),
        ("train.loss=tett", "E043", 12, "did you mean `tet`? (allowed: `tet`, `mean`, `last`)"),
        ("train.epochs=(3", "E011", 14, None),
        ("steps", "E010", 1, None),
        ("steps=", "E010", None, None),
        ("", "E010", 1, None),
        ("=6", "E010", 1, None),
        ("steps=6; x=1", "E010", 1, "give each with a --set of its own"),
        ("backward @4 -> @0", "E010", 1, None),
        ("steps=6 }", "E010", None, None),
    ],
)
def test_what_is_wrong_is_found_where_it_stands(setting: str, code: str, column: int | None, hint: str | None) -> None:
    with pytest.raises(SpecError) as caught:
        spec("train.clip=1.0", setting)
    first = caught.value.diagnostics[0]
    assert first.span is not None
    assert (first.code, first.span.file) == (code, FILE)
    if column is not None:
        assert (first.span.line, first.span.column) == (2, column)
        assert first.excerpt == setting
    if hint is not None:
        assert first.hint == hint


def test_every_path_can_be_set_to_what_it_is() -> None:
    """Each path leads to a setting: given its canonical value, the specification stays as it is."""
    base = spec()
    lines = bcgraph.format(base).splitlines()
    known = {".".join(path) for path in paths()}
    assert {"steps", "data", "train.epochs", "search.evolve.iterations", "search.finish.top"} <= known
    for name in ("steps", "readout", "neuron", "backbone"):
        value = next(line.split("=", 1)[1] for line in lines if line.split("=")[0].strip() == name)
        assert spec(f"{name}={value.strip()}") == base


def test_the_settings_of_a_strategy_are_set_with_it_or_alone() -> None:
    written = TEXT + "search { evolve { strategy = gains; gain = 0.2; stages = 2 } }"
    assert spec("search.evolve.gain=0.2", "evolve.strategy=gains", "stages=2") == bcgraph.parse(written)
    written = TEXT + "search { evolve { strategy = halving; eta = 4 } }"
    assert spec("strategy=halving", "eta=4") == bcgraph.parse(written)
    assert spec("keep=3").search.init.keep == 3, "it counts with every strategy"
    with pytest.raises(SpecError) as caught:
        spec("eta=4")
    assert [d.code for d in caught.value.diagnostics] == ["E035"]
    assert "strategy = halving" in (caught.value.diagnostics[0].hint or "")


def test_a_file_that_is_wrong_itself_says_so_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "net.bcg"
    path.write_text(TEXT.replace("steps = 2", "steps = 0"))
    assert bcgraph.load(path, settings=["steps=3"]).steps == 3
    with pytest.raises(SpecError) as caught:
        bcgraph.load(path, settings=["train.epoch=3"])
    assert [d.span.file for d in caught.value.diagnostics if d.span] == [str(path), FILE]

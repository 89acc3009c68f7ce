"""What an exported file says of its weights, and the model card beside it."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from bcgraph import __version__, data, dsl, runtime, seals, weights
from bcgraph.compiler.export import card, provenance
from bcgraph.compiler.export.provenance import Accuracy, Provenance
from tests import needs
from tests.cli.conftest import TINY, Command

NASTY = 'J\u00e4ne`</script>\n---\n*/ | "\\ \x1b[2J \u202e \u2028 \udc80'
"""What ends a line, a comment, a table, the front matter; what a terminal obeys; and what is not Unicode."""


def metadata(path: Path) -> dict[str, str]:
    return {p.key: p.value for p in onnx.load(path).metadata_props}


def front(text: str) -> dict[str, Any]:
    """The front matter of a card, found as the hub finds it."""
    found = re.match(r"^\s*---[\r\n]+([\S\s]*?)[\r\n]+---([\r\n]|\n|$)", text)
    assert found is not None
    read = needs.package("yaml").safe_load(found[1])
    assert isinstance(read, dict)
    return read


def test_the_file_says_where_its_weights_come_from(bcgraph: Command, trained: Path, tmp_path: Path) -> None:
    log = [line.split(",") for line in (tmp_path / "run/log.csv").read_text().splitlines()]
    last = float(log[-1][log[0].index("test_accuracy")])
    assert bcgraph("compile", "run", "-o", "net.onnx", "--license", "MIT", "--author", "A. Person").code == 0
    facts = metadata(tmp_path / "net.onnx")
    assert json.loads(facts["bcgraph.accuracy"]) == {
        "value": pytest.approx(last, abs=1e-6),
        "data": "digits",
        "split": "test",
        "epoch": 4,
        "chosen": False,
    }
    names = ("version", "seed", "license", "author")
    assert [facts[f"bcgraph.{name}"] for name in names] == [__version__, "0", "MIT", "A. Person"]
    assert "bcgraph.weights" not in facts
    # It is what the file does.
    ran = json.loads(bcgraph("run", "net.onnx", "--data", "digits", "--json").out)
    assert ran["accuracy"] == pytest.approx(last, abs=0.005)
    shown = bcgraph("show", "net.onnx").out
    assert shown.startswith(
        f"# written by: bcgraph {__version__}\n"
        f"# accuracy: {last:.4f} on the test part of digits, after epoch 4\n"
        "# seed: 0\n# license: MIT\n# author: A. Person\nbcg 1\n"
    )
    assert dsl.parse(shown) == dsl.parse(facts["bcgraph.spec"])
    about = json.loads(bcgraph("show", "net.onnx", "--json").out)["provenance"]
    assert (about["license"], about["accuracy"]["split"], about["seed"]) == ("MIT", "test", 0)


def test_the_best_epoch_and_weights_from_elsewhere(bcgraph: Command, trained: Path, tmp_path: Path) -> None:
    assert bcgraph("compile", "run", "-o", "net.onnx", "--weights", "run/best.safetensors").code == 0
    assert ", by which it was chosen" in bcgraph("show", "net.onnx").out
    # A weights file that does not name its data set, as earlier versions wrote it.
    spec = dsl.load(tmp_path / "run/spec.bcg")
    path = tmp_path / "run/last.safetensors"
    old = {"epoch": "4", "test_accuracy": "0.5", "seed": "0"}
    weights.save(path, weights.load(path), spec=spec, metadata=old)
    found = provenance.of_weights(path, "digits")
    assert found == Provenance(seed=0, accuracy=Accuracy(0.5, "digits", "test", 4))
    assert provenance.of_weights(path).accuracy is None
    for arguments in (("run",), ("run", "--set", "data=digits(batch=32)"), ("run", "--weights", path)):
        assert bcgraph("compile", *arguments, "-o", "old.onnx").code == 0
        assert ("bcgraph.accuracy" in metadata(tmp_path / "old.onnx")) is (arguments == ("run",))
    for damaged in ({"test_accuracy": "nan"}, {"test_accuracy": "2"}, {"test_accuracy": "x"}, {"seed": "-1"}, {}):
        weights.save(path, weights.load(path), spec=spec, metadata=damaged)
        assert provenance.of_weights(path, "digits") == Provenance()


def test_drawn_weights_have_no_accuracy(bcgraph: Command, tiny: Path, tmp_path: Path) -> None:
    assert bcgraph("compile", tiny, "-o", "net.onnx", "--seed", "3", "--card").code == 0
    facts = metadata(tmp_path / "net.onnx")
    assert (facts["bcgraph.weights"], facts["bcgraph.seed"]) == ("drawn", "3")
    assert "bcgraph.accuracy" not in facts
    text = (tmp_path / "net.md").read_text()
    assert "it was never trained" in text
    assert not front(text).keys() & {"model-index", "metrics", "license"}


@pytest.mark.parametrize("ending", [".onnx", ".nir", ".pt2", ".py", ".c"])
def test_text_of_people_is_escaped(bcgraph: Command, tmp_path: Path, ending: str) -> None:
    if ending == ".nir":
        needs.package("nir")
    (tmp_path / "net.bcg").write_text(TINY.replace("@4 -> @1", "@3 -> @3"))
    done = bcgraph("compile", "net.bcg", "-o", f"net{ending}", "--author", NASTY, "--license", NASTY)
    assert done.code == 0, done.err
    text = (tmp_path / f"net{ending}").read_bytes()
    assert b"\x1b[2J" not in text
    assert b"\\x1b[2J" in text
    if ending == ".c":
        return
    shown = bcgraph("show", f"net{ending}").out
    assert "\n---" not in shown
    assert shown.count("\\u202e \\u2028 \\udc80") == (0 if ending == ".py" else 2)
    assert dsl.parse(shown) == dsl.parse((tmp_path / "net.bcg").read_text())


def test_metadata_of_others_are_read_with_care() -> None:
    accuracy = '{"value": 0.5, "data": "a\\nb", "split": "test", "chosen": false}'
    found = provenance.of_metadata(
        {"bcgraph.author": "a\nb", "bcgraph.accuracy": accuracy, "bcgraph.precision": "int8"}
    )
    assert found.lines() == [
        "accuracy: 0.5000 on the test part of a\\nb, before the weights were put into 8 bits",
        "author: a\\nb",
    ]
    for damaged in ("", "{", "[]", '{"value": 7, "data": "a", "split": "b"}', accuracy.replace("0.5", "NaN")):
        assert provenance.of_metadata({"bcgraph.accuracy": damaged, "bcgraph.seed": "x"}) == Provenance(version="")


@pytest.mark.parametrize("form", ["unrolled", "step", "scan"])
def test_the_program_of_a_card_runs(bcgraph: Command, trained: Path, tmp_path: Path, form: str) -> None:
    assert bcgraph("compile", "run", "-o", "net.onnx", "--form", form, "--card", "--license", "Apache-2.0").code == 0
    text = (tmp_path / "net.md").read_text()
    (program,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    x = data.arrays("digits").inputs[:20].astype(np.float32)
    space = {"x": x}
    exec(program, space)
    assert list(space["predicted"]) == list(runtime.Network(tmp_path / "net.onnx").predict(x))
    read = front(text)
    assert (read["license"], "spiking-neural-network" in read["tags"]) == ("apache-2.0", True)
    (result,) = read["model-index"][0]["results"]
    stored = json.loads(metadata(tmp_path / "net.onnx")["bcgraph.accuracy"])
    assert result["dataset"] == {"name": "digits", "type": "digits", "split": "test"}
    assert result["metrics"] == [{"type": "accuracy", "value": stored["value"]}]
    assert len(re.findall(r"^\| @\d ", text, re.MULTILINE)) == 5
    (spec,) = re.findall(r"```\n(bcg 1.*?)```", text, re.DOTALL)
    assert dsl.parse(spec) == dsl.load(tmp_path / "run/spec.bcg")


def test_a_program_that_normalizes_sequences(tmp_path: Path) -> None:
    import bcgraph
    from bcgraph.normalization import Normalization

    text = TINY.replace("image(1, 8, 8)", "sequence(1, 1, 8)").replace("digits(", "digits_rows(")
    spec = bcgraph.parse(text.replace("steps    = 2", "steps    = 8\n  readout = last"))
    normal = Normalization((0.25,), (2.0,))
    path = tmp_path / "n`et.onnx"
    raw = np.random.default_rng(0).normal(size=(8, 5, 1, 1, 8)).astype(np.float32)
    for form in ("unrolled", "step"):
        report = bcgraph.export(spec, path, form=form, normalization=normal)
        facts = card.Facts(spec, path, form, report.size, Provenance(), normalization=normal)
        (program,) = re.findall(r"```python\n(.*?)```", card.text(facts), re.DOTALL)
        space: dict[str, Any] = {"x": raw}
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(tmp_path)
            exec(program, space)
        given = normal.normalized(raw)
        assert list(space["predicted"]) == list(runtime.Network(path).predict(given))


def test_a_card_holds_no_markup_of_others(tmp_path: Path) -> None:
    spec = dsl.parse(TINY)
    known = Provenance(author=NASTY, license=NASTY, accuracy=Accuracy(0.5, NASTY, NASTY))
    facts = card.Facts(spec, tmp_path / "a`b\n.onnx", "unrolled", 1, known, classes=(NASTY, "b"), origin=NASTY)
    card.write(tmp_path / "net.md", facts)
    text = (tmp_path / "net.md").read_text(encoding="utf-8")
    escaped = provenance.escaped(NASTY)
    read = front(text)
    assert (read["license"], read["license_name"]) == ("other", escaped)
    assert read["model-index"][0]["results"][0]["dataset"]["name"] == escaped
    body = text.split("\n---\n", 1)[1]
    assert "---" not in re.sub(r"\| --- .*|J\u00e4ne.*", "", body)
    assert not re.search(r"(?<!\\)[<*]", re.sub(r"```.*?```", "", body, flags=re.DOTALL))
    assert body.count(card.markdown(NASTY)) == 5
    many = card.text(replace(facts, classes=tuple(f"class-{number}" for number in range(1000))))
    assert "class-49, and 950 more\n" in many


def test_a_card_replaces_nothing_of_anyone(bcgraph: Command, tiny: Path, tmp_path: Path) -> None:
    for content in ("# My notes\n", "", f"---\n# {seals.BLANK}\n---\n"):
        (tmp_path / "net.md").write_text(content)
        said = bcgraph("compile", tiny, "-o", "net.onnx", "--card").fault("E084")
        assert "net.md" in said
        assert (tmp_path / "net.md").read_text() == content
        assert not (tmp_path / "net.onnx").exists()
    (tmp_path / "net.md").unlink()
    bcgraph("compile", tiny, "-o", f"{'n' * 300}.onnx", "--card").fault("E084")
    bcgraph("compile", tiny, "-o", "nowhere/net.onnx", "--card").fault("E084")
    for _ in range(2):  # its own card it replaces
        assert "with net.md" in bcgraph("compile", tiny, "-o", "net.onnx", "--card").out
    with (tmp_path / "net.md").open("a") as stream:
        stream.write("edited\n")
    bcgraph("compile", tiny, "-o", "net.onnx", "--card").fault("E084")
    (tmp_path / "net.md").unlink()
    (tmp_path / "net.md").mkdir()
    bcgraph("compile", tiny, "-o", "net.onnx", "--card").fault("E084")
    assert "--card" in bcgraph("compile", tiny, "-o", "net.c", "--card").fault("E072")


def test_a_card_of_8_bits_has_the_accuracy_of_8_bits(bcgraph: Command, trained: Path, tmp_path: Path) -> None:
    done = bcgraph("compile", "run", "-o", "net.onnx", "--int8", "--card", "--json")
    before, after = json.loads(done.out)["int8"]["rows"]
    text = (tmp_path / "net.md").read_text()
    (result,) = front(text)["model-index"][0]["results"]
    assert result["metrics"][0]["value"] == after["accuracy"]
    assert f"In int8: {after['accuracy']:.4f} on 597 samples of the test part of digits." in text
    assert f"Of the float32 weights: {before['accuracy']:.4f} on the test part" in text
    assert "before the weights were put into 8 bits" in bcgraph("show", "net.onnx").out


def test_profile_says_where_its_formulas_stand(bcgraph: Command, tiny: Path) -> None:
    last = bcgraph("profile", tiny, "--batches", "0").out.splitlines()[-1]
    page, section = last.split(": ")[1].split(", ")
    root = Path(__file__).parent.parent.parent
    assert f"## {section}" in (root / page).read_text().splitlines()

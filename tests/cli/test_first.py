"""First steps: `new`, `explain`, `data`, the examples of every command, completion of the shell."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from bcgraph import dsl
from bcgraph.cli import reference
from bcgraph.cli.examples import EXAMPLES
from bcgraph.cli.main import COMMANDS, build
from bcgraph.data import declaration
from bcgraph.errors import CODES
from tests import pages
from tests.cli.conftest import Command

# --- new --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", declaration.names())
def test_a_new_file_fits_its_data_set(bcgraph: Command, tmp_path: Path, data: str) -> None:
    done = bcgraph("new", "my-net.bcg", "--data", data)
    assert done.code == 0, done.err
    assert done.err.endswith(
        "my-net.bcg: written; next: bcgraph check my-net.bcg, then bcgraph train my-net.bcg --out run\n"
    )
    spec = dsl.load(tmp_path / "my-net.bcg")
    assert (spec.name, spec.data.name, len(spec.backward)) == ("my_net", data, 1)
    assert (tmp_path / "my-net.bcg").read_text() == dsl.format_text((tmp_path / "my-net.bcg").read_text())


def test_choices_of_a_new_file(bcgraph: Command, tmp_path: Path) -> None:
    done = bcgraph("new", "-", "--data", "cifar10", "--backbone", "resnet18", "--no-feedback")
    spec = dsl.parse(done.out)
    assert (spec.backbone.call.name, spec.backward) == ("resnet18", ())
    assert "did you mean `cifar10`?" in bcgraph("new", "a.bcg", "--data", "cifar01").fault("E080")
    assert "did you mean `tiny`?" in bcgraph("new", "a.bcg", "--backbone", "tiyn").fault("E031")
    known = bcgraph("new", "a.bcg", "--backbone", "x").fault("E031")
    assert "vgg11" in known
    assert "residual" not in known
    refused = bcgraph("new", "a.bcg", "--data", "japanese_vowels", "--backbone", "resnet18").fault("E050")
    assert "does not take `japanese_vowels`" in refused
    assert not (tmp_path / "a.bcg").exists()


def test_a_file_is_not_replaced_unasked(bcgraph: Command, tmp_path: Path) -> None:
    (tmp_path / "net.bcg").write_text("mine")
    bcgraph("new", "net.bcg").fault("E084")
    assert (tmp_path / "net.bcg").read_text() == "mine"
    assert bcgraph("new", "net.bcg", "--force").code == 0
    assert bcgraph("check", "net.bcg").code == 0


def test_questions_at_a_terminal(bcgraph: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter(["digits_rows", "tiny"])
    monkeypatch.setattr("bcgraph.cli.commands.first.new._asks", lambda: True)
    monkeypatch.setattr(typer, "prompt", lambda *args, **kwargs: next(answers))
    assert dsl.parse(bcgraph("new", "-").out).data.name == "digits_rows"


# --- explain ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", CODES)
def test_every_code_is_explained(bcgraph: Command, code: str) -> None:
    if code == "E054":
        pytest.skip("its example is a network that is almost too large to be refused quickly; docs/errors.md shows it")
    done = bcgraph("explain", code.lower())
    assert done.out.startswith(f"{code}: {CODES[code]}\n")
    assert (f"error[{code}]: " in done.out) != (len(done.out.splitlines()) == 3)  # an example, or what to do


def test_codes_as_data_and_unknown_ones(bcgraph: Command) -> None:
    assert json.loads(bcgraph("explain", "--json").out) == CODES
    assert json.loads(bcgraph("explain", "--json", "E061").out)["code"] == "E061"
    assert bcgraph("explain").out.count("\n") == len(CODES) + 2
    assert "`bcgraph explain` lists all codes" in bcgraph("explain", "X").fault("E043")


# --- data -------------------------------------------------------------------------------------------------


def test_the_list_of_data_sets(bcgraph: Command, tmp_path: Path) -> None:
    out = bcgraph("data").out
    for name in declaration.names():
        assert f"\n{name} " in out
    (tmp_path / "data" / "cifar-10-batches-py").mkdir(parents=True)
    rows = {row["name"]: row for row in json.loads(bcgraph("data", "--json").out)}
    assert (rows["cifar10"]["here"], rows["cifar100"]["here"], rows["digits"]["here"]) == (True, False, True)
    assert rows["cifar10"]["place"] == "data/cifar-10-batches-py"


def test_a_root_that_may_not_be_looked_at(bcgraph: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(_: Path) -> bool:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "exists", refused)
    rows = {row["name"]: row for row in json.loads(bcgraph("data", "--json", "--root", "closed").out)}
    assert (rows["arrays"]["here"], rows["cifar10"]["here"], rows["digits"]["here"]) == (False, False, True)


def test_one_data_set(bcgraph: Command) -> None:
    out = bcgraph("data", "cifar10", "--root", "elsewhere").out
    assert "looked for  elsewhere/cifar-10-batches-py" in out
    assert "samples     50,000 for training, 10,000 for the test" in out
    assert "did you mean `digits`?" in bcgraph("data", "digist").fault("E080")


# --- help and completion ----------------------------------------------------------------------------------


def test_every_command_has_examples() -> None:
    assert set(EXAMPLES) == set(COMMANDS)
    assert all(EXAMPLES.values())


@pytest.mark.parametrize(("name", "line"), [(name, line) for name in EXAMPLES for line in EXAMPLES[name]])
def test_examples_are_usage(name: str, line: str) -> None:
    program, called, *arguments = shlex.split(line.partition(" > ")[0].partition(" < ")[0])
    assert (program, called) == ("bcgraph", name)
    group = typer.main.get_command(build(name))
    with group.commands[name].make_context(name, list(arguments), resilient_parsing=False) as found:  # type: ignore[attr-defined]
        assert found.command.name == name


def test_the_page_of_commands_is_made_from_their_options() -> None:
    page = pages.ROOT / "docs" / "commands.md"
    text = page.read_text(encoding="utf-8")
    assert reference.fill(text) == text, f"python -m bcgraph.cli.reference {page}"
    assert set(reference.PAGES) <= set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_shows_all_that_options_say(name: str) -> None:
    """rich takes words in brackets for markup, and leaves them out."""
    assert not [each for each in reference.parameters(name) if "[" in each.help]


def test_examples_stand_in_the_help(process: Command) -> None:
    out = process("explain", "--help").out
    assert "Examples:" in out
    for line in EXAMPLES["explain"]:
        assert line in out


def test_completion_of_the_shell(process: Command, tmp_path: Path) -> None:
    assert "--install-completion" in process("--help").out
    done = subprocess.run(
        [sys.executable, "-m", "bcgraph"],
        env={
            **os.environ,
            "_BCGRAPH_COMPLETE": "complete_bash",
            "COMP_WORDS": "bcgraph expl",
            "COMP_CWORD": "1",
        },
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert done.stdout.split() == ["explain"]


LIGHT = (
    ["check", "net.bcg"], ["fmt", "net.bcg"], ["show", "net.bcg"], ["schema"], ["draw", "net.bcg", "-o", "net.svg"],
    ["data"], ["data", "digits"], ["explain", "E061"], ["new", "other.bcg"], ["plugins"], ["explain", "--help"],
)  # fmt: skip


@pytest.mark.parametrize("arguments", LIGHT, ids=" ".join)
def test_light_commands_do_not_import_torch(tmp_path: Path, tiny: Path, arguments: list[str]) -> None:
    script = (
        "import sys, atexit\nfrom bcgraph.cli.main import main\n"
        "atexit.register(lambda: print('torch' in sys.modules, file=sys.stderr))\nmain()"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1] == "False"

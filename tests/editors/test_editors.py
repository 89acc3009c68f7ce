"""The files for editors fit the language and each other."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from bcgraph import dsl
from bcgraph.dsl.wording import KEYWORDS
from bcgraph.lsp import textmate

EDITORS = Path(__file__).parent.parent.parent / "editors"
VSCODE = EDITORS / "vscode"
GRAMMAR = VSCODE / "syntaxes" / "bcgraph.tmLanguage.json"


def test_the_grammar_is_up_to_date() -> None:
    assert GRAMMAR.read_text() == textmate.text(), f"python -m bcgraph.lsp.textmate {GRAMMAR}"


def test_every_word_of_the_language_is_colored() -> None:
    assert set(textmate.words()) == set(KEYWORDS)
    patterns = [re.compile(each["match"]) for each in textmate.textmate()["patterns"]]
    for word in KEYWORDS:
        found = [pattern for pattern in patterns if pattern.fullmatch(word)]
        assert found or word == "network", word  # `network` begins a definition, with its name


def test_the_first_pattern_that_matches_decides() -> None:
    def scope(text: str, at: int) -> str:
        for each in textmate.textmate()["patterns"]:
            found = re.compile(each["match"]).match(text, at)
            if found:
                return each.get("name") or each["captures"]["1"]["name"]
        return ""

    line = 'neuron = lif(tau=0.5, a="x # y")  # z'
    assert scope(line, 0) == "variable.other.property.bcgraph"
    assert scope(line, 9) == "support.function.bcgraph"
    assert scope(line, line.index("0.5")) == "constant.numeric.bcgraph"
    assert scope(line, line.index('"x')) == "string.quoted.double.bcgraph"
    assert scope(line, line.index("# z")) == "comment.line.number-sign.bcgraph"
    assert scope("neuron leaky() {", 0) == "keyword.declaration.bcgraph"
    assert scope("layer2.0.lif1", 0) == "variable.other.port.bcgraph"
    assert scope("summary", 0) == ""


def test_the_grammar_by_its_own_tool() -> None:
    """`npm install` in editors/vscode brings the tool; without it the tests above have to do."""
    tool = VSCODE / "node_modules" / ".bin" / "vscode-tmgrammar-test"
    if shutil.which("node") is None or not tool.exists():
        pytest.skip("vscode-tmgrammar-test is not installed: `npm install` in editors/vscode")
    tests = sorted(map(str, (VSCODE / "test").glob("*.bcg")))
    done = subprocess.run([tool, "-g", GRAMMAR, *tests], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_the_extension_names_is_there() -> None:
    package = json.loads((VSCODE / "package.json").read_text())
    contributes = package["contributes"]
    named = [package["main"], contributes["languages"][0]["configuration"]]
    named += [each["path"] for each in (*contributes["grammars"], *contributes["snippets"])]
    for name in named:
        assert (VSCODE / name).is_file(), name
    program = (VSCODE / "extension.js").read_text()
    for command in contributes["commands"]:
        assert f'"{command["command"]}"' in program
    assert '"lsp"' in program
    assert '"draw"' in program


def test_snippets_are_texts_of_the_language() -> None:
    for name, snippet in json.loads((VSCODE / "snippets.json").read_text()).items():
        text = re.sub(r"\$\{\d+:([^}]*)\}", r"\1", "\n".join(snippet["body"]))
        whole = text if text.startswith("bcg 1") else f"bcg 1\n{text}\n" + NETWORK
        dsl.parse(whole), name
        assert dsl.format_text(text.rstrip("\n") + "\n") == text.rstrip("\n") + "\n", name


NETWORK = "network net { input = image(3, 32, 32); steps = 4; backbone = tiny() }\n"


def test_other_editors_start_the_same_server() -> None:
    helix = tomllib.loads((EDITORS / "helix" / "languages.toml").read_text())
    server = helix["language-server"]["bcgraph"]
    assert [server["command"], *server["args"]] == ["bcgraph", "lsp"]
    assert helix["language"][0]["file-types"] == ["bcg"]
    assert '{ "bcgraph", "lsp" }' in (EDITORS / "neovim" / "bcgraph.lua").read_text()
    emacs = (EDITORS / "emacs" / "bcgraph-mode.el").read_text()
    assert '("bcgraph" "lsp")' in emacs
    words = re.search(r"defconst bcgraph-words\s+'\(([^)]*)\)", emacs)
    assert words
    assert {*re.findall(r'"(\w+)"', words[1]), "true", "false"} == {*KEYWORDS, "forward"}

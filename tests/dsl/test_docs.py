"""`docs/language.md` is true: its examples are read, and its tables are those of the schema and the layers."""

import re
from pathlib import Path

import pytest

from bcgraph import dsl
from bcgraph.dsl import source, tokens, wording
from bcgraph.dsl.elaboration import sizes
from bcgraph.dsl.elaboration.layers import LAYERS
from bcgraph.dsl.elaboration.library import standard_names
from bcgraph.dsl.elaboration.reference import fill, settings_table
from tests.dsl.test_specs import BACKBONES

PAGE = (Path(__file__).parents[2] / "docs" / "language.md").read_text(encoding="utf-8")
# Whole files; parts of one are tested with the other blocks of all pages.
EXAMPLES = re.findall(r"```bcg\n(bcg 1\n.*?)```", PAGE, re.DOTALL)


def signature(name: str, heading: str) -> list[str]:
    """The arguments that the page gives a layer or backbone in the table under a heading."""
    section = PAGE.split(f"\n{heading}\n")[1].split("\n#")[0]
    found = re.search(rf"^\| .*`{name}\(([^`]*)\)`", section, re.MULTILINE)
    assert found is not None, name
    return [part.split("=")[0].strip() for part in found[1].split(",") if part]


@pytest.mark.parametrize("text", EXAMPLES, ids=range(len(EXAMPLES)))
def test_examples(text: str) -> None:
    spec = dsl.parse(text)
    assert dsl.parse(dsl.format_spec(spec)) == spec
    assert dsl.format_text(text) == text


def test_what_is_said_about_the_examples() -> None:
    assert len(EXAMPLES) == 4
    own = dsl.parse(EXAMPLES[2])
    assert own.ports == (
        "stem.lif", "left.lif", "lif", "a.lif", "b.lif", "2.lif", "3.lif",
    )  # fmt: skip
    assert own.backbone.body[0].name == "stem.conv"
    assert own.backbone.body[1].name == "stem.0"


def test_tables_of_settings() -> None:
    assert fill(PAGE) == PAGE
    assert PAGE.count("<!-- settings of ") == 14
    assert settings_table("Projection") == (
        "| setting | allowed | default |\n|---|---|---|\n| `kernel` | a whole number from 1 to 1000000 | `1` |\n"
        "| `gain` | a number from 0 to 100 | `1.0` |"
    )
    assert "| `train` | a whole number from 0 to 1000000 | `0` |" in settings_table("DataSpec")
    assert '| `root` | a string in double quotes | `"data"` |' in settings_table("DataSpec")
    with pytest.raises(LookupError):
        fill("<!-- settings of Nothing -->\n")


@pytest.mark.parametrize("name", LAYERS)
def test_layers(name: str) -> None:
    assert signature(name, "### Layers") == [p.name for p in LAYERS[name].parameters]


@pytest.mark.parametrize("name", BACKBONES)
def test_backbones(name: str) -> None:
    text = f"bcg 1\nnetwork a {{ input = image(2, 48, 48); steps = 1; backbone = {name} }}\n"
    spec = dsl.parse(text)
    assert signature(name, "## Backbones") == [argument for argument, _ in spec.backbone.call.arguments]
    row = next(line for line in PAGE.split("\n") if line.startswith(f"| `{name}("))
    assert row.split("|")[-2].strip() == str(len(spec.ports))


def test_words_and_bounds() -> None:
    for word in wording.KEYWORDS:
        assert f"`{word}`" in PAGE
    assert set(standard_names()) == {*BACKBONES, "residual", "sew", "ms", "vgg"}
    for bound in (tokens.MAX_TOKENS, sizes.MAX_LAYERS, sizes.MAX_PARAMETERS, sizes.MAX_UNROLLED):
        assert f"{bound:,}" in PAGE
    assert f"at most {tokens.MAX_DEPTH} levels" in PAGE
    assert sizes.MAX_ACTIVATIONS == sizes.MAX_PARAMETERS
    assert source.MAX_BYTES == 1024 * 1024

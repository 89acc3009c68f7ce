"""What users wrote who came from elsewhere: each gets one message, with the place and what to write."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from bcgraph import dsl, errors
from bcgraph.dsl.elaboration.vocabulary import peers
from bcgraph.dsl.elaboration.vocabulary.places import home, places
from bcgraph.errors import SpecError, closest, render, typing_errors
from tests.errors.cases import TINY, blocks, network
from tests.errors.test_cases import findings, under_caret


@dataclass(frozen=True)
class Habit:
    """A text, and the one thing that is said about it."""

    name: str
    text: str
    code: str
    caret: str
    message: str
    hint: str


END = ("lif1 = lif()", "flatten()", "fc = linear(10)")

HABITS = (
    Habit(
        "dots in a layer's name",
        blocks("layer1.conv = conv(8)", *END),
        "E010",
        "layer1.conv",
        "`layer1.conv` cannot be a name: it holds a dot",
        "write `layer1_conv`; dots come from blocks: a layer `conv` in a block that stands under `layer1`",
    ),
    Habit(
        "dots in a network's name",
        network(TINY).replace("network net", "network my.net"),
        "E010",
        "my.net",
        "`my.net` cannot be a name: it holds a dot",
        "write `my_net`",
    ),
    Habit(
        "ports by number without their sign",
        network(TINY, "backward 4 -> 1"),
        "E060",
        "4 -> 1",
        "a port by its number is written with `@`",
        "write `backward @4 -> @1`",
    ),
    Habit(
        "one port by number without its sign",
        network(TINY, "backward @4 -> 1"),
        "E060",
        "@4 -> 1",
        "a port by its number is written with `@`",
        "write `backward @4 -> @1`",
    ),
    Habit(
        "the same in a space",
        network(TINY, after="search { space { backward any -> any; forbid 4 -> 1 } }\n"),
        "E060",
        "4 -> 1",
        "a port by its number is written with `@`",
        "write `forbid @4 -> @1`",
    ),
    Habit(
        "a comment of C on a line of its own",
        "// my network\n" + network(TINY),
        "E010",
        "// my network",
        "a comment begins with `#`, not with `//`",
        "write `#` in place of `//`",
    ),
    Habit(
        "a comment of C behind a number",
        network(TINY).replace("steps = 4", "steps = 4   // the number of steps"),
        "E010",
        "// the number of steps",
        "a comment begins with `#`, not with `//`",
        "write `#` in place of `//`",
    ),
    Habit(
        "a comment of C behind a brace, with an apostrophe",
        network(TINY).replace("net {", "net { // don't (ask"),
        "E010",
        "// don't (ask",
        "a comment begins with `#`, not with `//`",
        "write `#` in place of `//`",
    ),
    Habit(
        "a comment of SQL",
        network(TINY, "backward @4 -> @1 -- the best one"),
        "E010",
        "-- the best one",
        "a comment begins with `#`, not with `--`",
        "write `#` in place of `--`",
    ),
    Habit(
        "a comment between stars",
        "/* my network */\n" + network(TINY),
        "E010",
        "/* my network */",
        "a comment begins with `#`, not with `/*`",
        "write `#` in place of `/*`",
    ),
    Habit(
        "a setting behind a connection",
        network(TINY, "backward @4 -> @1 delay = 2"),
        "E010",
        "delay = 2",
        "the settings of a connection stand in braces",
        "write `{ delay = 2 }`",
    ),
    Habit(
        "settings behind a connection, with commas",
        network(TINY, "backward @4 -> @1, delay = 2, through = project(kernel=3)"),
        "E010",
        "delay = 2, through = project(kernel=3)",
        "the settings of a connection stand in braces",
        "write `{ delay = 2; through = project(kernel = 3) }`",
    ),
    Habit(
        "a setting below a connection",
        network(TINY, "backward @4 -> @1", "delay = 2"),
        "E032",
        "delay",
        "there is no setting `delay` in a network",
        "`delay` is a setting of a connection: write `backward source -> target { delay = 2 }`",
    ),
    Habit(
        "the learning rate in train",
        network(TINY, after="train { lr = 0.1 }\n"),
        "E032",
        "lr",
        "there is no setting `lr` in `train`",
        "`lr` is an argument of `optimizer`: write `train { optimizer = adamw(lr=0.1) }`",
    ),
    Habit(
        "a setting of another section",
        network(TINY, after="search { epochs = 12 }\n"),
        "E032",
        "epochs",
        "there is no setting `epochs` in `search`",
        "`epochs` is a setting of `train`: write `train { epochs = 12 }`",
    ),
    Habit(
        "a time constant in place of a share",
        network(TINY, "neuron = lif(tau=2.0)"),
        "E041",
        "2.0",
        "`tau` cannot be 2",
        "allowed: 0 to 1; `tau` is the share of the membrane that is kept: SpikingJelly's time constant tau = 2 is "
        "`tau=0.5`, 1 - 1/tau; snnTorch's `beta` is `tau` as it stands",
    ),
    Habit(
        "snnTorch's name of the decay",
        network(TINY, "neuron = lif(beta=0.9)"),
        "E042",
        "beta",
        "`lif` has no argument `beta`",
        "snnTorch's `beta` is `tau` here, the share of the membrane that is kept: write `tau=0.9`",
    ),
    Habit(
        "SpikingJelly's name of the threshold, in a block",
        blocks("lif1 = lif(v_threshold=0.5)", *END[1:]),
        "E042",
        "v_threshold",
        "`lif` has no argument `v_threshold`",
        "SpikingJelly's `v_threshold` is `threshold` here",
    ),
    Habit(
        "a dash in a network's name",
        network(TINY).replace("network net", "network my-first-net"),
        "E010",
        "my-first-net",
        "`my-first-net` cannot be a name: it holds a dash",
        "a name has letters, digits and `_`: write `my_first_net`",
    ),
    Habit(
        "a dash in a layer's name",
        blocks("my-conv = conv(8)", *END),
        "E010",
        "my-conv",
        "`my-conv` cannot be a name: it holds a dash",
        "a name has letters, digits and `_`: write `my_conv`",
    ),
    Habit(
        "a misspelt setting that has to be there",
        network(TINY).replace("steps = 4", "setps = 4"),
        "E032",
        "setps",
        "there is no setting `setps` in a network",
        "did you mean `steps`?",
    ),
    Habit(
        "two letters swapped",
        network("backbone = resnet81()"),
        "E031",
        "resnet81",
        "there is no backbone `resnet81`",
        "did you mean `resnet18`?",
    ),
)


@pytest.mark.parametrize("habit", HABITS, ids=lambda habit: habit.name)
def test_one_message_says_what_to_write(habit: Habit) -> None:
    found = findings(habit.text)
    assert len(found) == 1, "\n".join(map(render, found))
    (one,) = found
    assert (one.code, under_caret(one), one.message, one.hint) == (habit.code, habit.caret, habit.message, habit.hint)


def test_what_was_meant_is_read_and_checked() -> None:
    text = network(TINY, "backward @4 -> @1 delay = 0 // none", "neuron = lif(tau=2.0)")
    assert [d.code for d in findings(text)] == ["E010", "E063", "E010", "E041"]


@pytest.mark.parametrize(
    "line",
    ["conv1 = conv(8 // 2)", "conv1 = conv(n-1)", "conv1 = conv(n - 1); bn1 = bn()", "if n-1 > 2 { conv1 = conv(8) }"],
)
def test_arithmetic_is_no_habit(line: str) -> None:
    dsl.parse(blocks(line, *END))


def test_a_missing_comma_after_a_division_is_no_comment() -> None:
    (found,) = findings(blocks("conv1 = conv(8 // 2 3)", *END))
    assert (found.code, under_caret(found)) == ("E010", "3")


@pytest.mark.parametrize("value", ['"open', "1" * 30, "[1, 5x]"])
def test_a_value_that_cannot_be_read_is_no_bug_of_ours(value: str) -> None:
    assert findings(network(TINY, f"delay = {value}"))


def test_a_long_text_of_habits_ends_fast() -> None:
    lines = "\n".join(f"  a-{i} = f(1, // a b" for i in range(5_000))
    with pytest.raises(SpecError) as caught:
        dsl.parse(f"bcg 1\nblock b() {{\n{lines}\n}}\n")
    assert len(caught.value.diagnostics) <= 50


def test_every_setting_knows_its_home() -> None:
    for path, place in places().items():
        for name in place.settings:
            hint = home(name, None)
            assert hint is not None, (path, name)
            assert f"`{name}` is a setting of" in hint
    assert home("momentum", None) == "`momentum` is an argument of `norm`: write `norm = bn(momentum=...)`"
    assert home("nothing", None) is None


def test_foreign_names_are_no_names_of_ours() -> None:
    for name, (ours, hint) in peers.NAMES.items():
        assert peers.renamed(name, (ours,), dsl.syntax.Number(0.5)) == hint(0.5)
        assert peers.renamed(name, (name, ours), dsl.syntax.Number(0.5)) is None
        assert peers.renamed(name, ("other",), dsl.syntax.Number(0.5)) is None


@pytest.mark.parametrize(
    ("first", "second", "errors"),
    [("resnet81", "resnet18", 1), ("resnet81", "resnet19", 2), ("steps", "setps", 1), ("", "ab", 2), ("lif", "lif", 0)],
)
def test_typing_errors(first: str, second: str, errors: int) -> None:
    assert typing_errors(first, second) == typing_errors(second, first) == errors


def test_the_closest_name_comes_first() -> None:
    assert closest("resnet81", ["resnet19", "resnet18", "vgg"], limit=2) == ["resnet18", "resnet19"]
    assert closest("x", ["resnet19"]) == []


def test_of_many_names_few_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[int] = []
    real = errors.get_close_matches

    def counted(name: str, known: list[str], **more: Any) -> list[str]:
        compared.append(len(known))
        return real(name, known, **more)

    monkeypatch.setattr(errors, "get_close_matches", counted)
    many = [f"port{number}" for number in range(10_000)]
    assert closest("port5000x", many) == ["port5000"]
    assert closest("xport5000", many) == ["port5000"]
    assert max(compared) <= 400

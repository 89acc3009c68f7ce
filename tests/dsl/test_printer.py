"""Canonical texts: they mean the specification they came from, and are the same for equal specifications."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bcgraph import dsl, schema
from bcgraph.dsl import printer, syntax
from bcgraph.dsl.elaboration import kinds
from bcgraph.dsl.parser import parse_file
from bcgraph.dsl.source import Reporter, Source
from bcgraph.dsl.unparse import _definition, expression
from bcgraph.errors import SpecError
from tests.dsl.strategies import BLOCKS, expressions, networks, specs

TINY = "bcg 1\nnetwork net { input = image(1, 8, 8); steps = 2; backbone = tiny()\n%s}\n"


def tree(text: str) -> syntax.File:
    reporter = Reporter()
    file = parse_file(Source.of(text, "<text>"), reporter)
    reporter.check()
    return file


@settings(max_examples=40, deadline=None)
@given(specs())
def test_a_canonical_text_means_its_specification(spec: schema.NetworkSpec) -> None:
    text = dsl.format_spec(spec)
    again = dsl.parse(text)
    assert again == spec
    assert hash(again) == hash(spec)
    assert again.fingerprint() == spec.fingerprint()
    assert dsl.format_spec(again) == text
    assert dsl.format_text(text) == text


@settings(max_examples=15, deadline=None)
@given(networks(), st.randoms(use_true_random=False))
def test_equal_specifications_have_equal_texts(text: str, rng: random.Random) -> None:
    spec = dsl.parse(text)
    pairs = [(j, i, 1 + (i + j) % 2) for j in range(len(spec.ports)) for i in range(j + 1)][:6]
    spec = spec.with_backward(pairs)
    rng.shuffle(pairs)
    other = dsl.parse(dsl.format_text(text)).with_backward(pairs)
    assert other == spec
    assert dsl.format_spec(other) == dsl.format_spec(spec)


@pytest.mark.parametrize(
    "call", ["resnet18(64, 10)", "resnet18()", "resnet18(classes=10, width=2 * 32, residual=true)"]
)
def test_however_arguments_are_given_the_text_is_the_same(call: str) -> None:
    text = dsl.format_spec(dsl.parse(TINY.replace("tiny()", call) % ""))
    assert "backbone = resnet18(width=64, classes=10, residual=true)" in text


def test_what_goes_beyond_the_paper_is_written_where_it_is_on() -> None:
    sections = "data = folder(augment=%s)\ntrain { clip = %s; accumulate = %s; ema = 0; mean_squared = 0.0 }\n"
    plain = dsl.parse(TINY % "" + sections % ("true", "0", "1"))
    assert plain == dsl.parse(TINY % "" + "data = folder\n")
    text = dsl.format_spec(plain)
    assert 'data = folder(root="data", batch=128)\n' in text
    assert text.endswith("  schedule  = cosine(warmup=0)\n}\n")
    text = dsl.format_spec(dsl.parse(TINY % "" + sections % ("false", "0.5", "2")))
    assert 'data = folder(root="data", batch=128, augment=false)\n' in text
    assert text.endswith("  schedule   = cosine(warmup=0)\n  accumulate = 2\n  clip       = 0.5\n}\n")
    known = {
        *schema.DataSpec.model_fields,
        *schema.TrainSpec.model_fields,
        *schema.FinishSpec.model_fields,
        *schema.EvolveSpec.model_fields,
        *schema.SearchSpec.model_fields,
        *kinds.fields(schema.Norm),
    }
    assert set(printer._EXTRA) < known


def test_a_gain_is_written_where_it_is_not_the_papers() -> None:
    text = (
        "norm = bn(gain=2)\nfeedback = project(gain=0.1)\nbackward @4 -> @0 { gain = 0 }\n"
        "backward @3 -> @0 { gain = 0.5; delay = 2 }\nbackward @3 -> @3\n"
    )
    spec = dsl.parse(TINY % text)
    assert spec.gains == ((3, 0, 0.5), (3, 3, 0.1), (4, 0, 0.0))
    written = [" ".join(line.split()) for line in dsl.format_spec(spec).split("\n") if "gain" in line or "->" in line]
    assert written == [
        "norm = bn(eps=1e-05, momentum=0.1, statistics=shared, gain=2.0)",
        "feedback = project(gain=0.1)",
        "backward layer2.0.lif1 -> lif1 { delay = 2; gain = 0.5 }",
        "backward layer2.0.lif1 -> layer2.0.lif1",
        "backward layer2.0.lif2 -> lif1 { gain = 0.0 }",
    ]
    assert dsl.parse(dsl.format_spec(spec)) == spec
    assert "gain" not in dsl.format_spec(
        dsl.parse(TINY % "norm = bn(gain=1)\nfeedback = project()\nbackward @4 -> @0\n")
    )


def test_a_gain_means_the_same_from_the_connection_and_from_the_network() -> None:
    own = dsl.parse(TINY % "feedback = project(gain=0.1)\nbackward @4 -> @0 { gain = 0.1 }\n")
    given = dsl.parse(TINY % "feedback = project(gain=0.1)\nbackward @4 -> @0\n")
    other = dsl.parse(TINY % "feedback = project(gain=0.1)\nbackward @4 -> @0 { gain = 0.2 }\n")
    assert own == given
    assert hash(own) == hash(given)
    assert own != other
    # Weights fit whatever they start from.
    assert own.fingerprint() == other.fingerprint() == dsl.parse(TINY % "backward @4 -> @0\n").fingerprint()


def test_settings_that_came_later_leave_no_trace_where_they_are_not_used() -> None:
    plain = dsl.parse(TINY % "backward @4 -> @0\n")
    assert "gain" not in plain.model_dump_json()
    assert "feedback" not in plain.model_dump_json()
    assert plain.fingerprint() == "21af8c9a664deb34c2839f2ddffaadf5a8449da680f9c5c29897c2d664cc7004"


def test_connections_are_sorted_and_named() -> None:
    spec = dsl.parse(TINY % "backward @4 -> @0\nbackward @2 -> @1 { delay = 1 }\nbackward @2 -> @2 { delay = 3 }\n")
    lines = [line for line in dsl.format_spec(spec).split("\n") if "->" in line]
    assert lines == [
        "  backward layer1.0.lif2 -> layer1.0.lif1",
        "  backward layer1.0.lif2 -> layer1.0.lif2 { delay = 3 }",
        "  backward layer2.0.lif2 -> lif1",
    ]


def test_the_canonical_text_in_full() -> None:
    text = (
        "bcg 1\nblock unused() { }\nblock body(n, on=true) { b=unit( n+1 ) # note\n\n\n"
        "sum{branch{c=conv(n,kernel=1)};branch if on{d=conv(n)}};flatten();fc=linear(2)}\n"
        "block unit(n) { repeat i in range(2) { if i==0 {[i] = conv((n))} else if i==1 { [i]=lif() } } }\n"
        "network net { steps=2; backbone=body(3); input=image(1,4,4); norm=bn(statistics=per_step)\n"
        "backward @0->@0 }\n"
    )
    assert dsl.format_spec(dsl.parse(text)) == (
        "bcg 1\n"
        "\n"
        "block unit(n) {\n"
        "  repeat i in range(2) {\n"
        "    if i == 0 {\n"
        "      [i] = conv(n)\n"
        "    } else if i == 1 {\n"
        "      [i] = lif()\n"
        "    }\n"
        "  }\n"
        "}\n"
        "\n"
        "block body(n, on=true) {\n"
        "  b = unit(n + 1)\n"
        "  sum {\n"
        "    branch {\n"
        "      c = conv(n, kernel=1)\n"
        "    }\n"
        "    branch if on {\n"
        "      d = conv(n)\n"
        "    }\n"
        "  }\n"
        "  flatten()\n"
        "  fc = linear(2)\n"
        "}\n"
        "\n"
        "network net {\n"
        "  input    = image(1, 4, 4)\n"
        "  steps    = 2\n"
        "  readout  = mean\n"
        "  neuron   = lif(tau=0.5, threshold=1.0, reset=hard, surrogate=triangle(width=1.0), detach_reset=false)\n"
        "  norm     = bn(eps=1e-05, momentum=0.1, statistics=per_step)\n"
        "  backbone = body(n=3, on=true)\n"
        "\n"
        "  backward b.1 -> b.1\n"
        "}\n"
        "\n"
        'data = digits(root="data", batch=128)\n'
        "\n"
        "search {\n"
        "  max_backward    = 2\n"
        "  same_resolution = false\n"
        "  init     { pool = 2000; keep = 20; scores = [n, e]; batch = 64 }\n"
        "  supernet { epochs = 100; recalibrate = 0 }\n"
        "  evolve   { strategy = evolutionary; score = oneshot; iterations = 20; top = 10\n"
        "             population = 20; offspring = 10; mutation = 0.2; crossover = 0.5 }\n"
        "}\n"
        "\n"
        "train {\n"
        "  epochs    = 300\n"
        "  loss      = tet\n"
        "  optimizer = adamw(lr=0.01, weight_decay=0.02)\n"
        "  schedule  = cosine(warmup=0)\n"
        "}\n"
    )


def test_a_name_that_no_text_can_have() -> None:
    spec = dsl.parse(TINY % "")
    for name in ("a b", "", "network", "1a", "é"):
        with pytest.raises(SpecError) as caught:
            dsl.format_spec(schema.NetworkSpec(**{**spec.__dict__, "name": name}))
        assert caught.value.code == "E005"


@settings(max_examples=150, deadline=None)
@given(expressions())
def test_a_printed_expression_is_read_as_itself(node: syntax.Expression) -> None:
    (statement,) = tree(f"x = {expression(node)}").statements
    assert isinstance(statement, syntax.Assign)
    assert statement.value == node


@settings(max_examples=60, deadline=None)
@given(BLOCKS)
def test_a_printed_block_is_read_as_itself(block: syntax.Block) -> None:
    printed = "\n".join(_definition(block))
    assert tree(printed).statements == (block,)
    assert tree(dsl.format_text(printed)).statements == (block,)

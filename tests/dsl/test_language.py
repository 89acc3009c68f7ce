"""What the language means: names, branches, repetition, expressions, and the settings of a network."""

from pathlib import Path

import pytest

from bcgraph import dsl, schema
from bcgraph.errors import SpecError
from tests import neurons

DESIGN = Path(__file__).parents[2] / "specs" / "resnet18_cifar10.bcg"


def network(
    block: str, *settings: str, size: str = "3, 8, 8", call: str = "body()", steps: int = 2
) -> schema.NetworkSpec:
    lines = "\n".join(settings)
    return dsl.parse(
        f"bcg 1\n{block}\nnetwork net {{ input = image({size}); steps = {steps}; backbone = {call}\n{lines}\n}}\n"
    )


def body(*lines: str, **options: str) -> schema.Body:
    """The layers of a block with these lines, ended by a LIF, `flatten` and a linear layer, which are cut off."""
    text = "\n".join(lines)
    return network(f"block body() {{\n{text}\nlast = lif(); flatten(); fc = linear(2)\n}}", **options).backbone.body[
        :-3
    ]


def names(layers: schema.Body) -> list[str]:
    return [layer.name for layer in schema.walk(layers)]


def test_the_example_means_what_it_says() -> None:
    spec = dsl.load(DESIGN)
    assert spec.name == "resnet18_cifar10"
    assert spec.input == schema.ImageInput(3, 32, 32)
    assert (spec.steps, spec.readout) == (4, "mean")
    assert spec.neuron == neurons.lif()
    assert spec.norm == schema.Norm()
    assert spec.backbone.call == schema.Call("resnet18", (("width", 64), ("classes", 10), ("residual", True)))
    assert spec.backbone.source == ""
    assert [(spec.ports[bc.source], spec.ports[bc.target], bc.delay) for bc in spec.backward] == [
        ("layer4.1.lif2", "lif1", 1),
        ("layer2.1.lif2", "layer1.0.lif2", 1),
        ("layer1.1.lif1", "layer1.1.lif1", 2),
    ]
    assert [(bc.source, bc.target) for bc in spec.backward] == [(16, 0), (8, 2), (3, 3)]
    assert spec.backward[1].span is not None
    assert str(spec.backward[1].span) == f"{DESIGN}:11:12"
    assert spec.data == schema.DataSpec(name="cifar10", root="data", batch=128)
    assert spec.search == schema.SearchSpec()
    assert spec.train == schema.TrainSpec()


def test_only_a_network_is_needed() -> None:
    spec = dsl.parse("bcg 1\nnetwork net { input = image(1, 8, 8); steps = 2; backbone = tiny }\n")
    assert (spec.data, spec.search, spec.train) == (schema.DataSpec(), schema.SearchSpec(), schema.TrainSpec())
    assert spec.readout == "mean"
    assert spec.backward == ()


def test_names_are_complete() -> None:
    inner = "block unit(n) { conv = conv(n); 0 = bn() }\nblock pair(n) { repeat i in range(1, 3) { [i] = unit(n) } }\n"
    spec = network(inner + "block body() { a = pair(4); [2 + 3] = lif(); flatten(); fc = linear(2) }")
    assert names(spec.backbone.body) == ["a.1.conv", "a.1.0", "a.2.conv", "a.2.0", "5", "flatten", "fc"]
    assert spec.ports == ("5",)


def test_layers_without_a_name_get_one() -> None:
    layers = body(
        "avgpool(2); dropout(0.1); avgpool(1)", "flatten()", "sum { branch { }; branch { } }", "flatten2 = flatten()"
    )
    assert names(layers) == ["avgpool", "dropout", "avgpool2", "flatten", "sum", "flatten2"]
    spec = network("block body() { flatten(); flatten2 = dropout(0.5); l = lif(); flatten(); fc = linear(2) }")
    assert names(spec.backbone.body) == ["flatten", "flatten2", "l", "flatten3", "fc"]


def test_joins_are_named_and_numbered() -> None:
    layers = body(
        "sum { branch { a = conv(3) }; branch { } }",
        "concat { branch { b = conv(3) }; branch { } }",
        "sum { branch { concat { branch { c = conv(2) }; branch { d = conv(4) } } }; branch { } }",
    )
    assert names(layers) == ["a", "sum", "b", "concat", "c", "d", "concat2", "sum2"]
    join = layers[-1]
    assert isinstance(join, schema.Sum)
    assert [len(branch) for branch in join.branches] == [1, 0]


def test_a_join_of_one_branch_is_that_branch() -> None:
    assert body("sum { branch { a = conv(3) }; branch if false { b = conv(9) } }") == body("a = conv(3)")
    assert body("concat { branch if 1 > 2 { a = conv(3) } }") == ()


def test_the_ports_follow_the_order_of_the_text() -> None:
    text = "block body() { sum { branch { b = lif() }; branch { a = lif() } }; c = lif(); flatten(); fc = linear(2) }"
    assert network(text).ports == ("b", "a", "c")


def test_conditions_and_repetition() -> None:
    layers = body(
        "repeat i in range(4) {",
        "  if i == 0 { [i] = conv(2) } else if i == 1 or i == 2 { [i] = bn() } else { [i] = dropout(0.5) }",
        "}",
        "repeat i in range(0) { x = conv(3) }",
    )
    assert [(layer.name, layer.kind) for layer in layers] == [("0", "conv"), ("1", "bn"), ("2", "bn"), ("3", "dropout")]


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("1 + 2 * 3", 7),
        ("(1 + 2) * 3", 9),
        ("7 // 2", 3),
        ("7 % 4", 3),
        ("- -5", 5),
        ("10 - 2 - 3", 5),
        ("8 // 4 // 2", 1),
        ("4 if 1 < 2 else 5", 4),
        ("4 if not true else 5 if false else 6", 6),
        ("input.channels * 2", 6),
        ("input.height + input.width", 14),
        ("2 if 3 >= 3 and 2 != 3 else 1", 2),
        ("2 if false or false == false else 1", 2),
        ("2 if true or 1 // 0 == 1 else 1", 2),
        ("2 if 4 / 2 == 2 else 1", 2),
    ],
)
def test_expressions(expression: str, value: int) -> None:
    (layer,) = body(f"a = conv({expression})", size="3, 8, 6")
    assert isinstance(layer, schema.Conv)
    assert layer.channels == value


def test_the_input_is_what_enters_the_block() -> None:
    text = """
    block inner() { a = conv(2 * input.channels); b = conv(2 * input.channels); c = unit() }
    block unit() { d = conv(input.channels, kernel=input.height) }
    block body() { x = conv(5); y = inner(); l = lif(); flatten(); z = head(); fc = linear(2) }
    block head() { fc = linear(input.features // 2) }
    """
    layers = {layer.name: layer for layer in network(text).backbone.body}
    assert [layers[name].channels for name in ("y.a", "y.b", "y.c.d")] == [10, 10, 10]  # type: ignore[union-attr]
    assert layers["y.c.d"].kernel == 8  # type: ignore[union-attr]
    assert layers["z.fc"].features == 10 * 7 * 7 // 2  # type: ignore[union-attr]


def test_parameters_have_defaults_that_may_use_those_before_them() -> None:
    text = "block body(a, b=2 * a, c=true, d=hard) {\n"
    text += "x = conv(a); y = conv(b, bias=c); l = lif(reset=d); flatten(); f = linear(1) }"
    spec = network(text, call="body(3)")
    assert spec.backbone.call == schema.Call("body", (("a", 3), ("b", 6), ("c", True), ("d", "hard")))
    assert network(text, call="body(c=false, a=1 + 2, b=1, d=soft)").backbone.call.arguments == (
        ("a", 3),
        ("b", 1),
        ("c", False),
        ("d", "soft"),
    )


def test_words_are_those_that_definitions_compare_with() -> None:
    """Also a neuron of one's own, whose words go through two blocks to it, and a block that asks in a condition."""
    text = "neuron own(back=zero) { require(back == zero or back == below)\n"
    text += "state v = 0; u = v + I; s = spike(u - 1, triangle()); v = u if back == zero else u - s }\n"
    text += "block part(back, kind=left) { require(kind == left or kind == right); l = own(back=back) }\n"
    text += "block body(mode=below) { x = conv(2); p = part(mode, kind=right); flatten(); f = linear(1) }"
    assert network(text).backbone.call.arguments == (("mode", "below"),)
    assert network(text, call="body(zero)").backbone.call.arguments == (("mode", "zero"),)
    for place, right, wrong, code, message, hint in (
        ("mode", "below", "belw", "E030", "`belw` is not defined here", "did you mean `below`?"),
        ("kind", "right", "rigt", "E043", "`kind` of `part` cannot be `rigt`", "(allowed: `left`, `right`)"),
    ):
        with pytest.raises(SpecError) as caught:
            network(text.replace(f"{place}={right}", f"{place}={wrong}"))
        found = caught.value.diagnostics[0]
        assert (found.code, found.message) == (code, message)
        assert f"did you mean `{right}`?" in str(found.hint)
        assert hint in str(found.hint)


def test_arguments_of_layers() -> None:
    layers = body(
        "a = conv(8, 5, 2, 1, groups=1, bias=true)",
        "b = conv(channels=4, kernel=3, dilation=2)",
        "c = conv(4, kernel=2)",
        "avgpool(2)",
        "maxpool(3, stride=1, padding=1)",
        "d = bn(eps=1, statistics=per_step)",
        "e = lif(0, 2, soft, surrogate=triangle(2), detach_reset=true)",
        "adaptive_avgpool()",
        "adaptive_maxpool(size=1)",
        "dropout(p=0)",
        size="3, 24, 24",
    )
    expected = (
        schema.Conv(name="a", channels=8, kernel=5, stride=2, padding=1, bias=True),
        schema.Conv(name="b", channels=4, kernel=3, padding=2, dilation=2),
        schema.Conv(name="c", channels=4, kernel=2, padding=0),
        schema.Pool(name="avgpool", kind="avgpool", kernel=2, stride=2),
        schema.Pool(name="maxpool", kind="maxpool", kernel=3, stride=1, padding=1),
        schema.BatchNorm(name="d", norm=schema.Norm(1.0, 0.1, "per_step")),
        schema.NeuronLayer(name="e", neuron=neurons.lif(0.0, 2.0, "soft", 2.0, True)),
        schema.AdaptivePool(name="adaptive_avgpool", kind="adaptive_avgpool"),
        schema.AdaptivePool(name="adaptive_maxpool", kind="adaptive_maxpool"),
        schema.Dropout(name="dropout", probability=0.0),
    )
    assert layers == expected


def test_neuron_and_norm_of_the_network_are_the_defaults_of_its_layers() -> None:
    text = "block body() { a = bn(eps=0.5); b = bn(); c = lif(tau=0.25); d = lif(); flatten(); f = linear(1) }"
    spec = network(text, "neuron = lif(tau=1, reset=soft)", "norm = bn(momentum=0.2)")
    a, b, c, d = spec.backbone.body[:4]
    assert a == schema.BatchNorm(name="a", norm=schema.Norm(eps=0.5, momentum=0.2))
    assert b == schema.BatchNorm(name="b", norm=schema.Norm(momentum=0.2))
    assert c == schema.NeuronLayer(name="c", neuron=neurons.lif(tau=0.25, reset="soft"))
    assert d == schema.NeuronLayer(name="d", neuron=neurons.lif(tau=1.0, reset="soft"))


def test_sections_take_every_setting_of_the_schema() -> None:
    spec = network(
        "",
        "}",
        'data = folder(root="a \\"b\\" \\u{e9}\\n", batch=7)',
        "search { max_backward = 3; same_resolution = true",
        "init { pool = all; keep = 2; scores = [e]; batch = 5 }",
        "supernet { epochs = 7; recalibrate = 3 }",
        "evolve { strategy = tpe; score = n; iterations = 1; top = 2; population = 3; offspring = 0",
        "mutation = 1; crossover = 0 } }",
        "train { epochs = 2; loss = last; optimizer = sgd(lr=1, momentum=0.5, weight_decay=0, nesterov=true)",
        "schedule = step(every=3, gamma=0.5, warmup=1)",
        call="tiny()",
    )
    assert spec.data == schema.DataSpec(name="folder", root='a "b" é\n', batch=7)
    assert spec.search == schema.SearchSpec(
        max_backward=3,
        same_resolution=True,
        init=schema.InitSpec(pool="all", keep=2, scores=("e",), batch=5),
        supernet=schema.SupernetSpec(epochs=7, recalibrate=3),
        evolve=schema.EvolveSpec(
            strategy="tpe", score="n", iterations=1, top=2, population=3, offspring=0, mutation=1.0, crossover=0.0
        ),
    )
    assert spec.train == schema.TrainSpec(
        epochs=2,
        loss="last",
        optimizer=schema.SGD(lr=1.0, momentum=0.5, weight_decay=0.0, nesterov=True),
        schedule=schema.StepDecay(every=3, gamma=0.5, warmup=1),
    )


def test_settings_of_a_search_in_one_run() -> None:
    written = "gain = 0.2; penalty = 0; keep = 3; stages = 1; prune_until = 0.25; extra_operations = 0.5"
    spec = network("", "}", f"search {{ evolve {{ strategy = gains; {written} }}", call="tiny")
    assert spec.search.evolve == schema.EvolveSpec(
        strategy="gains", gain=0.2, penalty=0.0, keep=3, stages=1, prune_until=0.25, extra_operations=0.5
    )
    for setting in ("gain = 0.2", "penalty = 0.0", "keep = 3", "stages = 1", "prune_until = 0.25"):
        assert setting in dsl.format_spec(spec)
    assert dsl.parse(dsl.format_spec(spec)) == spec
    assert spec.search.evolve.model_dump()["extra_operations"] == 0.5
    # Other searches know nothing of these settings: their texts and identities stay as they were.
    other = schema.EvolveSpec()
    assert not {"gain", "penalty", "keep", "stages", "prune_until", "extra_operations"} & other.model_dump().keys()
    assert "penalty" not in dsl.format_spec(network("", call="tiny"))


def test_calls_without_arguments_need_no_parentheses() -> None:
    spec = network("", "}", "data = digits", "train { optimizer = sgd; schedule = constant", call="tiny")
    assert spec.data == schema.DataSpec(name="digits")
    assert spec.train == schema.TrainSpec(optimizer=schema.SGD(), schedule=schema.Constant())


def test_a_block_of_ones_own_takes_the_place_of_a_standard_one_only_in_ones_own_text() -> None:
    own = "block basic(channels, stride=1, residual=true) { conv = conv(channels); lif = lif() }\n"
    assert network(own, call="tiny()") == network("", call="tiny()")
    tiny = "block tiny() { x = basic(3); flatten(); fc = linear(2) }\n"
    assert network(own + tiny, call="tiny()").ports == ("x.lif",)


def test_parts_of_the_standard_library_can_be_imported() -> None:
    text = 'import "residual.bcg"\nblock body() { a = basic(4); flatten(); fc = linear(2) }'
    spec = network(text)
    assert spec.ports == ("a.lif1", "a.lif2")
    assert "block shortcut(" in spec.backbone.source
    assert dsl.parse(dsl.format_spec(spec)) == spec


def test_ports_can_begin_with_a_number() -> None:
    text = "block u() { 1 = lif(); e5 = lif(); 2 = v() }\nblock v() { 3 = lif() }\n"
    text += "block body() { 0 = u(); 7 = lif(); flatten(); fc = linear(2) }"
    spec = network(text, "backward 0.1 -> 0.1", "backward 7 -> 0.e5", "backward 0.2.3 -> 0.2.3", "backward 7 -> @0")
    assert spec.ports == ("0.1", "0.e5", "0.2.3", "7")
    assert sorted((bc.source, bc.target) for bc in spec.backward) == [(0, 0), (2, 2), (3, 0), (3, 1)]
    assert dsl.parse(dsl.format_spec(spec)) == spec


def test_words_that_are_keywords_cannot_be_layers() -> None:
    with pytest.raises(SpecError) as caught:
        body("branch = conv(3)")
    assert caught.value.code == "E010"


def test_layers_know_where_they_stand() -> None:
    spec = dsl.parse(
        "bcg 1\nblock body() {\n  a = conv(3); l = lif()\n  flatten()\n  fc = linear(2)\n}\n"
        "network net { input = image(3, 8, 8); steps = 1; backbone = body() }\n",
        file="x.bcg",
    )
    places = [str(layer.span) for layer in spec.backbone.body]
    assert places == ["x.bcg:3:7", "x.bcg:3:20", "x.bcg:4:3", "x.bcg:5:8"]

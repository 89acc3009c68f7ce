"""Registered layers: in texts, in every schedule and target, in a search; and rules that lie."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import bcgraph
from bcgraph.compiler.export import tables
from bcgraph.compiler.ir import Edge, Node, Value
from bcgraph.compiler.ops import OPS
from bcgraph.compiler.targets.fx import nodes as fx_nodes
from bcgraph.compiler.targets.nir import emitter as nir_emitter
from bcgraph.compiler.targets.nir import limits
from bcgraph.compiler.targets.onnx import emitter as onnx_emitter
from bcgraph.compiler.targets.python import file as python_emitter
from bcgraph.errors import Span
from bcgraph.memory import ran_out
from bcgraph.schema import Registered, Standard
from tests.plugins.conftest import Install

NET = """bcg 1
block body(classes=10) {
  conv1 = conv(4); lif1 = lif()
  gate1 = gate(strength=1.5)
  conv2 = conv(4, stride=2); lif2 = lif()
  flatten(); fc = linear(classes)
}
network net { input = image(1, 8, 8); steps = 3; backbone = body(); backward @1 -> @0; backward @1 -> @1 { delay = 2 } }
"""


class Gate(nn.Module):
    """Squeeze and excitation: each channel times a learned function of all of them."""

    def __init__(self, given: tuple[int, ...], strength: float, bias: bool) -> None:
        super().__init__()
        self.strength = strength
        self.inner = nn.Sequential(nn.Linear(given[0], given[0], bias=bias), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        gates: Tensor = self.inner(x.mean((2, 3)))
        return x * (self.strength * gates)[:, :, None, None]


def same(given: tuple[int, ...], strength: float = 1.0, bias: bool = True) -> tuple[int, ...]:
    if len(given) != 3:
        raise ValueError("a gate needs an image")
    return given


def onnx(build: Any, x: Any, strength: float, bias: bool) -> Any:
    mean = build.op("Flatten", build.op("GlobalAveragePool", x), axis=1)
    parts = [build.weight("inner.0.weight"), *([build.weight("inner.0.bias")] if bias else [])]
    gates = build.op("Mul", build.op("Sigmoid", build.op("Gemm", mean, *parts, transB=1)), strength)
    shape = build.op("Shape", build.op("GlobalAveragePool", x))
    return build.op("Mul", x, build.op("Reshape", gates, shape))


def python(x: str, weight: Callable[[str], str], strength: float, bias: bool) -> str:
    parts = ", ".join(weight(f"inner.0.{p}") for p in ("weight", *(["bias"] if bias else [])))
    return f"{x} * ({strength} * torch.sigmoid(F.linear({x}.mean((2, 3)), {parts})))[:, :, None, None]"


def register(**changes: Any) -> None:
    parts: dict[str, Any] = {
        "module": Gate,
        "shape": same,
        "operations": lambda given, strength, bias: given[0] ** 2,
        "parameters": lambda given, strength, bias: given[0] * (given[0] + bias),
        "emitters": {"onnx": onnx, "python": python},
    }
    bcgraph.register.layer("gate", **{**parts, **changes})


def test_a_text_with_the_layer_is_a_specification() -> None:
    register()
    spec = bcgraph.parse(NET)
    assert bcgraph.parse(bcgraph.format(spec)) == spec
    assert "gate(strength=1.5)" in bcgraph.format(spec)
    (layer,) = (n for n in spec.backbone.body if isinstance(n, Registered))
    assert layer.arguments == (("strength", 1.5), ("bias", True))
    other = bcgraph.parse(NET.replace("1.5", "2"))
    assert other.fingerprint() != spec.fingerprint()
    text = bcgraph.compiler.graph_text(bcgraph.compiler.lower(spec))
    assert "%gate1 = registered(%lif1.s) : 4x8x8 {gate, strength=1.5, bias=True}" in text


@pytest.mark.parametrize(
    ("call", "code", "words"),
    [
        ("gate(strenght=1)", "E042", "did you mean `strength`?"),
        ("gate(strength=true)", "E040", "`strength` needs a number"),
        ("gat()", "E031", "did you mean `gate`?"),
    ],
)
def test_its_arguments_are_checked_where_they_stand(call: str, code: str, words: str) -> None:
    register()
    with pytest.raises(bcgraph.BcgraphError, match=words.replace("?", r"\?")) as caught:
        bcgraph.parse(NET.replace("gate(strength=1.5)", call))
    assert caught.value.code == code
    assert caught.value.span is not None
    assert caught.value.span.line == 4


def test_a_shape_that_does_not_fit_is_refused_where_it_stands() -> None:
    register()
    with pytest.raises(bcgraph.BcgraphError, match="a gate needs an image") as caught:
        bcgraph.parse(NET.replace("flatten();", "flatten(); g = gate();"))
    assert caught.value.code == "E050"


def reference(x: Tensor, state: dict[str, Tensor]) -> Tensor:
    """The network in plain PyTorch, step by step, in eval mode."""

    def lif(u: Tensor) -> tuple[Tensor, Tensor]:
        s = (u > 1).to(u.dtype)
        return s, u * (1 - s)

    def feedback(s: Tensor, name: str, size: int) -> Tensor:
        s = nn.functional.interpolate(s, size=(size, size), mode="nearest")
        s = nn.functional.conv2d(s, state[f"{name}.conv.weight"])
        parts = [state[f"{name}.bn.{p}"] for p in ("running_mean", "running_var", "weight", "bias")]
        return nn.functional.batch_norm(s, *parts, eps=1e-5)

    v1 = torch.zeros(len(x), 4, 8, 8, dtype=x.dtype)
    v2 = torch.zeros(len(x), 4, 4, 4, dtype=x.dtype)
    sent: list[Tensor] = []
    outputs = []
    for t in range(3):
        current = nn.functional.conv2d(x, state["conv1.weight"], padding=1)
        if t >= 1:
            current = current + feedback(sent[t - 1], "backward.1_0", 8)
        s1, v1 = lif(0.5 * v1 + current)
        gates = torch.sigmoid(
            nn.functional.linear(s1.mean((2, 3)), state["gate1.inner.0.weight"], state["gate1.inner.0.bias"])
        )
        gated = s1 * (1.5 * gates)[:, :, None, None]
        current = nn.functional.conv2d(gated, state["conv2.weight"], stride=2, padding=1)
        if t >= 2:
            current = current + feedback(sent[t - 2], "backward.1_1", 4)
        s2, v2 = lif(0.5 * v2 + current)
        sent.append(s2)
        outputs.append(nn.functional.linear(s2.flatten(1), state["fc.weight"], state["fc.bias"]))
    return torch.stack(outputs)


def loud(model: nn.Module) -> None:
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "conv" in name:
                p.mul_(4)


@pytest.mark.parametrize("inference", [False, True])
@pytest.mark.parametrize("schedule", ["unrolled", "folded"])
def test_every_schedule_computes_it(schedule: str, inference: bool) -> None:
    register()
    spec = bcgraph.parse(NET)
    model = bcgraph.compile(spec, schedule, dtype=torch.float64, inference=inference).eval()
    loud(model)
    x = torch.rand(5, 1, 8, 8, dtype=torch.float64)
    expected = reference(x, model.state_dict())
    with torch.no_grad():
        assert torch.allclose(model(x), expected, rtol=0, atol=1e-9)
    assert len({tuple(row.tolist()) for row in expected[1]}) > 1
    copied = copy.deepcopy(model)
    with torch.no_grad():
        assert torch.equal(copied(x), model(x))


def test_the_step_schedule_and_training() -> None:
    register()
    spec = bcgraph.parse(NET)
    step = bcgraph.compile(spec, "step", dtype=torch.float64).eval()
    loud(step)
    x = torch.rand(5, 1, 8, 8, dtype=torch.float64)
    states = step.initial_states(x)
    outputs = []
    for _ in range(3):
        output, *states = step(x, *states)
        outputs.append(output)
    assert torch.allclose(torch.stack(outputs), reference(x, step.state_dict()), rtol=0, atol=1e-9)
    gradients = []
    for schedule, recompute in (("unrolled", False), ("folded", False), ("unrolled", True)):
        model = bcgraph.compile(spec, schedule, dtype=torch.float64, recompute=recompute)
        loud(model)
        model(x).square().sum().backward()
        gradients.append({n: p.grad for n, p in model.named_parameters()})
    assert gradients[0]["gate1.inner.0.weight"].abs().sum() > 0
    for other in gradients[1:]:
        for name, value in gradients[0].items():
            assert torch.allclose(value, other[name], rtol=1e-6, atol=1e-12), name


def test_weights_follow_from_the_seed_and_the_name_alone() -> None:
    register()
    spec = bcgraph.parse(NET)
    torch.manual_seed(1)
    first = bcgraph.compile(spec, seed=3).state_dict()
    torch.manual_seed(2)
    state = torch.get_rng_state()
    second = bcgraph.compile(spec, "folded", seed=3).state_dict()
    assert torch.equal(torch.get_rng_state(), state)
    assert list(first) == list(second)
    assert all(torch.equal(first[name], second[name]) for name in first)
    other = bcgraph.compile(spec, seed=4).state_dict()
    assert not torch.equal(first["gate1.inner.0.weight"], other["gate1.inner.0.weight"])


@pytest.mark.parametrize(
    ("ending", "form"),
    [(".onnx", "unrolled"), (".onnx", "step"), (".onnx", "scan"), (".py", "unrolled"), (".pt2", "unrolled")],
)
def test_targets_carry_it(tmp_path: Path, ending: str, form: str) -> None:
    register()
    spec = bcgraph.parse(NET)
    model = bcgraph.compile(spec)
    loud(model)
    report = bcgraph.export(spec, tmp_path / f"net{ending}", form=form, state_dict=model.state_dict())
    assert report.proof is not None
    assert report.proof.firing > 0.01
    assert report.proof.differing_samples <= 0.05


def test_nir_carries_it(tmp_path: Path) -> None:
    nir = pytest.importorskip("nir")

    class Scale(nn.Module):
        def __init__(self, given: tuple[int, ...]) -> None:
            super().__init__()
            self.factor = nn.Parameter(torch.full(given, 1.5))

        def forward(self, x: Tensor) -> Tensor:
            return x * self.factor

    def plain(given: tuple[int, ...]) -> tuple[int, ...]:
        return given

    bcgraph.register.layer(
        "gate", Scale, shape=plain, emitters={"nir": lambda weight: nir.Scale(np.asarray(weight("factor")))}
    )
    text = NET.replace("gate(strength=1.5)", "gate()").replace("stride=2", "stride=1").replace(" { delay = 2 }", "")
    model = bcgraph.compile(bcgraph.parse(text))
    loud(model)
    report = bcgraph.export(bcgraph.parse(text), tmp_path / "net.nir", state_dict=model.state_dict())
    assert report.proof is not None
    assert report.proof.firing > 0.01


@pytest.mark.parametrize("ending", [".onnx", ".py", ".nir"])
def test_without_an_emitter_it_is_refused_before_anything_is_written(tmp_path: Path, ending: str) -> None:
    register(emitters={})
    text = NET.replace("stride=2", "stride=1").replace(" { delay = 2 }", "")
    with pytest.raises(bcgraph.BcgraphError, match="emitter for the target") as caught:
        bcgraph.export(bcgraph.parse(text, file="net.bcg"), tmp_path / f"net{ending}")
    assert [d.code for d in caught.value.diagnostics] == ["E073"]
    assert caught.value.span is not None
    assert (caught.value.span.file, caught.value.span.line) == ("net.bcg", 4)
    assert not list(tmp_path.iterdir())


TABLES = {
    "fx": fx_nodes._EMIT,
    "onnx": onnx_emitter.EMIT,
    "python": python_emitter._EMIT,
    "nir": nir_emitter.EMIT,
}


@pytest.mark.parametrize("op", sorted(OPS))
@pytest.mark.parametrize("target", sorted(TABLES))
def test_each_operation_has_an_emitter_or_is_refused(target: str, op: str) -> None:
    register(emitters={})
    span = Span("net.bcg", 3, 4, 3, 9)
    layer = Registered(name="g", layer="gate", arguments=(("strength", 1.0), ("bias", True)), span=span)
    declared = Standard(name="g", layer="scale", arguments=(("initial", 1.0),), span=span)
    given = (("layer", declared if op == "standard" else layer),)
    node = Node("g", op, (Edge("x"),), (Value("g", (4, 8, 8)),), given, span=span)
    table = TABLES[target]
    if target == "fx":
        # torch runs every operation, a `.pt2` file is what torch.export makes of that.
        assert op in table
    elif op in table and op != "registered":
        tables.check([node], table, target)
    else:
        with pytest.raises(bcgraph.BcgraphError) as caught:
            tables.check([node], table, target)
        assert caught.value.code == "E073"
        assert caught.value.span == span
    if target == "nir" and op not in table and op in ("maxpool", "adaptive_maxpool", "concat"):
        assert op in limits._REASONS


def narrow(given: tuple[int, ...], strength: float = 1.0, bias: bool = True) -> tuple[int, ...]:
    return (given[0], given[1] // 2, given[2] // 2)


class Mixing(Gate):
    def forward(self, x: Tensor) -> Tensor:
        return x - x.mean(0)


class Raising(Gate):
    def forward(self, x: Tensor) -> Tensor:
        return x @ x.new_zeros(3, 3)


class Odd(Gate):
    def forward(self, x: Tensor) -> Any:
        return (x, x)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"shape": narrow}, "of 3 samples of 4x8x8 it makes [3, 4, 8, 8], but its shape rule says [3, 4, 4, 4]"),
        ({"module": Mixing}, "depends on the other samples"),
        ({"module": Raising}, "it fails for 4x8x8: RuntimeError"),
        ({"module": Odd}, "it gives no tensor, but tuple"),
        ({"module": lambda given, strength, bias: 3}, "it is no torch module, but int"),
        ({"module": lambda given: 3}, "building it fails: TypeError"),
        ({"module": "no_such_module:Gate"}, "building it fails: ModuleNotFoundError"),
    ],
)
@pytest.mark.parametrize("schedule", ["unrolled", "step"])
def test_a_layer_that_lies_is_found_at_compile(changes: dict[str, Any], why: str, schedule: str) -> None:
    register(**changes)
    spec = bcgraph.parse(NET, file="net.bcg")
    with pytest.raises(bcgraph.BcgraphError) as caught:
        bcgraph.compile(spec, schedule)
    (found,) = caught.value.diagnostics
    assert found.code == "E056"
    assert why in found.message
    assert found.span is not None
    assert (found.span.file, found.span.line, found.span.column) == ("net.bcg", 4, 11)
    assert any(__file__ in note for note in found.notes)


class Greedy(Gate):
    def forward(self, x: Tensor) -> Tensor:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 400000000000 bytes.")


def greedy(given: tuple[int, ...], strength: float, bias: bool) -> nn.Module:
    raise MemoryError


@pytest.mark.parametrize("module", [Greedy, greedy])
def test_a_layer_for_which_there_is_no_room_is_no_fault_of_the_layer(module: Any) -> None:
    """It would be recorded as the failure of a candidate, for good."""
    register(module=module)
    with pytest.raises((RuntimeError, MemoryError)) as caught:
        bcgraph.compile(bcgraph.parse(NET))
    assert ran_out(caught.value)
    assert not isinstance(caught.value, bcgraph.BcgraphError)


@pytest.mark.parametrize(
    "rule",
    [
        lambda given, strength=1.0, bias=True: 3,
        lambda given, strength=1.0, bias=True: (0, 1, 1),
        lambda given, strength=1.0, bias=True: given[7],
    ],
)
def test_a_rule_that_gives_no_shape_is_found_at_check(rule: Callable[..., Any]) -> None:
    register(shape=rule)
    with pytest.raises(bcgraph.BcgraphError) as caught:
        bcgraph.parse(NET)
    assert caught.value.code == "E056"
    assert caught.value.span is not None
    assert caught.value.span.line == 4


def test_a_search_and_a_training_run_with_it(tmp_path: Path) -> None:
    register()
    # Norms make it fire enough for samples to be told apart.
    lively = NET.replace("conv(4);", "conv(8); bn1 = bn();").replace("stride=2);", "stride=2); bn2 = bn();")
    text = lively + (
        "data = digits(batch=64)\ntrain { epochs = 3 }\nsearch { init { pool = 4; keep = 2; batch = 16 }\n"
        "supernet { epochs = 1 }\nevolve { iterations = 1; top = 2; population = 2; offspring = 1 } }\n"
    )
    spec = bcgraph.parse(text)
    result = bcgraph.search.run(spec, tmp_path / "search")
    assert all(r.evaluation.n is not None and np.isfinite(r.evaluation.n) for r in result.records[:4])
    assert bcgraph.train(spec, out=tmp_path / "train").accuracy > 0.2


PACKAGE = """
import bcgraph

def shape(given, factor: float = 2.0):
    return given

bcgraph.register.layer("amplify", "amplifier_torch:Amplify", shape=shape)
"""


def test_a_package_brings_a_layer_without_torch(install: Install, tmp_path: Path) -> None:
    site = install("amplifier", PACKAGE)
    code = "from torch import nn\n\nclass Amplify(nn.Module):\n    def __init__(self, given, factor):\n"
    code += "        super().__init__()\n        self.factor = factor\n\n"
    code += "    def forward(self, x):\n        return self.factor * x\n"
    (site / "amplifier_torch.py").write_text(code)
    text = NET.replace("gate(strength=1.5)", "amplify(factor=3)")
    with pytest.raises(bcgraph.BcgraphError, match='use "amplifier"') as caught:
        bcgraph.parse(text)
    assert [d.code for d in caught.value.diagnostics] == ["E025"]
    spec = bcgraph.parse(text.replace("bcg 1\n", 'bcg 1\nuse "amplifier"\n'))
    assert bcgraph.parse(bcgraph.format(spec)) == spec
    model = bcgraph.compile(spec)
    assert model(torch.rand(2, 1, 8, 8)).shape == (3, 2, 10)

"""Hooks on the submodules of a compiled module work where they run, and are refused where they do not."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import bcgraph
from bcgraph.compiler.lower import lower
from bcgraph.compiler.targets.fx.module import parameters
from bcgraph.errors import CompileError

TEXT = """bcg 1
network n {
  input = image(1, 8, 8); steps = 2; backbone = tiny(width=4, classes=10)
  backward @4 -> @0 { delay = 1 }; backward @2 -> @2 { delay = 5 }
}
"""

KINDS = (
    "register_forward_hook",
    "register_forward_pre_hook",
    "register_full_backward_hook",
    "register_full_backward_pre_hook",
)


def compiled(schedule: str = "unrolled", **options: Any) -> Any:
    return bcgraph.compile(bcgraph.parse(TEXT), schedule, **options)


@pytest.mark.parametrize("schedule", ["unrolled", "folded"])
@pytest.mark.parametrize("recompute", [False, True])
def test_hooks_on_layers_are_called(schedule: str, recompute: bool) -> None:
    if recompute and schedule == "folded":
        return
    model = compiled(schedule, recompute=recompute)
    seen: list[tuple[str, str]] = []
    for name in ("conv1", "layer2.0.bn1", "fc", "backward.4_0.conv"):
        layer = model.get_submodule(name)
        for kind in KINDS:
            getattr(layer, kind)(lambda *_, name=name, kind=kind: seen.append((name, kind)))
    model(torch.randn(4, 1, 8, 8, requires_grad=True)).sum().backward()
    assert {name for name, _ in seen} == {"conv1", "layer2.0.bn1", "fc", "backward.4_0.conv"}
    assert {kind for _, kind in seen} == set(KINDS)


def test_hooks_on_the_module_are_called() -> None:
    model, seen = compiled(inference=True), []
    model.register_forward_hook(lambda *_: seen.append(1))
    model(torch.randn(4, 1, 8, 8))
    assert seen == [1]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("layer1", {}),
        ("layer2.0", {}),
        ("backward.4_0", {"schedule": "folded"}),
        ("conv1", {"inference": True}),
        ("layer2.0.bn1", {"inference": True}),
        # A connection that starts after the last step.
        ("backward.2_2.conv", {}),
    ],
)
def test_hooks_that_nobody_would_call_are_refused(name: str, options: dict[str, Any], kind: str) -> None:
    layer = compiled(**options).get_submodule(name)
    with pytest.raises(CompileError) as caught:
        getattr(layer, kind)(lambda *_: None)
    assert caught.value.code == "E072"
    assert "bcgraph.record" in str(caught.value.hint)


def test_layers_that_programs_share_take_hooks_where_one_calls_them() -> None:
    spec = bcgraph.parse(TEXT)
    root = parameters(lower(spec))
    bcgraph.compile(spec, inference=True, root=root)
    model = bcgraph.compile(spec, root=root)
    bcgraph.compile(spec, inference=True, root=root)
    seen: list[int] = []
    root.get_submodule("conv1").register_forward_hook(lambda *_: seen.append(1))
    model.train()(torch.randn(4, 1, 8, 8))
    assert seen


def test_a_port_is_no_submodule() -> None:
    with pytest.raises(CompileError) as caught:
        compiled().get_submodule("layer1.0.lif1")
    assert caught.value.code == "E060"
    assert 'bcgraph.record(model, x, ports=["layer1.0.lif1"])' in str(caught.value.hint)
    assert isinstance(caught.value, AttributeError)
    with pytest.raises(AttributeError) as other:
        compiled().get_submodule("layer9")
    assert not isinstance(other.value, CompileError)

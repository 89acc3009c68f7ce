"""A kernel that calls every function that a neuron's kernel may call: what a device cannot build or computes wrongly is
found before a neuron relies on it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch

from bcgraph.equations.expression import FUNCTIONS, Apply, Read
from bcgraph.nn.neuron.gpu.text import WRITE, Text

SIZE = 100
"""Elements; no power of two, so that some of a block lie outside."""

_CONDITIONS: Mapping[str, tuple[int, ...]] = {
    "and": (0, 1),
    "or": (0, 1),
    "not": (0,),
    "indicator": (0,),
    "where": (0,),
}
"""The operands that are conditions."""

CLOSE = 1e-4


def flaw(run: Callable[..., None], device: torch.device) -> str | None:
    """What a device does wrongly, or None. `run` launches a text on tensors of `SIZE` elements."""
    x = torch.linspace(0.05, 0.95, SIZE, dtype=torch.float32, device=device)
    y = x.flip(0).contiguous()
    found = torch.full((len(FUNCTIONS), SIZE), torch.nan, dtype=torch.float32, device=device)
    total = torch.full((1,), torch.nan, dtype=torch.float32, device=device)
    run(_text(), x, y, x[:1], x, *found, total)
    given = (x.tolist(), y.tolist())
    wanted = torch.tensor(
        [[_value(name, a, b) for a, b in zip(*given, strict=True)] for name in FUNCTIONS], dtype=torch.float32
    )
    for name, ours, theirs in zip(FUNCTIONS, found.cpu(), wanted, strict=True):
        if not torch.allclose(ours, theirs, rtol=CLOSE, atol=CLOSE):
            return f"`{name}` computes something else"
    if not torch.allclose(total, x.sum() + SIZE * x[0] + x.sum(), rtol=CLOSE):
        return "a sum computes something else"
    return None


def _operands(name: str, x: object, y: object, one: object, conditions: tuple[object, object]) -> list[object]:
    """What a function gets: x, y and 1, or conditions in their places."""
    some = [x, y, one][: FUNCTIONS[name].arity]
    return [conditions[k % 2] if k in _CONDITIONS.get(name, ()) else value for k, value in enumerate(some)]


def _value(name: str, x: float, y: float) -> float:
    operands = _operands(name, x, y, 1.0, (x > 0.5, y > 0.25))
    return float(FUNCTIONS[name].value(*operands))


def _text() -> str:
    text = Text("float32")
    x, y = text.load(), text.load()
    same, own = text.uniform(False), text.uniform(True)
    one, zero = text.number(1.0), text.number(0.0)
    bright, dark = text.value(f"{x} > {text.number(0.5)}"), text.value(f"{y} > {text.number(0.25)}")
    for name, function in FUNCTIONS.items():
        names = [str(each) for each in _operands(name, x, y, one, (bright, dark))]
        found = WRITE[name](text, Apply(name, (Read("x"), Read("y"))), names)
        text.store(text.value(f"tl.where({found}, {one}, {zero})") if function.condition else found)
    text.store_sum(text.value(f"{x} + {same} + {own}"))
    return text.finished()

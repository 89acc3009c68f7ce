"""How each function of flat code becomes a torch operation that writes into given memory.

A choice looks at the lines around it: a product that only a sum reads becomes part of the sum, `u * (1 - s)` becomes
one operation. What is rounded once and what twice is part of the result, so a choice is not changed lightly.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol, TypeAlias

import torch
from torch import Tensor

from bcgraph.equations.expression import Apply, Number, Read
from bcgraph.equations.flat import Leaf

Operation: TypeAlias = Callable[..., Tensor]


class Lines(Protocol):
    """What a choice may ask about the lines of a tape."""

    @property
    def calls(self) -> Mapping[str, Apply]:
        """What each line computes."""

    @property
    def uses(self) -> Mapping[str, int]:
        """How often each value is read."""

    @property
    def uniform(self) -> Collection[str]:
        """The keys of uniform values."""

    def select(self, key: str) -> Call:
        """The operation of a line."""

    def is_fixed(self, leaf: Leaf) -> bool:
        """Whether a value is the same for all elements, or for all of a channel."""

    def product(self, leaf: Leaf) -> tuple[Leaf, Leaf] | None:
        """The factors of a product that nothing else reads."""

    def complement(self, leaf: Leaf) -> Leaf | None:
        """The b of `1 - b` that nothing else reads."""


@dataclass(frozen=True, slots=True)
class Call:
    """A torch operation to be, on keys and numbers."""

    operation: Operation
    arguments: tuple[str | float, ...]
    keywords: tuple[tuple[str, float], ...] = ()
    scalars: tuple[int, ...] = ()

    @property
    def reads(self) -> tuple[str, ...]:
        """The keys of the values that the operation reads."""
        return tuple(a for a in self.arguments if isinstance(a, str))


@cache
def spread(operation: Operation) -> Operation:
    """An operation on uniform values and numbers, whose result is wanted for every element."""

    def run(*values: Any, out: Tensor, **keywords: float) -> Tensor:
        like = next(v for v in values if isinstance(v, Tensor))
        tensors = [v if isinstance(v, Tensor) else like.new_full((), v) for v in values]
        return out.copy_(operation(*tensors, **keywords, out=None))

    return run


def fill(value: float, *, out: Tensor) -> Tensor:
    """A constant, for every element."""
    return out.fill_(value)


def copy(value: Tensor, *, out: Tensor | None) -> Tensor:
    """The value itself; a test becomes a number where `out` holds numbers."""
    return value if out is None else out.copy_(value)


def _quantize(x: Tensor, low: float, high: float, *, out: Tensor | None) -> Tensor:
    return torch.clamp(torch.round(x, out=out), low, high, out=out)


def _relu(x: Tensor, *, out: Tensor | None) -> Tensor:
    return torch.clamp_min(x, 0.0, out=out)


def _softplus(x: Tensor, *, out: Tensor | None) -> Tensor:
    # As max(x, 0) + log(1 + exp(-|x|)): exact at both ends.
    small = torch.log1p(torch.exp(-torch.abs(x)))
    return torch.add(torch.clamp_min(x, 0.0), small, out=out)


def _keys(*operands: Any) -> tuple[str | float, ...]:
    return tuple(o.value if isinstance(o, Number) else o.key for o in operands)


def _plain(operation: Operation) -> Callable[[Lines, Apply], Call]:
    """An operation that takes numbers anywhere but first."""

    def select(lines: Lines, call: Apply) -> Call:
        keys = _keys(*call.operands)
        return Call(operation, keys, scalars=(0,) if isinstance(keys[0], float) else ())

    return select


def _add(lines: Lines, call: Apply) -> Call:
    for one, other in (call.operands, call.operands[::-1]):
        factors = lines.product(other) if isinstance(one, Read) else None  # type: ignore[arg-type]
        # A factor that is the same everywhere: what is rounded once then is what a `lif` always rounded once.
        if factors is not None and isinstance(one, Read) and any(lines.is_fixed(each) for each in factors):
            return _scaled(one, factors, 1.0)
    a, b = call.operands if isinstance(call.operands[0], Read) else call.operands[::-1]
    return Call(torch.add, _keys(a, b))


def _sub(lines: Lines, call: Apply) -> Call:
    a, b = call.operands
    factors = lines.product(b) if isinstance(a, Read) else None  # type: ignore[arg-type]
    if factors is not None and isinstance(a, Read):
        return _scaled(a, factors, -1.0)
    return Call(torch.sub, _keys(a, b), scalars=() if isinstance(a, Read) else (0,))


def _scaled(one: Read, factors: tuple[Leaf, Leaf], sign: float) -> Call:
    """`one + sign * a * b`."""
    a, b = factors
    if isinstance(a, Number) and isinstance(b, Read):
        return Call(torch.add if sign > 0 else torch.sub, _keys(one, b), (("alpha", a.value),))
    if isinstance(b, Number) and isinstance(a, Read):
        return Call(torch.add if sign > 0 else torch.sub, _keys(one, a), (("alpha", b.value),))
    keywords = () if sign > 0 else (("value", sign),)
    return Call(torch.addcmul, _keys(one, a, b), keywords)


def _mul(lines: Lines, call: Apply) -> Call:
    for one, other in (call.operands, call.operands[::-1]):
        b = lines.complement(other)  # type: ignore[arg-type]
        if b is not None and isinstance(b, Read) and isinstance(one, Read) and one.key not in lines.uniform:
            return Call(torch.addcmul, _keys(one, one, b), (("value", -1.0),))
    a, b = call.operands if isinstance(call.operands[0], Read) else call.operands[::-1]  # type: ignore[assignment]
    return Call(torch.mul, _keys(a, b))


def _bound(low: bool) -> Callable[[Lines, Apply], Call]:
    """`max` (a lower bound) or `min`; with a number it is a clamp."""

    def select(lines: Lines, call: Apply) -> Call:
        a, b = call.operands if isinstance(call.operands[0], Read) else call.operands[::-1]
        if isinstance(b, Number):
            return Call(torch.clamp_min if low else torch.clamp_max, _keys(a, b))
        return Call(torch.maximum if low else torch.minimum, _keys(a, b))

    return select


def _clamp(lines: Lines, call: Apply) -> Call:
    keys = _keys(*call.operands)
    both = all(isinstance(key, float) for key in keys[1:])
    scalars = tuple(i for i, key in enumerate(keys) if isinstance(key, float) and (i == 0 or not both))
    return Call(torch.clamp, keys, scalars=scalars)


def _where(lines: Lines, call: Apply) -> Call:
    keys = _keys(*call.operands)
    return Call(torch.where, keys, scalars=tuple(i for i, key in enumerate(keys) if isinstance(key, float)))


def _indicator(lines: Lines, call: Apply) -> Call:
    """A test as a number: the test itself, written where a number is wanted."""
    (test,) = call.operands
    assert isinstance(test, Read)
    return Call(copy, (test.key,)) if lines.uses[test.key] > 1 else lines.select(test.key)


def _spike(lines: Lines, call: Apply) -> Call:
    """`x > 0`; where x is a difference, its operands are compared, which is the same and one operation less."""
    (x,) = call.operands
    inner = lines.calls.get(x.key) if isinstance(x, Read) else None
    if inner is not None and inner.function == "sub" and isinstance(inner.operands[0], Read):
        return Call(torch.gt, _keys(*inner.operands))
    return Call(torch.gt, _keys(x, Number(0.0)))


SELECT: Mapping[str, Callable[[Lines, Apply], Call]] = {
    "add": _add,
    "sub": _sub,
    "mul": _mul,
    "div": _plain(torch.div),
    "pow": _plain(torch.pow),
    "neg": _plain(torch.neg),
    "gt": _plain(torch.gt),
    "ge": _plain(torch.ge),
    "lt": _plain(torch.lt),
    "le": _plain(torch.le),
    "eq": _plain(torch.eq),
    "ne": _plain(torch.ne),
    "and": _plain(torch.logical_and),
    "or": _plain(torch.logical_or),
    "not": _plain(torch.logical_not),
    "where": _where,
    "indicator": _indicator,
    "sign": _plain(torch.sign),
    "exp": _plain(torch.exp),
    "log": _plain(torch.log),
    "sqrt": _plain(torch.sqrt),
    "abs": _plain(torch.abs),
    "min": _bound(low=False),
    "max": _bound(low=True),
    "clamp": _clamp,
    "floor": _plain(torch.floor),
    "round": _plain(torch.round),
    "sigmoid": _plain(torch.sigmoid),
    "tanh": _plain(torch.tanh),
    "softplus": _plain(_softplus),
    "relu": _plain(_relu),
    "spike": _spike,
    "quantize": _plain(_quantize),
}
"""How each function becomes a torch operation."""

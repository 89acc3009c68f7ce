"""Plain equations: flat code as a Python function of torch's own operations, for autograd, tracers and transforms.

The kernels cannot be followed by `torch.export`, `torch.compile` and `torch.func`; these functions can. A spike has the
derivative of its surrogate (paper eq. 5), and no second one.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cache, lru_cache
from types import CodeType
from typing import Any, TypeAlias

import torch
from torch import Tensor

from bcgraph.equations.expression import Expression, Number
from bcgraph.equations.flat import Builder, Leaf, Line, uniform_lines
from bcgraph.nn.transforms import compiled, second_derivative, transformed

Plain: TypeAlias = Callable[..., Any]


def function(
    lines: Sequence[Line], results: Sequence[Leaf], inputs: Sequence[str], uniform: Collection[str] | None = None
) -> Plain:
    """A function of `inputs`, by position, that computes `results` as a tuple.

    With the keys of `uniform` inputs, each result has the shape of the first input, also where only those reach it.
    """
    names = {key: f"x{index}" for index, key in enumerate(inputs)}
    space: dict[str, Any] = {"torch": torch}
    body: list[str] = []

    def shown(leaf: Any) -> str:
        return repr(leaf.value) if isinstance(leaf, Number) else names[leaf.key]

    for index, line in enumerate(lines):
        names[line.name] = f"t{index}"
        operands = [shown(operand) for operand in line.call.operands]
        if line.call.slope is not None:
            space[f"f{index}"] = _fires(line)
            written = f"f{index}({operands[0]})"
        else:
            if line.call.function == "where" and all(isinstance(each, Number) for each in line.call.operands[1:]):
                # A choice between two numbers would have torch's default type.
                operands[1] = f"x0.new_full((), {operands[1]})"
            written = _WRITTEN[line.call.function].format(*operands)
        body.append(f"    t{index} = {written}")
    narrow = uniform_lines(lines, uniform) if uniform is not None else frozenset()
    found = [
        f"torch.full_like(x0, {leaf.value!r})"
        if isinstance(leaf, Number)
        else names[leaf.key] + (".expand_as(x0)" if leaf.key in narrow else "")
        for leaf in results
    ]
    arguments = ", ".join(names[key] for key in inputs)
    source = "\n".join([f"def equations({arguments}):", *body, f"    return ({', '.join([*found, ''])})"])
    exec(_code(source), space)
    made: Plain = space["equations"]
    return made


@lru_cache(maxsize=4096)
def _code(source: str) -> CodeType:
    """The code of a text, which neurons of one kind share, at all ports and steps."""
    return compile(source, "<equations>", "exec")


_WRITTEN: Mapping[str, str] = {
    "add": "{0} + {1}",
    "sub": "{0} - {1}",
    "mul": "{0} * {1}",
    "div": "{0} / {1}",
    "pow": "{0} ** {1}",
    "neg": "-{0}",
    "gt": "{0} > {1}",
    "ge": "{0} >= {1}",
    "lt": "{0} < {1}",
    "le": "{0} <= {1}",
    "eq": "{0} == {1}",
    "ne": "{0} != {1}",
    "and": "{0} & {1}",
    "or": "{0} | {1}",
    "not": "~{0}",
    "where": "torch.where({0}, {1}, {2})",
    "indicator": "{0}.to(x0.dtype)",
    "sign": "torch.sign({0})",
    "exp": "torch.exp({0})",
    "log": "torch.log({0})",
    "sqrt": "torch.sqrt({0})",
    "abs": "torch.abs({0})",
    # As choices, so that the derivative where operands are equal is this and not what a version of torch has there.
    "min": "torch.where({0} <= {1}, {0}, {1})",
    "max": "torch.where({0} >= {1}, {0}, {1})",
    "clamp": "torch.where({0} <= {1}, {1}, torch.where({0} >= {2}, {2}, {0}))",
    "floor": "torch.floor({0})",
    "round": "torch.round({0})",
    "sigmoid": "torch.sigmoid({0})",
    "tanh": "torch.tanh({0})",
    # Not as max(x, 0) + log(1 + exp(-|x|)), whose parts have no derivative where a state is exactly 0.
    "softplus": "torch.logaddexp({0}, torch.zeros_like({0}))",
    "relu": "torch.relu({0})",
    "detach": "{0}.detach()",
    # The rounding has no derivative; what is added to it is zero, with a derivative of 1 from low to high.
    "quantize": "torch.clamp(torch.round({0}.detach()), {1}, {2}) "
    "+ torch.where(({0} >= {1}) & ({0} <= {2}), {0} - {0}.detach(), 0.0)",
}


def _fires(line: Line) -> Callable[[Tensor], Tensor]:
    """The function for a spike or a whole-number spike with a surrogate."""
    slope = line.call.slope
    assert slope is not None
    if line.call.function == "spike":
        return _fire(None, slope)
    bounds = tuple(operand.value for operand in line.call.operands[1:] if isinstance(operand, Number))
    assert len(bounds) == 2
    return _fire(bounds, slope)


@cache
def _fire(bounds: tuple[float, float] | None, slope: Expression) -> Callable[[Tensor], Tensor]:
    """A step whose derivative is `slope`: to 0 or 1, or to the whole numbers within `bounds`."""
    builder = Builder()
    leaf = builder.flat(slope)
    derivative = function(builder.lines, [leaf], ["x"])

    def forward(x: Tensor) -> Tensor:
        return (x > 0).to(x.dtype) if bounds is None else torch.clamp(torch.round(x), *bounds)

    class Slope(torch.autograd.Function):
        """The surrogate derivative as a value that has no derivative of its own."""

        generate_vmap_rule = True

        @staticmethod
        def forward(x: Tensor) -> Tensor:
            found: Tensor = derivative(x)[0]
            return found

        @staticmethod
        def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
            pass

        @staticmethod
        def backward(ctx: Any, *gradients: Tensor) -> Tensor:
            raise second_derivative()

        @staticmethod
        def jvp(ctx: Any, *tangents: Any) -> Tensor:
            raise second_derivative()

    class Fire(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            ctx.save_for_backward(x)
            return forward(x)

        @staticmethod
        def backward(ctx: Any, *gradients: Tensor) -> Tensor:
            (x,) = ctx.saved_tensors
            # A compiler traces this with gradients on, and takes no function with a forward derivative.
            if torch.is_grad_enabled() and not compiled():
                slope_at: Tensor = Slope.apply(x)
                return slope_at * gradients[0]
            found: Tensor = derivative(x)[0]
            made: Tensor = found * gradients[0]
            return made

    class TransformedFire(torch.autograd.Function):
        """`Fire` for the transforms of `torch.func`, of operations that they know."""

        generate_vmap_rule = True

        @staticmethod
        def forward(x: Tensor) -> Tensor:
            return forward(x)

        @staticmethod
        def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
            ctx.save_for_backward(*inputs)
            ctx.save_for_forward(*inputs)

        @staticmethod
        def backward(ctx: Any, *gradients: Tensor) -> Tensor:
            (x,) = ctx.saved_tensors
            slope_at: Tensor = Slope.apply(x)
            return slope_at * gradients[0]

        @staticmethod
        def jvp(ctx: Any, *tangents: Any) -> Tensor:
            (x,) = ctx.saved_tensors
            slope_at: Tensor = Slope.apply(x)
            made: Tensor = slope_at * tangents[0]
            return made

    def fire(x: Tensor) -> Tensor:
        made: Tensor = (TransformedFire if transformed() else Fire).apply(x)
        return made

    return fire

"""Flat code as the text of a Triton kernel, on blocks of elements in memory order.

All arithmetic is in one type, float32 or float64, whatever the tensors hold. Only functions that Triton has itself on
every device are written, so the interpreter runs the same text as a GPU.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from bcgraph.equations.expression import Apply, Number
from bcgraph.equations.flat import Leaf, Line

Names = dict[str, str]
"""What each value is called in the text, by its key."""


@dataclass(frozen=True, slots=True)
class Nearest:
    """A tensor of a smaller map `height` x `width`, of which each value is read `rows` x `columns` times.

    The map that is computed has `height * rows` rows; both are channels-last (`last`) or both contiguous.
    """

    height: int
    width: int
    rows: int
    columns: int
    last: bool

    def at(self, text: Text) -> str:
        """Where the value that element `i` reads stands."""
        across, down = self.width * self.columns, self.height * self.rows
        place = text.value("i // channels" if self.last else "i")
        x = f"{place} % {across} // {self.columns}"
        y = f"{place} // {across} % {down} // {self.rows}"
        found = f"(({place} // {across * down}) * {self.height} + {y}) * {self.width} + {x}"
        return text.value(f"({found}) * channels + i % channels" if self.last else found)


@dataclass(slots=True)
class Text:
    """The lines of one kernel. `kind` is the type of the arithmetic: `float32` or `float64`."""

    kind: str
    arguments: list[str] = field(default_factory=list)
    body: list[str] = field(default_factory=list)
    constants: dict[float, str] = field(default_factory=dict)
    per_channel: bool = False
    count: int = 0

    def argument(self) -> str:
        """A further tensor of the kernel."""
        self.arguments.append(f"p{len(self.arguments)}")
        return self.arguments[-1]

    def value(self, written: str) -> str:
        """A name for what `written` computes."""
        self.count += 1
        self.body.append(f"x{self.count} = {written}")
        return f"x{self.count}"

    def number(self, value: float) -> str:
        """A constant, the same for all elements of a block."""
        return self.constants.setdefault(float(value), f"c{len(self.constants)}")

    def load(self, at: str | None = None) -> str:
        """The elements of a further tensor; `at` says where they are, if not at `i`."""
        return self.value(f"tl.load({self.argument()} + {at or 'i'}, mask=inside).to(tl.{self.kind})")

    def uniform(self, channel: bool) -> str:
        """A value that is the same for all elements, or for all of a channel."""
        if channel:
            self.per_channel = True
            return self.load("channel")
        return self.value(f"tl.broadcast_to(tl.load({self.argument()}).to(tl.{self.kind}), [BLOCK])")

    def store(self, value: str, at: str = "i") -> None:
        """Write the elements of a further tensor, in the type that it holds."""
        self.body.append(f"tl.store({self.argument()} + {at}, {value}, mask=inside)")

    def store_sum(self, value: str) -> None:
        """Write the sum over the block: one value a program."""
        summed = f"tl.sum(tl.where(inside, {value}, {self.number(0.0)}), 0)"
        self.body.append(f"tl.store({self.argument()} + tl.program_id(0), {summed})")

    def store_bits(self, value: str, at: str | None = None, step: int = 0) -> None:
        """Write one bit an element, eight a byte, the first the highest: set where the value is not zero.

        Into a further tensor, or into that `at`, where the bytes of step `step` follow on those of the steps before.
        """
        at = at or self.argument()
        ones = self.value(f"tl.reshape(tl.where(inside & ({value} != {self.number(0.0)}), 1, 0), [BLOCK // 8, 8])")
        packed = self.value(f"tl.sum({ones} << (7 - tl.arange(0, 8))[None, :], 1).to(tl.uint8)")
        where = self.value("tl.program_id(0).to(tl.int64) * (BLOCK // 8) + tl.arange(0, BLOCK // 8)")
        self.body.append(f"tl.store({at} + {where}{_bytes_of(step)}, {packed}, mask={where} < (n + 7) // 8)")

    def load_bits(self, at: str | None = None, step: int = 0) -> str:
        """The elements of a further tensor, or of that `at`, that `store_bits` has written, as 0 and 1."""
        byte = self.value(f"tl.load({at or self.argument()} + i // 8{_bytes_of(step)}, mask=inside).to(tl.int32)")
        return self.value(f"((({byte}) >> (7 - i % 8).to(tl.int32)) & 1).to(tl.{self.kind})")

    def leaf(self, leaf: Leaf, names: Mapping[str, str]) -> str:
        """A number, or the name of a value."""
        return self.number(leaf.value) if isinstance(leaf, Number) else names[leaf.key]

    def lines(self, lines: Iterable[Line], names: Names) -> None:
        """Write `lines`, and add their values to `names`."""
        for line in lines:
            names[line.name] = WRITE[line.call.function](self, line.call, [self.leaf(o, names) for o in _leaves(line)])

    def finished(self) -> str:
        """The text of a module with the kernel: `kernel(*tensors, n, inner, channels, BLOCK)`.

        `n` is the number of elements. Element `i` belongs to channel `i // inner % channels`.
        """
        head = ["i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)", "inside = i < n"]
        if self.per_channel:
            head.append("channel = i // inner % channels")
        head += [f"{name} = tl.full([BLOCK], {_shown(v)}, tl.{self.kind})" for v, name in self.constants.items()]
        arguments = ", ".join([*self.arguments, "n", "inner", "channels", "BLOCK: tl.constexpr"])
        lines = [
            "import triton",
            "import triton.language as tl",
            "",
            "",
            "@triton.jit",
            f"def kernel({arguments}):",
            *(f"    {line}" for line in [*head, *self.body]),
        ]
        return "\n".join(lines) + "\n"


def _bytes_of(steps: int) -> str:
    """How far the bits of so many steps reach; as many bytes may be more than a 32-bit number holds."""
    return f" + tl.cast((n + 7) // 8, tl.int64) * {steps}" if steps else ""


def _leaves(line: Line) -> Sequence[Leaf]:
    return line.call.operands  # type: ignore[return-value]


def _shown(value: float) -> str:
    return repr(value) if math.isfinite(value) else f"float('{value}')"


Writer = Callable[[Text, Apply, list[str]], str]


def _as(pattern: str) -> Writer:
    """A writer of one pattern: operands as `{0}`, the constants 0, 1 and -1 as `{zero}`, `{one}` and `{less}`."""
    constants = {"zero": 0.0, "one": 1.0, "less": -1.0, "half": 0.5}

    def write(text: Text, call: Apply, given: list[str]) -> str:
        named = {key: text.number(v) for key, v in constants.items() if f"{{{key}}}" in pattern}
        return text.value(pattern.format(*given, **named))

    return write


def _same(text: Text, call: Apply, given: list[str]) -> str:
    return given[0]


def _div(text: Text, call: Apply, given: list[str]) -> str:
    # Triton's own division of float32 is not rounded correctly.
    pattern = "tl.div_rn({0}, {1})" if text.kind == "float32" else "{0} / {1}"
    return text.value(pattern.format(*given))


def _sqrt(text: Text, call: Apply, given: list[str]) -> str:
    return text.value(("tl.sqrt_rn({0})" if text.kind == "float32" else "tl.sqrt({0})").format(*given))


def _pow(text: Text, call: Apply, given: list[str]) -> str:
    exponent = call.operands[1]
    base = given[0]
    if isinstance(exponent, Number) and exponent.value.is_integer() and abs(exponent.value) <= 64:
        return _whole_power(text, base, int(exponent.value))
    power = text.value(f"tl.exp({given[1]} * tl.log(tl.abs({base})))")
    # What has no real value is none here either; a negative number has whole powers, and every number has power 0.
    zero, one, half, two = (text.number(v) for v in (0.0, 1.0, 0.5, 2.0))
    whole = f"tl.floor({given[1]}) == {given[1]}"
    odd = f"tl.floor({given[1]} * {half}) * {two} != {given[1]}"
    signed = text.value(f"tl.where({odd}, -{power}, {power})")
    negative = text.value(f"tl.where({whole}, {signed}, {text.number(math.nan)})")
    found = text.value(f"tl.where({base} < {zero}, {negative}, {power})")
    return text.value(f"tl.where({given[1]} == {zero}, {one}, {found})")


def _whole_power(text: Text, base: str, exponent: int) -> str:
    if exponent == 0:
        return text.number(1.0)
    square, found, rest = base, "", abs(exponent)
    while rest:
        if rest & 1:
            found = text.value(f"{found} * {square}") if found else square
        rest >>= 1
        if rest:
            square = text.value(f"{square} * {square}")
    return found if exponent > 0 else _div(text, Apply("div", ()), [text.number(1.0), found])


def _round(text: Text, call: Apply, given: list[str]) -> str:
    """To the nearest whole number, halves to the even one."""
    zero, one, half, two = (text.number(v) for v in (0.0, 1.0, 0.5, 2.0))
    low = text.value(f"tl.floor({given[0]})")
    rest = text.value(f"{given[0]} - {low}")
    odd = text.value(f"{low} - {two} * tl.floor({low} * {half})")
    up = text.value(f"tl.where({rest} == {half}, {odd}, tl.where({rest} > {half}, {one}, {zero}))")
    return text.value(f"{low} + {up}")


def _clamp(text: Text, call: Apply, given: list[str]) -> str:
    x, low, high = given
    return text.value(f"tl.where({x} <= {low}, {low}, tl.where({x} >= {high}, {high}, {x}))")


def _quantize(text: Text, call: Apply, given: list[str]) -> str:
    return _clamp(text, call, [_round(text, call, given), *given[1:]])


def _sigmoid(text: Text, call: Apply, given: list[str]) -> str:
    one = text.number(1.0)
    return _div(text, call, [one, text.value(f"{one} + tl.exp(-{given[0]})")])


def _tanh(text: Text, call: Apply, given: list[str]) -> str:
    """As (1 - e) / (1 + e) with e = exp(-2|x|); near 0, where that loses digits, as a series."""
    x, one = given[0], text.number(1.0)
    e = text.value(f"tl.exp({text.number(-2.0)} * tl.abs({x}))")
    ratio = _div(text, call, [text.value(f"{one} - {e}"), text.value(f"{one} + {e}")])
    signed = text.value(f"tl.where({x} < {text.number(0.0)}, -{ratio}, {ratio})")
    square = text.value(f"{x} * {x}")
    series = text.number(-1382 / 155925)
    for factor in (62 / 2835, -17 / 315, 2 / 15, -1 / 3, 1.0):
        series = text.value(f"{series} * {square} + {text.number(factor)}")
    return text.value(f"tl.where(tl.abs({x}) < {text.number(0.03)}, {series} * {x}, {signed})")


def _softplus(text: Text, call: Apply, given: list[str]) -> str:
    """max(x, 0) + log(1 + e) with e = exp(-|x|), whose small values `1 + e` would round away."""
    x, zero, one = given[0], text.number(0.0), text.number(1.0)
    e = text.value(f"tl.exp(-tl.abs({x}))")
    more = text.value(f"{one} + {e}")
    step = text.value(f"tl.where({more} == {one}, {one}, {more} - {one})")
    exact = _div(text, call, [e, step])
    log = text.value(f"tl.where({more} == {one}, {e}, tl.log({more}) * {exact})")
    return text.value(f"tl.where({x} > {zero}, {x}, {zero}) + {log}")


WRITE: Mapping[str, Writer] = {
    "add": _as("{0} + {1}"),
    "sub": _as("{0} - {1}"),
    "mul": _as("{0} * {1}"),
    "div": _div,
    "pow": _pow,
    "neg": _as("-{0}"),
    "gt": _as("{0} > {1}"),
    "ge": _as("{0} >= {1}"),
    "lt": _as("{0} < {1}"),
    "le": _as("{0} <= {1}"),
    "eq": _as("{0} == {1}"),
    "ne": _as("{0} != {1}"),
    "and": _as("{0} & {1}"),
    "or": _as("{0} | {1}"),
    "not": _as("{0} == 0"),
    "where": _as("tl.where({0}, {1}, {2})"),
    "indicator": _as("tl.where({0}, {one}, {zero})"),
    "sign": _as("tl.where({0} > {zero}, {one}, tl.where({0} < {zero}, {less}, {zero}))"),
    "exp": _as("tl.exp({0})"),
    "log": _as("tl.log({0})"),
    "sqrt": _sqrt,
    "abs": _as("tl.abs({0})"),
    "min": _as("tl.where({0} <= {1}, {0}, {1})"),
    "max": _as("tl.where({0} >= {1}, {0}, {1})"),
    "clamp": _clamp,
    "floor": _as("tl.floor({0})"),
    "round": _round,
    "sigmoid": _sigmoid,
    "tanh": _tanh,
    "softplus": _softplus,
    "relu": _as("tl.where({0} > {zero}, {0}, {zero})"),
    "detach": _same,
    "spike": _as("tl.where({0} > {zero}, {one}, {zero})"),
    "quantize": _quantize,
}
"""How each function is written."""

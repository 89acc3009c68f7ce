"""The lines of a step in C, and what stands before them in the file: constant arrays and functions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bcgraph import shapes
from bcgraph.compiler.ir import Node
from bcgraph.compiler.targets.c import kernels
from bcgraph.compiler.targets.c.neuron import number
from bcgraph.shapes import Shape


class Lines:
    """Collects lines, the functions that they call by name, and constant arrays with the bytes of weights in them."""

    def __init__(self) -> None:
        self.tables: list[str] = []
        self.functions: dict[str, str] = {}
        self.lines: list[str] = []
        self.bytes_of_weights = 0

    def comment(self, node: Node) -> None:
        """The name of a node and the shape of what it makes."""
        self.lines.append(f"/* {node.name}: {shapes.text(node.outputs[0].shape) or 'a number'} */")

    def loop(self, count: int, *body: str) -> None:
        """`body` for each `i` below `count`."""
        self.lines += [f"for (int i = 0; i < {count}; i++) {{", *(f"    {line}" for line in body), "}"]

    def call(self, text: str, kind: str, *arguments: object) -> None:
        """A call of a function of `kernels`, which is then a part of the file."""
        body = kernels.typed(text, kind)
        name = body.partition("(")[0].rpartition(" ")[2]
        self.functions.setdefault(name, body)
        self.lines.append(f"{name}({', '.join(map(str, arguments))});")

    def table(self, kind: str, what: str, values: np.ndarray) -> str:
        """A constant array, by its C name."""
        name = f"w{len(self.tables)}"
        flat = values.reshape(-1)
        texts = [str(int(v)) for v in flat] if kind == "int8_t" else [number(v) for v in flat]
        step = 24 if kind == "int8_t" else 8
        rows = [", ".join(texts[i : i + step]) for i in range(0, len(texts), step)]
        self.tables.append(
            f"/* {what} */\nstatic const {kind} {name}[{len(flat)}] = {{\n    " + ",\n    ".join(rows) + "\n};"
        )
        self.bytes_of_weights += len(flat) * (1 if kind == "int8_t" else 4)
        return name

    def window(self, index: int, node: Node, given: Shape, made: Shape, settings: Sequence[int]) -> str:
        """A `window_t` for node number `index`: channels, height and width before and after, then `settings`."""
        self.functions = {"window_t": kernels.WINDOW} | self.functions
        numbers = ", ".join(map(str, (*_image(given), *_image(made), *settings)))
        name = f"n{index}"
        self.tables.append(f"/* {node.name} */\nstatic const window_t {name} = {{{numbers}}};")
        return f"&{name}"


def _image(shape: Shape) -> tuple[int, int, int]:
    channels, height, width = (*shape, 1, 1)[:3]
    return channels, height, width

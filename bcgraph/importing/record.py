"""What a module does with an example: every call of a layer and every function of tensors, in the order they run.

The module runs once. Layers of torch and of the peers are recorded whole; between them each function is, with the
module it stands in and its line. So shapes are known, loops are rolled out, and what decides by values is seen.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import get_ident
from types import FrameType
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.modules import module as hooks
from torch.overrides import TorchFunctionMode

from bcgraph.errors import Diagnostic, Span
from bcgraph.machine import refuses

_TORCH = f"{Path(torch.__file__).parent}{os.sep}"
_OURS = f"{Path(__file__).parent}{os.sep}"

# Asking a tensor for its values makes the network depend on them.
_DECIDES = frozenset({"__bool__", "__int__", "__float__", "__index__", "item", "tolist", "numpy", "nonzero"})

# What reads nothing of a tensor but its shape gives constants.
_SHAPED = frozenset(
    ("new_zeros", "new_ones", "new_full", "new_empty", "zeros_like", "ones_like", "full_like", "empty_like")
)


@dataclass(frozen=True, slots=True)
class Ref:
    """A value that was computed from the example, by number; 0 is the example."""

    number: int


@dataclass(frozen=True, slots=True)
class Place:
    """Where a call stands: the path of the module, `layer1.0`, and the line of its source."""

    path: str
    span: Span | None

    def problem(self, code: str, message: str, hint: str | None = None) -> Diagnostic:
        """A finding at this place."""
        where = f"in `{self.path}`" if self.path else "in the module itself"
        return Diagnostic(code, message, self.span, hint, notes=(where,))


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """A call of a leaf module or of a function, by name. Tensors among the arguments that come from the example are
    `Ref`; others are constants."""

    target: nn.Module | str
    path: str
    arguments: tuple[Any, ...]
    named: Mapping[str, Any]
    results: tuple[Ref, ...]
    several: bool
    place: Place

    def refs(self) -> tuple[Ref, ...]:
        """The values that are read."""
        return tuple(refs_in((self.arguments, tuple(self.named.values()))))


@dataclass(slots=True)
class Recording:
    """The calls, the value of each number, what the module returned, and what was found wrong."""

    calls: list[Call] = field(default_factory=list)
    values: list[Tensor] = field(default_factory=list)
    output: Any = None
    problems: list[Diagnostic] = field(default_factory=list)


IsLeaf: TypeAlias = Callable[[nn.Module], bool]


@torch.no_grad()
def record(module: nn.Module, example: Tensor, is_leaf: IsLeaf) -> Recording:
    """Run `module` on `example` and record it. An error of the module's own is a problem at its line (E110)."""
    mode = _Recorder(module, is_leaf)
    found = mode.found
    mode.track(example)
    handles = (
        hooks.register_module_forward_pre_hook(_in_this_thread(mode.enter)),
        hooks.register_module_forward_hook(_in_this_thread(mode.leave)),
    )
    try:
        with mode:
            found.output = mode.replaced(module(example))
    except (Exception, SystemExit) as error:
        if refuses(error):
            raise
        path = mode.stack[-1][0] if mode.stack else ""
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        place = Place(path, span_of(error))
        shape = "x".join(map(str, example.shape))
        message = f"the module fails on the example of {shape}: {first}"
        found.problems.append(place.problem("E110", message, "give an example of the shape that the module takes"))
    finally:
        for handle in handles:
            handle.remove()
    return found


def _in_this_thread(hook: Callable[..., None]) -> Callable[..., None]:
    """`hook` for the calls of modules in this thread. Torch calls it for those of all others too."""
    own = get_ident()

    def run(*given: Any) -> None:
        if get_ident() == own:
            hook(*given)

    return run


class _Recorder(TorchFunctionMode):
    def __init__(self, module: nn.Module, is_leaf: IsLeaf) -> None:
        super().__init__()
        self.found = Recording()
        self.is_leaf = is_leaf
        self.paths: dict[int, list[str]] = {}
        for path, each in module.named_modules(remove_duplicate=False):
            self.paths.setdefault(id(each), []).append(path)
        self.stack: list[tuple[str, bool, tuple[Any, ...]]] = []
        self.numbers: dict[int, int] = {}

    def track(self, value: Tensor) -> Ref:
        """A new number for a tensor, which is kept, so that no other one gets its identity."""
        self.numbers[id(value)] = len(self.found.values)
        self.found.values.append(value)
        return Ref(len(self.found.values) - 1)

    def replaced(self, value: Any) -> Any:
        """The same structure with `Ref` for what comes from the example."""
        if isinstance(value, Tensor):
            return Ref(self.numbers[id(value)]) if id(value) in self.numbers else value
        if isinstance(value, Mapping):
            return {key: self.replaced(each) for key, each in value.items()}
        if isinstance(value, tuple | list):
            return tuple(self.replaced(each) for each in value)
        return value

    # --- modules ---

    def enter(self, module: nn.Module, arguments: tuple[Any, ...]) -> None:
        muted = bool(self.stack) and self.stack[-1][1]
        known = self.paths.get(id(module), [""])
        within = self.stack[-1][0] if self.stack else ""
        path = next((each for each in known if each.startswith(f"{within}.") or not within), known[0])
        self.stack.append((path, muted or self.is_leaf(module), self.replaced(arguments) if not muted else ()))

    def leave(self, module: nn.Module, arguments: tuple[Any, ...], output: Any) -> None:
        path, muted, given = self.stack.pop()
        if not muted or (self.stack and self.stack[-1][1]):
            return
        within = self.stack[-1][0] if self.stack else ""
        self.add(module, path, given, {}, output, Place(path or within, _span()))

    # --- functions ---

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        named = dict(kwargs or {})
        if self.stack and self.stack[-1][1]:
            return func(*args, **named)
        given, given_named = self.replaced(tuple(args)), self.replaced(named)
        read = list(refs_in((given, tuple(given_named.values()))))
        name = getattr(func, "__name__", str(func))
        place = Place(self.stack[-1][0] if self.stack else "", _span() if read else None)
        if read and name in _DECIDES:
            message = "the values of a tensor decide here what is computed"
            self.problem(place.problem("E111", message, "a network computes the same for every input"))
        if read and _in_place(name) and isinstance(args[0], Tensor) and args[0]._base is not None:
            self.problem(place.problem("E112", "a view is changed in place", "change the tensor itself, or a copy"))
        if read and name == "__setitem__":
            self.problem(place.problem("E112", "a part of a tensor is replaced in place", "use `torch.cat`"))
        if name == "gelu":
            # What a definition of a neuron can say of it: see `bcgraph.importing.importer`.
            named["approximate"] = "tanh"
        result = func(*args, **named)
        if read and name not in _SHAPED and any(True for _ in _tensors(result)):
            self.add(name, place.path, given, given_named, result, place)
        return result

    def problem(self, found: Diagnostic) -> None:
        if found not in self.found.problems:
            self.found.problems.append(found)

    def add(
        self,
        target: nn.Module | str,
        path: str,
        given: tuple[Any, ...],
        named: Mapping[str, Any],
        result: Any,
        place: Place,
    ) -> None:
        refs = tuple(self.track(each) for each in _tensors(result))
        several = not isinstance(result, Tensor)
        self.found.calls.append(Call(target, path, given, named, refs, several, place))


def _in_place(name: str) -> bool:
    return (name.endswith("_") and not name.endswith("__")) or name in ("__iadd__", "__imul__", "__isub__")


def refs_in(value: Any) -> Iterator[Ref]:
    """Every value of the recording in a structure."""
    if isinstance(value, Ref):
        yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from refs_in(each)
    elif isinstance(value, tuple | list):
        for each in value:
            yield from refs_in(each)


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Iterable) and isinstance(value, tuple | list):
        for each in value:
            yield from _tensors(each)


def _span() -> Span | None:
    """The line of the module's source that runs: the innermost that is neither torch's nor ours."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        file = frame.f_code.co_filename
        if not file.startswith((_TORCH, _OURS)) and not file.startswith("<"):
            return Span(file, frame.f_lineno, 1, frame.f_lineno, 1)
        frame = frame.f_back
    return None


def span_of(error: BaseException) -> Span | None:
    """The innermost line of an error that is neither torch's nor ours."""
    found = None
    trace = error.__traceback__
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if not file.startswith((_TORCH, _OURS)) and not file.startswith("<"):
            found = Span(file, trace.tb_lineno, 1, trace.tb_lineno, 1)
        trace = trace.tb_next
    return found

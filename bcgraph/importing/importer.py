"""A torch module as a text of the language with its weights, proved on the example that it was read with."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bcgraph import dsl, files, weights
from bcgraph.compiler.driver import compile as compile_spec
from bcgraph.errors import BcgraphError, Diagnostic, SpecError
from bcgraph.importing import neurons
from bcgraph.importing.blocks import Builder, allowed, blocks, identifier, snake
from bcgraph.importing.conversion.rules import convert, is_leaf
from bcgraph.importing.layers import Layer, RefusedError
from bcgraph.importing.neurons import Written
from bcgraph.importing.record import Place, Recording, Ref, record
from bcgraph.importing.tree import Item, sequence
from bcgraph.nn.defaults import ordinary_defaults
from bcgraph.schema import NetworkSpec

TOLERANCE = 1e-9
"""How far the imported network may be from the module in float64, times the largest output or 1."""

_INPUTS = {3: "image", 2: "signal", 1: "vector"}
_TRAINING = ("StochasticDepth", "DropPath", "DropBlock2d")


@dataclass(frozen=True, slots=True)
class Imported:
    """A network from elsewhere: its text, what the text means, its weights by name, and what there is to say.

    `error` is the largest difference in float64 between the module and the network with its activations kept, at
    T = 1, on the example. `renamed` are names that could not stay, old and new.
    """

    text: str
    spec: NetworkSpec
    state_dict: Mapping[str, Tensor]
    error: float
    notes: tuple[str, ...] = ()
    renamed: tuple[tuple[str, str], ...] = ()

    def save(self, path: str | PathLike[str]) -> tuple[Path, Path]:
        """Write the text, and beside it the weights as safetensors; both paths. Raises RunError (E084)."""
        place = Path(path)
        beside = place.with_suffix(".safetensors")
        weights.save(beside, self.state_dict, spec=self.spec)
        files.write_bytes(place, self.text.encode())
        return place, beside


class ImportFailedError(BcgraphError):
    """What in a module cannot be said, all of it (E110 to E115)."""


@ordinary_defaults()
def from_torch(
    module: nn.Module,
    example: Tensor,
    *,
    name: str | None = None,
    steps: int = 4,
    keep_activations: bool = False,
    neuron: str = "lif()",
) -> Imported:
    """The network that `module` is on inputs like `example`, `[N, C, H, W]`, `[N, C, L]` or `[N, F]`.

    Activations become `neuron()`, and the network's neuron is `neuron`; with `keep_activations` they stay what they
    are, as neurons without memory. Neurons of SpikingJelly and snnTorch stay what they are. The module is read in
    evaluation mode, on a copy in float64. Raises ImportFailedError with everything that cannot be said: E110 where the
    module fails or gives no `[N, classes]`, E111 where values decide, E112 for views changed in place, E113 for what
    has no words, E114 where a value is read across branches, E115 where the network differs from the module.
    """
    reader = _Reader(module, example)
    if any(each.call == "gelu" for each in every(reader.items)):
        if keep_activations:
            message = "GELU needs the error function, which definitions of neurons do not have"
            raise ImportFailedError("E113", message, hint="GELU(approximate='tanh') can be kept")
        reader.notes.append("GELU is compared in its approximation by tanh")
    title = identifier(name or snake(type(module).__name__))
    kept = _Writer(reader, title, 1, kept=True, neuron="relu()")
    proof_text, proof_weights, _ = kept.text()
    error = _prove(reader, proof_text, proof_weights)
    final = _Writer(reader, title, steps, kept=keep_activations, neuron=neuron)
    text, state, renamed = final.text()
    spec = parsed(text)
    complete = {**compile_spec(spec).state_dict(), **state}
    return Imported(text, spec, complete, error, tuple(dict.fromkeys(reader.notes)), tuple(renamed))


class _Reader:
    """A module that was read: its layers as a sequence with branches."""

    def __init__(self, module: nn.Module, example: Tensor) -> None:
        if not isinstance(module, nn.Module):
            raise ImportFailedError("E110", f"a torch module is imported, not {type(module).__name__}")
        if not isinstance(example, Tensor) or not 2 <= example.dim() <= 4 or not example.is_floating_point():
            shown = list(example.shape) if isinstance(example, Tensor) else type(example).__name__
            hint = "[N, C, H, W], [N, C, L] or [N, F] of floats, with the batch first"
            raise ImportFailedError("E110", f"an example is a tensor of floats, not {shown}", hint=hint)
        self.notes: list[str] = []
        self.module = _prepared(module, self.notes)
        # As many equal samples as were given, but two at least: an axis of 1 would pass for the batch.
        x = example.detach().to(device="cpu", dtype=torch.float64)
        self.x = torch.cat([x, x]) if len(x) < 2 else x
        self.shape = tuple(self.x.shape[1:])
        self.recording: Recording = record(self.module, self.x, is_leaf)
        self.converter = convert(self.module, self.recording)
        problems = self.converter.problems
        end = self._end(problems)
        self.items: tuple[Item, ...] = ()
        if not problems and end is not None:
            try:
                self.items = sequence(self.converter.layers, end)
            except RefusedError as error:
                place = error.place or Place("", None)
                problems.append(place.problem("E114", error.message, error.hint))
        if problems:
            raise ImportFailedError.of([_excerpted(each) for each in problems])
        self.notes += self.converter.notes

    def _end(self, problems: list[Diagnostic]) -> int | None:
        """The layer whose value the module returns."""
        found = self.recording.output
        if any(each.code == "E110" for each in problems):
            return None
        place = Place("", None)
        if isinstance(found, tuple) and found and isinstance(found[0], Ref):
            last = next((each for each in reversed(self.recording.calls) if each.target != "double"), None)
            if last is not None and last.several and isinstance(last.target, nn.Module):
                self.notes.append("of what the last neuron returns, its spikes are the output")
                found = found[0]
        if not isinstance(found, Ref):
            what = (
                f"{type(found).__name__} of {len(found)}" if isinstance(found, tuple | dict) else type(found).__name__
            )
            problems.append(
                place.problem("E110", f"the module returns a {what}, not one tensor", "return the logits alone")
            )
            return None
        if found.number in self.converter.refused:
            return None
        value = self.recording.values[found.number]
        if value.is_complex() or not value.is_floating_point():
            problems.append(place.problem("E110", f"the module returns values of {value.dtype}", "return floats"))
            return None
        view = self.converter.views[found.number]
        layer = self.converter.layers[view.layer]
        if len(layer.shape) != 1:
            if value.dim() == 2:
                return self.converter.vector(view).layer
            shape = "x".join(map(str, value.shape[1:]))
            hint = "a network ends in one value a class"
            problems.append(place.problem("E110", f"the module returns {shape} for a sample", hint))
            return None
        return view.layer

    def wanted(self) -> Tensor:
        """What the module computes of the example, `[N, classes]`."""
        found = self.recording.output
        number = found[0].number if isinstance(found, tuple) else found.number
        value: Tensor = self.recording.values[number]
        return value


def _prepared(module: nn.Module, notes: list[str]) -> nn.Module:
    """A copy in evaluation mode and float64, whose neurons have no state and run one step."""
    try:
        made = copy.deepcopy(module)
    except Exception:  # a module may hold anything, and what fails to copy is read where it is
        made = module
    made = made.eval().to(device="cpu", dtype=torch.float64)
    seen: dict[int, str] = {}
    for name, parameter in made.named_parameters(remove_duplicate=False):
        first = seen.setdefault(id(parameter), name)
        if first != name:
            notes.append(f"`{first}` and `{name}` are one in the module, and two here")
    for path, each in made.named_modules():
        if isinstance(each, nn.GELU) and each.approximate != "tanh":
            neurons.by_tanh(each)
        if type(each).__name__ in _TRAINING:
            notes.append(f"`{path}` ({type(each).__name__}) is left out: it only acts in training")
        if getattr(each, "step_mode", "s") == "m":
            each.step_mode = "s"
            if "the module is read as one step" not in notes:
                notes.append("the module is read as one step")
        reset = getattr(each, "reset_mem", None) or getattr(each, "reset", None)
        if type(each).__module__.split(".")[0] == "snntorch":
            # Its spikes are float32, whatever comes in.
            each.register_forward_hook(_doubled)
        if callable(reset) and type(each).__module__.split(".")[0] in ("spikingjelly", "snntorch"):
            reset()
    return made


def _doubled(module: nn.Module, given: Any, result: Any) -> Any:
    return tuple(each.double() for each in result) if isinstance(result, tuple) else result.double()


class _Writer:
    """Writes the text of a module that was read, and the names of its weights."""

    def __init__(self, reader: _Reader, title: str, steps: int, *, kept: bool, neuron: str) -> None:
        self.reader, self.title, self.steps, self.kept = reader, title, steps, kept
        layers = [each for each in every(reader.items) if each.neuron]
        calls = {written(each) for each in layers}
        peers = {written(each) for each in layers if _spikes(each)}
        # One neuron everywhere is the network's own, so that one line changes it.
        self.common = next(iter(calls)) if len(calls) == 1 and (kept or peers) else None
        self.neuron = self.common if self.common is not None else neuron
        self.definitions = dict.fromkeys(
            each.definition for each in layers if each.definition is not None and (kept or _spikes(each))
        )

    def call(self, layer: Layer) -> tuple[str, list[tuple[str, Any]]]:
        """How a layer of neurons is written."""
        if self.common is not None or not (self.kept or _spikes(layer)):
            return "neuron", []
        return _called(layer), list(layer.arguments)

    def text(self) -> tuple[str, dict[str, Tensor], list[tuple[str, str]]]:
        """The text in its canonical layout, the weights by name, and what was renamed."""
        builder = Builder(self.reader.module, self.call)
        body = builder.body(self.reader.items, (), "")
        root = self.title if allowed(self.title) else f"{self.title}_"
        parts = ["bcg 1", *self.definitions]
        parts += [
            "\n".join([f"block {block.name}({', '.join(block.parameters)}) {{", *block.lines, "}"])
            for block in blocks(body, root)
        ]
        shape = self.reader.shape
        given = f"{_INPUTS[len(shape)]}({', '.join(map(str, shape))})"
        settings = [f"input = {given}", f"steps = {self.steps}", f"neuron = {self.neuron}", f"backbone = {root}()"]
        parts.append("\n".join([f"network {self.title} {{", *settings, "}"]))
        return dsl.format_text("\n\n".join(parts) + "\n"), builder.weights, builder.renamed


def _spikes(layer: Layer) -> bool:
    return layer.neuron and (layer.call in ("if_", "plif") or (layer.definition or "").count("spike(") > 0)


def written(layer: Layer) -> str:
    """The call of a layer as a text has it."""
    given = ", ".join(f"{n}={v.text if isinstance(v, Written) else _literal(v)}" for n, v in layer.arguments)
    return f"{_called(layer)}({given})"


def _called(layer: Layer) -> str:
    return "gelu_tanh" if layer.call == "gelu" else layer.call


def _literal(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else repr(value)


def every(items: Sequence[Item]) -> list[Layer]:
    """All layers of a sequence in order, those of branches before their join."""
    found: list[Layer] = []
    for item in items:
        for branch in item.branches:
            found += every(branch)
        found.append(item.layer)
    return found


def parsed(text: str) -> NetworkSpec:
    """What a text that was written here means. Raises ImportFailedError for what the language refuses of it."""
    try:
        return dsl.parse(text, file="<imported>")
    except SpecError as error:
        raise ImportFailedError.of(error.diagnostics) from None


@torch.no_grad()
def _prove(reader: _Reader, text: str, state: Mapping[str, Tensor]) -> float:
    """The largest difference between the module and its network at T = 1. Raises ImportFailedError (E115)."""
    spec = parsed(text)
    model = compile_spec(spec, dtype=torch.float64).eval()
    own = model.state_dict()
    missing = [name for name in own if name not in state and not name.endswith("num_batches_tracked")]
    if missing or any(name not in own for name in state):
        names = ", ".join((missing or [name for name in state if name not in own])[:4])
        raise ImportFailedError("E115", f"weights have no place: {names}")
    model.load_state_dict({**own, **state})
    found, wanted = model(reader.x)[0], reader.wanted()
    error = float((found - wanted).abs().max())
    bound = TOLERANCE * max(1.0, float(wanted.abs().max()))
    if not error <= bound:
        raise ImportFailedError(
            "E115",
            f"the imported network differs from the module by {error:.2g} on the example",
            hint="a module whose result changes from call to call cannot be imported",
        )
    return error


def _excerpted(found: Diagnostic) -> Diagnostic:
    """A finding with the source line it is about."""
    if found.span is None:
        return found
    try:
        line = Path(found.span.file).read_text(encoding="utf-8").splitlines()[found.span.line - 1]
    except (OSError, UnicodeDecodeError, IndexError):
        return found
    start = len(line) - len(line.lstrip()) + 1
    span = type(found.span)(found.span.file, found.span.line, start, found.span.line, len(line.rstrip()) + 1)
    return Diagnostic(found.code, found.message, span, found.hint, line, found.notes)

"""From a recording to layers of the language, call by call, by a rule for each module and each function.

What has no rule, or does not fit, is refused at its place; the conversion goes on, so that one report has all of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

from torch import Tensor, nn

from bcgraph.errors import Diagnostic
from bcgraph.importing import neurons
from bcgraph.importing.layers import Layer, RefusedError, Scope, View
from bcgraph.importing.neurons import Activation
from bcgraph.importing.record import Call, Place, Recording, Ref, refs_in

AXES = {1: "c", 2: "cl", 3: "chw"}


class Converter:
    """Layers by number, and for each value of the recording the layer it comes from."""

    def __init__(
        self,
        module: nn.Module,
        recording: Recording,
        modules: Mapping[type, ModuleRule],
        functions: Mapping[str, Callable[..., Any]],
    ) -> None:
        self.recording = recording
        self.modules, self.functions = modules, functions
        self.problems: list[Diagnostic] = list(recording.problems)
        self.notes: list[str] = []
        shape = tuple(recording.values[0].shape[1:])
        self.layers: list[Layer] = [Layer("input", (), (), shape, (), None, Place("", None))]
        self.views: dict[int, View] = {0: View(0, AXES[len(shape)])}
        self.refused: set[int] = set()
        self.owners = {id(value): name for name, value in module.named_parameters()}
        self.owners |= {id(value): name for name, value in module.named_buffers()}
        self.called: dict[int, Place] = {}
        self.call: Call = Call("", "", (), {}, (), False, Place("", None))

    def run(self) -> None:
        """Convert every call. Findings are in `problems`."""
        live = self.live()
        for call in self.recording.calls:
            if not live.isdisjoint(ref.number for ref in call.results):
                self.call = call
                self.convert(call)

    def live(self) -> set[int]:
        """The values that the output depends on; all of them where there is none."""
        outputs = list(refs_in(self.recording.output))
        if not outputs:
            return set(range(len(self.recording.values)))
        found = {ref.number for ref in outputs}
        for call in reversed(self.recording.calls):
            if not found.isdisjoint(ref.number for ref in call.results):
                found.update(ref.number for ref in call.refs())
        return found

    def convert(self, call: Call) -> None:
        """Convert one call, or note why it cannot be said."""
        # What follows from something refused is no finding of its own.
        if any(ref.number in self.refused for ref in call.refs()):
            self.refused.update(ref.number for ref in call.results)
            return
        try:
            found = self._converted(call)
            views = found if isinstance(found, list) else [found]
            self.views.update((ref.number, view) for ref, view in zip(call.results, views, strict=False))
            self.refused.update(ref.number for ref in call.results[len(views) :])
        except RefusedError as error:
            self.refused.update(ref.number for ref in call.results)
            self.problems.append(call.place.problem("E113", error.message, error.hint))

    def _converted(self, call: Call) -> View | list[View]:
        if isinstance(call.target, str):
            rule = self.functions.get(call.target)
            if rule is not None:
                found: View | list[View] = rule(self, *call.arguments, **call.named)
                return found
            if call.target in neurons.FUNCTIONS:
                x, *rest = call.arguments
                more = [*rest, *(v for k, v in call.named.items() if k != "inplace")]
                # What is left after the numbers is whether it runs in place.
                numbers = [each for each in more if not isinstance(each, bool)]
                return self.activation(self.view(x), neurons.FUNCTIONS[call.target](*numbers))
            raise RefusedError(f"the function `{call.target}` cannot be expressed in the language")
        x = call.arguments[0] if call.arguments else None
        if not isinstance(x, Ref):
            raise RefusedError(f"`{type(call.target).__name__}` is called without a tensor of the example")
        activation = neurons.of_module(call.target)
        if activation is not None:
            if activation.spikes and any(isinstance(each, Ref) for each in call.arguments[1:]):
                raise RefusedError(
                    "the module hands states of neurons from step to step",
                    "give the module of one step, whose neurons keep their own states (`init_hidden=True`)",
                )
            return self.activation(self.view(x), activation)
        for kind, rule in self.modules.items():
            if isinstance(call.target, kind):
                return rule(self, call.target, x)
        raise RefusedError(f"the layer `{type(call.target).__name__}` cannot be expressed in the language")

    # --- parts of rules ---

    def view(self, value: Any) -> View:
        """Where a tensor of the module comes from. Raises RefusedError for a constant."""
        if not isinstance(value, Ref):
            raise RefusedError(f"`{self.call.target}` reads a tensor that does not come from the input")
        return self.views[value.number]

    def shape(self, view: View) -> tuple[int, ...]:
        """The shape of a sample, as the language has it."""
        return self.layers[view.layer].shape

    def result(self) -> tuple[int, ...]:
        """The shape of a sample of the first result, as the module has it."""
        return tuple(self.recording.values[self.call.results[0].number].shape[1:])

    def add(
        self,
        call: str,
        inputs: Sequence[int],
        shape: tuple[int, ...],
        axes: str,
        name: str | None = None,
        weights: Mapping[str, Tensor] | None = None,
        path: str | None = None,
        neuron: bool = False,
        definition: str | None = None,
        **arguments: Any,
    ) -> View:
        """A new layer. `name` is that of a layer without a module of its own; `path` is that of a module."""
        scope, label = self.named(name, path)
        given = tuple(arguments.items())
        made = Layer(
            call, given, tuple(inputs), shape, scope, label, self.call.place, weights or {}, neuron, definition
        )
        self.layers.append(made)
        return View(len(self.layers) - 1, axes)

    def named(self, name: str | None, path: str | None = None) -> tuple[Scope, str | None]:
        """The scope and the name of a layer that stands where the call does."""
        if path is None and isinstance(self.call.target, str):
            scope = tuple(self.call.path.split(".")) if self.call.path else ()
            return scope, name
        parts = tuple((path or self.call.path).split("."))
        return parts[:-1], parts[-1]

    def once(self) -> None:
        """Raise RefusedError where a module with weights has been called before."""
        earlier = self.called.setdefault(id(self.call.target), self.call.place)
        if earlier is not self.call.place:
            where = f" at {earlier.span}" if earlier.span else ""
            raise RefusedError(
                f"`{self.call.path}` is called twice: its weights would be shared",
                f"it is called first{where}; a copy for each call can be imported",
            )

    def plain(self, view: View, what: str) -> View:
        """The view of an image, a signal or a vector whose axes are in their order. Raises RefusedError."""
        if view.axes != AXES[len(self.shape(view))]:
            raise RefusedError(f"{what} of a tensor whose axes are {' '.join(view.axes)} cannot be said")
        return view

    def vector(self, view: View) -> View:
        """A view of one axis, flattened where all places are one."""
        shape = self.shape(view)
        if len(shape) == 1:
            return view
        if view.axes == "c" and math.prod(shape[1:]) == 1:
            return self.unnamed("flatten", view, (shape[0],), "c")
        raise RefusedError(f"a vector is needed, but the tensor has the axes {' '.join(view.axes)}")

    def unnamed(self, call: str, view: View, shape: tuple[int, ...], axes: str, **arguments: Any) -> View:
        """A layer that needs no name."""
        made = self.add(call, (view.layer,), shape, axes, **arguments)
        self.layers[-1] = replace(self.layers[-1], name=None)
        return made

    def join(self, word: str, views: Sequence[View], shape: tuple[int, ...], axes: str) -> View:
        """A join of several values."""
        made = self.add(word, [view.layer for view in views], shape, axes)
        self.layers[-1] = replace(self.layers[-1], name=None)
        return made

    def activation(self, view: View, activation: Activation) -> View:
        """A layer of neurons in the place of an activation."""
        weights = dict(activation.weights)
        name = activation.name if not activation.spikes else "lif"
        made = self.add(
            activation.name,
            (view.layer,),
            self.shape(view),
            view.axes,
            name.rstrip("_"),
            weights,
            neuron=True,
            definition=activation.definition,
            **dict(activation.arguments),
        )
        self.layers[-1] = replace(self.layers[-1], arguments=activation.arguments)
        return made


def size(value: Any) -> Any:
    """A size of torch as the language has it: one number, or a pair."""
    if isinstance(value, tuple | list):
        values = tuple(int(each) for each in value)
        return values[0] if len(set(values)) == 1 else values
    return int(value)


def text(shape: tuple[int, ...]) -> str:
    """A shape in a message, as `3x32x32`."""
    return "x".join(map(str, shape))


def without(arguments: Mapping[str, Any], **defaults: Any) -> dict[str, Any]:
    """Arguments that are not at their defaults."""
    return {name: value for name, value in arguments.items() if name not in defaults or value != defaults[name]}


ModuleRule: TypeAlias = Callable[[Converter, Any, Ref], View]
"""What becomes of a module that reads a value."""

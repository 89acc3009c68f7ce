"""From a recording to layers of the language: one rule for each module and each function, found in two tables.

What has no rule, or does not fit, is refused at its place; the conversion goes on, so that one report has all of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import zip_longest
from typing import Any

import torch
from torch import Tensor, nn

from bcgraph.errors import Diagnostic
from bcgraph.importing import neurons
from bcgraph.importing.layers import Layer, RefusedError, Scope, View
from bcgraph.importing.neurons import Activation
from bcgraph.importing.record import Call, Place, Recording, Ref, refs_in

AXES = {1: "c", 2: "cl", 3: "chw"}


class Converter:
    """Layers by number, and for each value of the recording the layer it comes from."""

    def __init__(self, module: nn.Module, recording: Recording) -> None:
        self.recording = recording
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
            rule = FUNCTIONS.get(call.target)
            if rule is not None:
                found: View | list[View] = rule(self, *call.arguments, **call.named)
                return found
            if call.target in neurons.FUNCTIONS:
                x, *rest = call.arguments
                more = [*rest, *(v for k, v in call.named.items() if k != "inplace")]
                # What is left after the numbers is whether it runs in place.
                numbers = [each for each in more if not isinstance(each, bool)]
                return self.activation(self.view(x), neurons.FUNCTIONS[call.target](*numbers))
            raise RefusedError(f"the function `{call.target}` cannot be said in the language")
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
        for kind, rule in MODULES.items():
            if isinstance(call.target, kind):
                return rule(self, call.target, x)
        raise RefusedError(f"the layer `{type(call.target).__name__}` cannot be said in the language")

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


def _half(kernel: Any, dilation: Any) -> Any:
    if isinstance(kernel, tuple) or isinstance(dilation, tuple):
        kernels = kernel if isinstance(kernel, tuple) else (kernel, kernel)
        gaps = dilation if isinstance(dilation, tuple) else (dilation, dilation)
        return size([(k - 1) * d // 2 for k, d in zip(kernels, gaps, strict=True)])
    return (kernel - 1) * dilation // 2


def without(arguments: Mapping[str, Any], **defaults: Any) -> dict[str, Any]:
    """Arguments that are not at their defaults."""
    return {name: value for name, value in arguments.items() if name not in defaults or value != defaults[name]}


# --- modules ----------------------------------------------------------------------------------------------


def _conv(c: Converter, m: Any, x: Ref) -> View:
    c.once()
    view = c.plain(c.view(x), "a convolution")
    if m.padding_mode != "zeros":
        raise RefusedError(f"padding by `{m.padding_mode}` cannot be said", "padding is by zeros")
    settings = (m.stride, m.padding, m.dilation, m.groups)
    return convolution(c, view, m.weight, m.bias, *settings)


def convolution(
    c: Converter,
    view: View,
    weight: Tensor,
    bias: Tensor | None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    name: str | None = None,
) -> View:
    """A convolution with these weights."""
    kernel, stride, dilation = size(tuple(weight.shape[2:])), size(stride), size(dilation)
    if padding == "valid":
        padding = 0
    elif padding == "same":
        padding = _half(kernel, dilation)
        wide = kernel if isinstance(kernel, tuple) else (kernel,)
        if any((k - 1) % 2 for k in wide):
            raise RefusedError("padding of an even kernel to the same size is not the same on both sides")
    given = {"kernel": kernel, "stride": stride, "padding": size(padding), "dilation": dilation, "groups": groups}
    given = without({**given, "bias": bias is not None}, stride=1, dilation=1, groups=1, bias=False)
    given = without(given, padding=_half(kernel, dilation))
    weights = {"weight": weight.detach()} | ({"bias": bias.detach()} if bias is not None else {})
    shape = c.result()
    return c.add("conv", (view.layer,), shape, view.axes, name, weights, channels=weight.shape[0], **given)


def _transposed(c: Converter, m: Any, x: Ref) -> View:
    c.once()
    view = c.plain(c.view(x), "a transposed convolution")
    given = {each: size(getattr(m, f"{each}_size" if each == "kernel" else each))
             for each in ("kernel", "stride", "padding", "output_padding")}  # fmt: skip
    if size(m.dilation) != 1 or any(isinstance(v, tuple) for v in given.values()):
        raise RefusedError("a transposed convolution is square and without dilation")
    given = without(
        {**given, "groups": m.groups, "bias": m.bias is not None}, padding=0, output_padding=0, groups=1, bias=False
    )
    weights = {"weight": m.weight.detach()} | ({"bias": m.bias.detach()} if m.bias is not None else {})
    return c.add(
        "conv_transpose", (view.layer,), c.result(), view.axes, None, weights, channels=m.out_channels, **given
    )


def _bn(c: Converter, m: Any, x: Ref) -> View:
    c.once()
    return batch_norm(c, c.view(x), m.running_mean, m.running_var, m.weight, m.bias, m.momentum, m.eps)


def batch_norm(
    c: Converter,
    view: View,
    mean: Tensor | None,
    var: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    momentum: float | None,
    eps: float,
    name: str | None = None,
) -> View:
    """A batch norm with these values."""
    if mean is None or var is None:
        raise RefusedError("a batch norm without running statistics cannot be said", "track its running statistics")
    if not view.axes.startswith("c"):
        raise RefusedError("a batch norm is over the axis after the batch")
    weights = {
        "weight": torch.ones_like(mean) if weight is None else weight.detach(),
        "bias": torch.zeros_like(mean) if bias is None else bias.detach(),
        "running_mean": mean.detach(),
        "running_var": var.detach(),
    }
    given = without(
        {"eps": float(eps), "momentum": 0.1 if momentum is None else float(momentum)}, eps=1e-5, momentum=0.1
    )
    return c.add("bn", (view.layer,), c.shape(view), view.axes, name, weights, **given)


def _linear(c: Converter, m: Any, x: Ref) -> View:
    c.once()
    return linear(c, c.view(x), m.weight, m.bias)


def linear(c: Converter, view: View, weight: Tensor, bias: Tensor | None, name: str | None = None) -> View:
    """A linear layer; over the channels of places it is a convolution of one place."""
    weights = {"weight": weight.detach()} | ({"bias": bias.detach()} if bias is not None else {})
    shape = c.shape(view)
    if len(shape) > 1 and len(view.axes) == len(shape) and view.axes.endswith("c"):
        weights["weight"] = weights["weight"].reshape(*weight.shape, *[1] * (len(shape) - 1))
        given: dict[str, Any] = {"kernel": 1} | ({"bias": True} if bias is not None else {})
        after = (weight.shape[0], *shape[1:])
        return c.add("conv", (view.layer,), after, view.axes, name, weights, channels=weight.shape[0], **given)
    view = c.vector(view)
    given = {} if bias is not None else {"bias": False}
    return c.add("linear", (view.layer,), (weight.shape[0],), "c", name, weights, features=weight.shape[0], **given)


def _layer_norm_module(c: Converter, m: Any, x: Ref) -> View:
    c.once()
    return layer_norm(c, c.view(x), m.normalized_shape, m.weight, m.bias, m.eps)


def layer_norm(
    c: Converter, view: View, over: Any, weight: Tensor | None, bias: Tensor | None, eps: float = 1e-5,
    name: str | None = None,
) -> View:  # fmt: skip
    """A layer norm over channels, which are the last axis."""
    if len(tuple(over)) != 1 or not view.axes.endswith("c"):
        raise RefusedError(
            "a layer norm is over the channels at each place", "over more axes it is a group norm of 1 group"
        )
    given = without({"eps": float(eps), "affine": weight is not None}, eps=1e-5, affine=True)
    return c.add("layernorm", (view.layer,), c.shape(view), view.axes, name, _affine(weight, bias), **given)


def _affine(weight: Tensor | None, bias: Tensor | None) -> dict[str, Tensor]:
    if weight is None:
        return {}
    return {"weight": weight.detach(), "bias": torch.zeros_like(weight) if bias is None else bias.detach()}


def _group_norm_module(c: Converter, m: Any, x: Ref) -> View:
    c.once()
    return group_norm(c, c.view(x), m.num_groups, m.weight, m.bias, m.eps)


def group_norm(
    c: Converter, view: View, groups: int, weight: Tensor | None, bias: Tensor | None, eps: float = 1e-5,
    name: str | None = None,
) -> View:  # fmt: skip
    """A group norm."""
    view = c.plain(view, "a group norm")
    given = without({"eps": float(eps), "affine": weight is not None}, eps=1e-5, affine=True)
    return c.add(
        "groupnorm", (view.layer,), c.shape(view), view.axes, name, _affine(weight, bias), groups=groups, **given
    )


def _instance_norm(c: Converter, m: Any, x: Ref) -> View:
    if m.track_running_stats:
        raise RefusedError("an instance norm with running statistics cannot be said")
    c.once()
    view = c.view(x)
    return group_norm(c, view, c.shape(view)[0], m.weight, m.bias, m.eps)


def _pool_module(kind: str) -> Callable[[Converter, Any, Ref], View]:
    def rule(c: Converter, m: Any, x: Ref) -> View:
        if kind == "maxpool":
            if m.return_indices:
                raise RefusedError("the places of a maximum cannot be said")
            return max_pool(c, x, m.kernel_size, m.stride, m.padding, m.dilation, m.ceil_mode)
        divisor = getattr(m, "divisor_override", None)
        return average_pool(c, x, m.kernel_size, m.stride, m.padding, m.ceil_mode, m.count_include_pad, divisor)

    return rule


def max_pool(
    c: Converter, x: Ref, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1,
    ceil_mode: bool = False, return_indices: bool = False,
) -> View:  # fmt: skip
    """A maximum over windows."""
    if size(dilation) != 1:
        raise RefusedError("a maximum over windows with gaps cannot be said")
    return _pool(c, "maxpool", x, kernel_size, stride, padding, ceil=ceil_mode)


def average_pool(
    c: Converter, x: Ref, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False,
    count_include_pad: bool = True, divisor_override: Any = None,
) -> View:  # fmt: skip
    """An average over windows."""
    if divisor_override is not None:
        raise RefusedError("an average by a divisor of its own cannot be said")
    padded = size(padding) not in (0, (0, 0))
    if padded and not count_include_pad:
        raise RefusedError("an average that does not count its padding cannot be said")
    return _pool(c, "avgpool", x, kernel_size, stride, padding, ceil=ceil_mode)


def _pool(c: Converter, kind: str, x: Ref, kernel_size: Any, stride: Any, padding: Any, *, ceil: bool) -> View:
    if kind == "avgpool" and c.view(x).axes == "gc" and stride == kernel_size and size(padding) == 0:
        return _vote(c, c.view(x), size(kernel_size))
    view = c.plain(c.view(x), "pooling")
    kernel = size(kernel_size)
    stride = kernel if stride is None or stride == () or stride == [] else size(stride)
    padding = size(padding)
    two = [value if isinstance(value, tuple) else (value, value) for value in (kernel, stride, padding)]
    down = tuple((length + 2 * p - k) // s + 1 for length, k, s, p in zip(c.shape(view)[1:], *two, strict=False))
    given = without({"stride": stride, "padding": padding}, padding=0)
    given = without(given, stride=kernel)
    if ceil and down != c.result()[1:]:
        if kind == "avgpool":
            raise RefusedError("an average over windows that are not full cannot be said")
        given["ceil"] = True
    return c.unnamed(kind, view, c.result(), view.axes, kernel=kernel, **given)


def _vote(c: Converter, view: View, count: int) -> View:
    """The average of each `count` features of a vector, which the module reads as one channel of places."""
    (features,) = c.shape(view)
    if c.result() != (1, features // count) or features % count:
        raise RefusedError(f"{features} features do not divide into averages of {count}")
    added = c.unnamed("channel_sum", view, (features // count,), view.axes, groups=features // count)
    return c.unnamed("times", added, c.shape(added), view.axes, factor=1.0 / count)


def _adaptive_module(kind: str) -> Callable[[Converter, Any, Ref], View]:
    return lambda c, m, x: adaptive(c, kind, x, m.output_size)


def adaptive(c: Converter, kind: str, x: Ref, output_size: Any, return_indices: bool = False) -> View:
    """Pooling to a fixed size."""
    view = c.plain(c.view(x), "pooling")
    shape = c.result()
    if shape == c.shape(view):
        return view
    wanted = size(shape[1:])
    given = {} if wanted == 1 else {"size": wanted}
    return c.unnamed(kind, view, shape, view.axes, **given)


def _flatten_module(c: Converter, m: Any, x: Ref) -> View:
    return reshaped(c, x)


def _same_module(c: Converter, m: Any, x: Ref) -> View:
    return c.view(x)


def _dropout_module(c: Converter, m: Any, x: Ref) -> View:
    view = c.view(x)
    if not 0 < float(m.p) < 1:
        return view
    return c.unnamed("dropout", view, c.shape(view), view.axes, p=float(m.p))


def _left_out(c: Converter, m: Any, x: Ref) -> View:
    c.notes.append(f"`{c.call.path}` ({type(m).__name__}) is left out: it only acts in training")
    return c.view(x)


def _softmax(c: Converter, m: Any, x: Ref) -> View:
    return last_softmax(c, x)


def last_softmax(c: Converter, x: Ref, *_: Any, **__: Any) -> View:
    """A softmax that ends the network is the loss's."""
    if c.recording.output != c.call.results[0]:
        raise RefusedError("a softmax inside the network cannot be said", "attention without one can: see `attention`")
    c.notes.append("the softmax at the end is left out: losses have their own")
    c.recording.output = x
    return c.view(x)


def _upsample_module(c: Converter, m: Any, x: Ref) -> View:
    return interpolated(c, x, m.size, m.scale_factor, m.mode)


def interpolated(
    c: Converter, x: Ref, size: Any = None, scale_factor: Any = None, mode: str = "nearest", *_: Any, **__: Any
) -> View:
    """Nearest upsampling by a whole factor."""
    view = c.plain(c.view(x), "upsampling")
    before, after = c.shape(view)[1:], c.result()[1:]
    factor = after[0] // before[0]
    if not mode.startswith("nearest") or any(a != factor * b for a, b in zip(after, before, strict=True)):
        raise RefusedError(
            f"upsampling by `{mode}` from {before} to {after} cannot be said", "known: nearest, by a whole factor"
        )
    return view if factor == 1 else c.unnamed("upsample", view, c.result(), view.axes, factor=factor)


def _channel_shuffle(c: Converter, m: Any, x: Ref) -> View:
    view = c.plain(c.view(x), "a shuffle")
    return c.unnamed("shuffle", view, c.shape(view), view.axes, groups=m.groups)


def _refused(what: str) -> Callable[[Converter, Any, Ref], View]:
    def rule(c: Converter, m: Any, x: Ref) -> View:
        raise RefusedError(f"{what} cannot be said")

    return rule


MODULES: Mapping[type, Callable[[Converter, Any, Ref], View]] = {
    nn.Conv2d: _conv,
    nn.Conv1d: _conv,
    nn.ConvTranspose2d: _transposed,
    nn.ConvTranspose1d: _transposed,
    nn.BatchNorm2d: _bn,
    nn.BatchNorm1d: _bn,
    nn.LayerNorm: _layer_norm_module,
    nn.GroupNorm: _group_norm_module,
    nn.InstanceNorm2d: _instance_norm,
    nn.InstanceNorm1d: _instance_norm,
    nn.Linear: _linear,
    nn.MaxPool2d: _pool_module("maxpool"),
    nn.MaxPool1d: _pool_module("maxpool"),
    nn.AvgPool2d: _pool_module("avgpool"),
    nn.AvgPool1d: _pool_module("avgpool"),
    nn.AdaptiveAvgPool2d: _adaptive_module("adaptive_avgpool"),
    nn.AdaptiveAvgPool1d: _adaptive_module("adaptive_avgpool"),
    nn.AdaptiveMaxPool2d: _adaptive_module("adaptive_maxpool"),
    nn.AdaptiveMaxPool1d: _adaptive_module("adaptive_maxpool"),
    nn.Flatten: _flatten_module,
    nn.Identity: _same_module,
    nn.Dropout: _dropout_module,
    nn.Dropout1d: _left_out,
    nn.Dropout2d: _left_out,
    nn.Softmax: _softmax,
    nn.LogSoftmax: _softmax,
    nn.Upsample: _upsample_module,
    nn.ChannelShuffle: _channel_shuffle,
    nn.MultiheadAttention: _refused("attention with a softmax"),
    nn.RNNBase: _refused("a recurrent layer of torch"),
    nn.Embedding: _refused("a table of embeddings"),
}
"""Modules that are recorded whole; the first that fits has the rule."""


# --- functions --------------------------------------------------------------------------------------------


def reshaped(c: Converter, x: Ref, *_: Any, **__: Any) -> View:
    """`flatten`, `view`, `reshape`, `squeeze` and `unsqueeze`, by the shape of what comes out."""
    view, after = c.view(x), c.result()
    shape = c.shape(view)
    plain = view.axes == AXES[len(shape)]
    if len(after) == 1 and after[0] == math.prod(shape) and (plain or view.axes == "c"):
        return view if len(shape) == 1 else c.unnamed("flatten", view, after, "c")
    if after == shape and (plain or view.axes == "gc"):
        return View(view.layer, AXES[len(shape)])
    if plain and len(shape) == 3 and after == (shape[0], shape[1] * shape[2]):
        return c.unnamed("tokens", view, after, "cl")
    if plain and len(after) == len(shape) + 1 and after[0] * after[1] == shape[0] and after[2:] == shape[1:]:
        return View(view.layer, f"g{view.axes}")
    if view.axes.startswith("cg") and after == shape:
        groups = c.recording.values[x.number].shape[2]
        return c.unnamed("shuffle", View(view.layer, AXES[len(shape)]), shape, AXES[len(shape)], groups=groups)
    if after == (*shape, *[1] * (len(after) - len(shape))) and len(shape) > 0 and view.axes == "c" == AXES[len(shape)]:
        # A vector as an image of one place: products and convolutions of one place read it so.
        return View(view.layer, "c")
    if view.axes == "c" and after == shape:
        return View(view.layer, AXES[len(shape)])
    hint = "a module that repeats its input over steps can be given as that of one step"
    raise RefusedError(f"a tensor of {_text(shape)} as {_text(after)} cannot be said", hint)


def _text(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def permuted(c: Converter, x: Ref, *dims: Any, **named: Any) -> View:
    """`permute`: the axes in another order."""
    view = c.view(x)
    order = dims or tuple(named.values())
    if len(order) == 1 and isinstance(order[0], tuple):
        order = order[0]
    rank = len(view.axes) + 1
    order = tuple(int(each) % rank for each in order)
    if order[0] != 0:
        raise RefusedError("the batch stays the first axis")
    return View(view.layer, "".join(view.axes[each - 1] for each in order[1:]))


def transposed(c: Converter, x: Ref, one: int, other: int) -> View:
    """`transpose`: two axes change places."""
    rank = len(c.view(x).axes) + 1
    order = list(range(rank))
    order[one % rank], order[other % rank] = order[other % rank], order[one % rank]
    return permuted(c, x, tuple(order))


def averaged(c: Converter, x: Ref, dim: Any = None, keepdim: bool = False, **_: Any) -> View:
    """`mean` over all places."""
    view = c.view(x)
    shape, rank = c.shape(view), len(view.axes) + 1
    dims = {int(each) % rank for each in (dim if isinstance(dim, tuple) else (dim,))} if dim is not None else set()
    over = {view.axes[each - 1] for each in dims if each}
    if 0 in dims or over != set(AXES[len(shape)][1:]) or len(shape) == 1:
        raise RefusedError("a mean is over all places of a channel")
    after = (shape[0], *[1] * (len(shape) - 1))
    axes = AXES[len(shape)] if keepdim and view.axes == AXES[len(shape)] else "c"
    if keepdim and axes == "c":
        raise RefusedError("a mean that keeps its axes is over the last of them")
    return c.unnamed("adaptive_avgpool", View(view.layer, AXES[len(shape)]), after, axes)


def join(c: Converter, word: str, views: Sequence[View], shape: tuple[int, ...]) -> View:
    """A join of several values, whose axes are the same."""
    axes = max((view.axes for view in views), key=len)
    if any(view.axes not in (axes, "c") for view in views):
        raise RefusedError("tensors whose axes are in different orders meet")
    # In a product a vector holds for all places.
    ranks = {len(c.shape(view)) for view in views} - ({1} if word == "mul" else set())
    if len(ranks) > 1:
        raise RefusedError("tensors of different numbers of axes meet", "keep the axes of size 1")
    return c.join(word, views, shape, axes)


def added(c: Converter, x: Any, y: Any, *, alpha: Any = 1, **_: Any) -> View:
    """`x + y`."""
    if alpha != 1:
        raise RefusedError("a sum with a factor cannot be said", "multiply before")
    if not (isinstance(x, Ref) and isinstance(y, Ref)):
        other = y if isinstance(x, Ref) else x
        if isinstance(other, int | float) and other == 0:
            return c.view(x if isinstance(x, Ref) else y)
        what = "a trained value" if isinstance(other, nn.Parameter) else "a constant"
        raise RefusedError(f"{what} is added, which cannot be said", "a bias is one of a convolution or a linear layer")
    one, other = c.view(x), c.view(y)
    if c.shape(one) != c.shape(other):
        raise RefusedError(f"tensors of {_text(c.shape(one))} and {_text(c.shape(other))} are added")
    return join(c, "sum", [one, other], c.shape(one))


def subtracted(c: Converter, x: Any, y: Any, **_: Any) -> View:
    """`x - y`."""
    if isinstance(x, Ref) and isinstance(y, Ref):
        other = c.view(y)
        turned = c.unnamed("times", other, c.shape(other), other.axes, factor=-1.0)
        return join(c, "sum", [c.view(x), turned], c.shape(other))
    if isinstance(y, Ref) and x == 1:
        return from_one(c, y, x)
    raise RefusedError("a constant is taken away, which cannot be said")


def from_one(c: Converter, x: Ref, one: Any) -> View:
    """`1 - x`."""
    if one != 1:
        raise RefusedError(f"{one} less a tensor cannot be said", "1 less a tensor can")
    view = c.view(x)
    return c.unnamed("complement", view, c.shape(view), view.axes)


def multiplied(c: Converter, x: Any, y: Any, **_: Any) -> View:
    """`x * y`: of two values, with a number, or with a trained factor for each channel."""
    if isinstance(x, Ref) and isinstance(y, Ref):
        one, other = c.view(x), c.view(y)
        shape = tuple(max(sizes) for sizes in zip_longest(c.shape(one), c.shape(other), fillvalue=1))
        return join(c, "mul", [one, other], shape)
    value, factor = (x, y) if isinstance(x, Ref) else (y, x)
    view = c.view(value)
    if isinstance(factor, Tensor) and factor.numel() == 1 and not isinstance(factor, nn.Parameter):
        factor = float(factor)
    if isinstance(factor, int | float):
        return view if factor == 1 else c.unnamed("times", view, c.shape(view), view.axes, factor=float(factor))
    channels = c.shape(view)[0]
    place = factor.dim() - (len(view.axes) - view.axes.index("c"))
    alone = factor.numel() == channels and place >= 0 and factor.shape[place] == channels
    if isinstance(factor, Tensor) and (alone or factor.numel() == 1):
        values = factor.detach().reshape(-1).expand(channels).clone()
        return c.add("scale", (view.layer,), c.shape(view), view.axes, _own(c, factor, "scale"), {"weight": values})
    raise RefusedError("a product with a tensor that is not one factor for each channel cannot be said")


def _own(c: Converter, tensor: Tensor, otherwise: str) -> str:
    """The name of a parameter of the module that runs."""
    name = c.owners.get(id(tensor))
    return otherwise if name is None else name.split(".")[-1]


def divided(c: Converter, x: Any, y: Any, **_: Any) -> View:
    """`x / number`."""
    if isinstance(x, Ref) and isinstance(y, int | float):
        return multiplied(c, x, 1.0 / y)
    raise RefusedError("a quotient of tensors cannot be said")


def concatenated(c: Converter, tensors: Any, dim: int = 0, **_: Any) -> View:
    """`cat` along channels."""
    views = [c.view(each) for each in tensors]
    axes = views[0].axes
    if not dim % (len(axes) + 1) > 0 or axes[dim % (len(axes) + 1) - 1] != "c":
        raise RefusedError("tensors are put side by side along another axis than channels")
    if len(views) == 1:
        return views[0]
    shape = c.shape(views[0])
    return join(c, "concat", views, (sum(c.shape(view)[0] for view in views), *shape[1:]))


def split(c: Converter, x: Ref, size: Any, dim: int = 0, **_: Any) -> list[View]:
    """`chunk` and `split` along channels."""
    view = c.view(x)
    if view.axes[dim % (len(view.axes) + 1) - 1] != "c" or dim == 0:
        raise RefusedError("a tensor is split along another axis than channels")
    found, first = [], 0
    axis = dim % (len(view.axes) + 1)
    for ref in c.call.results:
        count = c.recording.values[ref.number].shape[axis]
        shape = (count, *c.shape(view)[1:])
        found.append(c.unnamed("select", view, shape, view.axes, first=first, count=count))
        first += count
    return found


def part(c: Converter, x: Ref, index: Any) -> View:
    """`x[:, a:b]`: some channels."""
    view = c.view(x)
    index = index if isinstance(index, tuple) else (index,)
    whole = slice(None)
    channels = c.shape(view)[0]
    if (
        len(index) >= 2
        and index[0] == whole
        and isinstance(index[1], slice)
        and all(i in (whole, ...) for i in index[2:])
    ):
        first, end, step = index[1].indices(channels)
        if step == 1 and view.axes.startswith("c") and end > first:
            if (first, end) == (0, channels):
                return view
            shape = (end - first, *c.shape(view)[1:])
            return c.unnamed("select", view, shape, view.axes, first=first, count=end - first)
    if index == (..., None) or all(i in (whole, None, ...) for i in index):
        return reshaped(c, x)
    raise RefusedError("a part of a tensor other than a range of channels cannot be said")


def same(c: Converter, x: Ref, *_: Any, **__: Any) -> View:
    """What changes no value."""
    return c.view(x)


def padded(c: Converter, x: Ref, pad: Any, mode: str = "constant", value: Any = None) -> View:
    """`pad` with zeros, to any side."""
    sides = [int(each) for each in pad] + [0] * (4 - len(pad))
    if not any(sides):
        return c.view(x)
    view = c.plain(c.view(x), "padding")
    if mode != "constant" or value not in (None, 0) or len(sides) > 4 or min(sides) < 0:
        raise RefusedError(f"padding by {tuple(pad)} with `{mode}` cannot be said", "padding is by zeros")
    given = without(dict(zip(("left", "right", "top", "bottom"), sides, strict=True)), left=0, right=0, top=0, bottom=0)
    return c.unnamed("pad", view, c.result(), view.axes, **given)


def _dropout(c: Converter, x: Ref, p: float = 0.5, *_: Any, **__: Any) -> View:
    view = c.view(x)
    return c.unnamed("dropout", view, c.shape(view), view.axes, p=float(p)) if 0 < p < 1 else view


def _functional_conv(c: Converter, x: Any, weight: Any, bias: Any = None, *rest: Any, **named: Any) -> View:
    view = c.plain(c.view(x), "a convolution")
    _constant(weight)
    settings = dict(zip(("stride", "padding", "dilation", "groups"), rest, strict=False)) | named
    return convolution(c, view, weight, bias, **settings, name=_holder(c, weight, "conv"))


def _functional_linear(c: Converter, x: Any, weight: Any, bias: Any = None) -> View:
    _constant(weight)
    return linear(c, c.view(x), weight, bias, _holder(c, weight, "linear"))


def _functional_batch_norm(
    c: Converter, x: Any, running_mean: Any, running_var: Any, weight: Any = None, bias: Any = None,
    training: bool = False, momentum: float = 0.1, eps: float = 1e-5,
) -> View:  # fmt: skip
    if training:
        raise RefusedError("a batch norm by the statistics of the batch alone cannot be said")
    name = _holder(c, running_mean, "bn")
    return batch_norm(c, c.view(x), running_mean, running_var, weight, bias, momentum, eps, name)


def _functional_layer_norm(
    c: Converter, x: Any, normalized_shape: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5
) -> View:
    return layer_norm(c, c.view(x), normalized_shape, weight, bias, eps, _holder(c, weight, "norm"))


def _functional_group_norm(
    c: Converter, x: Any, num_groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5
) -> View:
    return group_norm(c, c.view(x), num_groups, weight, bias, eps, _holder(c, weight, "norm"))


def _constant(weight: Any) -> None:
    if isinstance(weight, Ref):
        raise RefusedError("weights that depend on the input cannot be said")


def _holder(c: Converter, weight: Tensor | None, kind: str) -> str:
    """A name for a layer whose function is called with the weights of the module that runs."""
    name = c.owners.get(id(weight), "")
    held = name.removeprefix(f"{c.call.path}." if c.call.path else "").split(".")[:-1]
    return "_".join(held) if held else kind


FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    **dict.fromkeys(("flatten", "view", "reshape", "squeeze", "unsqueeze", "unflatten", "ravel"), reshaped),
    **dict.fromkeys(("contiguous", "clone", "detach", "float", "double", "to", "type", "type_as"), same),
    **dict.fromkeys(("alpha_dropout", "feature_dropout", "dropout2d", "feature_alpha_dropout"), same),
    **dict.fromkeys(("add", "add_", "__radd__", "__add__", "__iadd__"), added),
    **dict.fromkeys(("sub", "sub_", "subtract", "__sub__"), subtracted),
    **dict.fromkeys(("__rsub__", "rsub"), from_one),
    **dict.fromkeys(("mul", "mul_", "multiply", "__mul__", "__rmul__"), multiplied),
    **dict.fromkeys(("div", "div_", "true_divide", "__truediv__"), divided),
    **dict.fromkeys(("cat", "concat", "concatenate"), concatenated),
    **dict.fromkeys(("chunk", "split", "tensor_split"), split),
    **dict.fromkeys(("softmax", "log_softmax"), last_softmax),
    **dict.fromkeys(("max_pool2d", "max_pool1d", "_max_pool2d", "_max_pool1d"), max_pool),
    **dict.fromkeys(("avg_pool2d", "avg_pool1d"), average_pool),
    **dict.fromkeys(
        ("adaptive_avg_pool2d", "adaptive_avg_pool1d"),
        lambda c, x, output_size: adaptive(c, "adaptive_avgpool", x, output_size),
    ),
    **dict.fromkeys(
        ("adaptive_max_pool2d", "adaptive_max_pool1d"),
        lambda c, x, output_size, *rest: adaptive(c, "adaptive_maxpool", x, output_size),
    ),
    **dict.fromkeys(("conv2d", "conv1d"), _functional_conv),
    "linear": _functional_linear,
    "batch_norm": _functional_batch_norm,
    "layer_norm": _functional_layer_norm,
    "group_norm": _functional_group_norm,
    "dropout": _dropout,
    "interpolate": interpolated,
    "pad": padded,
    "permute": permuted,
    "transpose": transposed,
    "swapaxes": transposed,
    "mean": averaged,
    "__getitem__": part,
    "channel_shuffle": lambda c, x, groups: c.unnamed(
        "shuffle", c.view(x), c.shape(c.view(x)), c.view(x).axes, groups=groups
    ),
}
"""Functions of torch and methods of tensors, by name."""


def is_leaf(module: nn.Module) -> bool:
    """Whether a module is recorded whole: a layer of torch as torch runs it, or a neuron of a peer."""
    for kind in MODULES:
        if isinstance(module, kind):
            own = type(module).__module__.split(".")[0]
            return type(module).forward is getattr(kind, "forward", None) or own in ("torch", "spikingjelly")
    try:
        return neurons.of_module(module) is not None
    except RefusedError:
        return True

"""The meaning of a network, run step by step in plain PyTorch: the judge of every schedule.

It reads the equations off directly and cares for nothing else: one Python loop over the steps, one walk down the body
per step, every spike, membrane and current of every port kept. It knows `bcgraph.schema` and shares no code with what
it judges. Parameters are taken and kept by name (`conv1.weight`, `bn1.running_mean`, `backward.16_0.conv.weight`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from bcgraph import schema


@dataclass
class Trace:
    """What one forward pass did. `(port, step)` indexes the values of single LIF layers.

    `output` is O, `[T, N, classes]`; `spikes`, `currents` (I, with the backward connections) and `membranes` (u, before
    the reset) are `[N, ...]`.
    """

    output: Tensor
    spikes: dict[tuple[int, int], Tensor]
    currents: dict[tuple[int, int], Tensor]
    membranes: dict[tuple[int, int], Tensor]

    def rate(self) -> float:
        """The share of neurons and steps that fire."""
        return float(torch.cat([s.detach().flatten() for s in self.spikes.values()]).mean())

    def rates(self) -> dict[int, float]:
        """The firing rate of each port over all steps."""
        ports = sorted({port for port, _ in self.spikes})
        return {
            p: float(torch.stack([s.detach() for (q, _), s in self.spikes.items() if q == p]).mean()) for p in ports
        }


@dataclass
class Run:
    """The values of a pass under way."""

    training: bool
    update: bool
    step: int = 0
    potentials: dict[int, Tensor] = field(default_factory=dict)
    left: dict[tuple[int, int], Tensor] = field(default_factory=dict)
    spikes: dict[tuple[int, int], Tensor] = field(default_factory=dict)
    currents: dict[tuple[int, int], Tensor] = field(default_factory=dict)
    membranes: dict[tuple[int, int], Tensor] = field(default_factory=dict)


class Reference:
    """A network as its equations say, with parameters and running statistics of its own.

    `parameters` are leaves that gather gradients; `buffers` are the batch norms' running statistics, updated by every
    training pass. `state_dict` is copied, never written to.
    """

    def __init__(
        self, spec: schema.NetworkSpec, state_dict: Mapping[str, Tensor], dtype: torch.dtype = torch.float64
    ) -> None:
        self.spec = spec
        self.parameters: dict[str, Tensor] = {}
        self.buffers: dict[str, Tensor] = {}
        for name, value in state_dict.items():
            copy = value.detach().clone()
            if name.rsplit(".", 1)[-1] in ("running_mean", "running_var", "num_batches_tracked"):
                self.buffers[name] = copy.to(dtype) if copy.is_floating_point() else copy
            else:
                self.parameters[name] = copy.to(dtype).requires_grad_()

    def __call__(
        self,
        x: Tensor,
        *,
        training: bool = False,
        update: bool = True,
        start: Mapping[int, Tensor] | None = None,
    ) -> Trace:
        """Run `spec.steps` steps on x, `[N, C, H, W]` or, for a sequence, `[T, N, C, H, W]`.

        `training` uses the statistics of each step's batch; with `update` the running statistics follow. `start` gives
        v[-1] of ports that do not begin at rest.
        """
        run = Run(training=training, update=training and update, potentials=dict(start or {}))
        outputs = []
        for t in range(self.spec.steps):
            run.step = t
            frame = x[t] if isinstance(self.spec.input, schema.SequenceInput) else x
            outputs.append(self._body(self.spec.backbone.body, frame, run))
        return Trace(torch.stack(outputs), run.spikes, run.currents, run.membranes)

    def gradients(self) -> dict[str, Tensor]:
        """The gradient of each parameter; zero where nothing reached it."""
        return {n: torch.zeros_like(p) if p.grad is None else p.grad for n, p in self.parameters.items()}

    def zero_grad(self) -> None:
        for parameter in self.parameters.values():
            parameter.grad = None

    # --- Layers -------------------------------------------------------------------------------------------

    def _body(self, body: Sequence[schema.LayerNode], x: Tensor, run: Run) -> Tensor:
        for layer in body:
            x = self._layer(layer, x, run)
        return x

    def _layer(self, layer: schema.LayerNode, x: Tensor, run: Run) -> Tensor:
        match layer:
            case schema.Sum():
                values = [self._body(branch, x, run) for branch in layer.branches]
                return sum(values[1:], start=values[0]) if values else x
            case schema.Concat():
                values = [self._body(branch, x, run) for branch in layer.branches]
                return torch.cat(values, dim=1) if values else x
            case schema.Product():
                return multiplied([self._body(branch, x, run) for branch in layer.branches] or [x])
            case schema.Standard():
                return self._standard(layer.name, layer.layer, dict(layer.arguments), x)
            case schema.Conv():
                weight, bias = self.parameters[f"{layer.name}.weight"], None
                if layer.bias:
                    bias = self.parameters[f"{layer.name}.bias"]
                convolve = F.conv1d if x.dim() == 3 else F.conv2d
                return convolve(x, weight, bias, layer.stride, layer.padding, layer.dilation, layer.groups)
            case schema.Linear():
                product = x @ self.parameters[f"{layer.name}.weight"].T
                return product + self.parameters[f"{layer.name}.bias"] if layer.bias else product
            case schema.BatchNorm():
                return self._norm(layer.name, layer.norm, x, run, run.step)
            case schema.NeuronLayer():
                return self.neuron(layer, self._current(layer, x, run), run)
            case schema.Pool(kind="avgpool"):
                return (F.avg_pool1d if x.dim() == 3 else F.avg_pool2d)(x, layer.kernel, layer.stride, layer.padding)
            case schema.Pool():
                pool = F.max_pool1d if x.dim() == 3 else F.max_pool2d
                return pool(x, layer.kernel, layer.stride, layer.padding, ceil_mode=layer.ceil)
            case schema.AdaptivePool(kind="adaptive_avgpool"):
                return (F.adaptive_avg_pool1d if x.dim() == 3 else F.adaptive_avg_pool2d)(x, layer.size)
            case schema.AdaptivePool():
                return (F.adaptive_max_pool1d if x.dim() == 3 else F.adaptive_max_pool2d)(x, layer.size)
            case schema.Resize():
                return nearest(x, *layer.size)
            case schema.Flatten():
                return x.flatten(1)
            case schema.Dropout():
                if run.training and layer.probability > 0:
                    raise NotImplementedError("a random mask has no reference")
                return x
        raise NotImplementedError(f"no equation for {layer!r}")

    def _standard(self, name: str, layer: str, a: dict[str, Any], x: Tensor) -> Tensor:
        """The layers without state, as their papers and torch's pages write them, one value of places at a time."""
        n, c, places = x.shape[0], x.shape[1], x.shape[2:]
        own = {
            part: self.parameters[f"{name}.{part}"]
            for part in ("weight", "bias")
            if f"{name}.{part}" in self.parameters
        }
        match layer:
            case "conv_transpose":
                up = F.conv_transpose1d if x.dim() == 3 else F.conv_transpose2d
                settings = (a["stride"], a["padding"], a["output_padding"], a["groups"])
                return up(x, own["weight"], own.get("bias"), *settings)
            case "upsample":
                for axis in range(2, x.dim()):
                    x = x.repeat_interleave(a["factor"], axis)
                return x
            case "pad":
                return padded(x, a)
            case "tokens":
                return x.reshape(n, c, -1)
            case "select":
                return x[:, a["first"] : a["first"] + a["count"]]
            case "shuffle":
                per = c // a["groups"]
                order = [group * per + index for index in range(per) for group in range(a["groups"])]
                return x[:, order]
            case "channel_sum":
                per = c // a["groups"]
                return torch.stack([x[:, g * per : (g + 1) * per].sum(1) for g in range(a["groups"])], 1)
            case "place_sum":
                return x.reshape(n, c, -1).sum(2).reshape(n, c, *[1 for _ in places])
            case "layernorm" | "groupnorm":
                parts = x.reshape(n, a.get("groups", 1), -1)
                if layer == "layernorm":
                    parts = x.reshape(n, c, -1).transpose(1, 2)
                center = parts.mean(2, keepdim=True)
                spread = (parts - center).square().mean(2, keepdim=True)
                parts = (parts - center) / (spread + a["eps"]).sqrt()
                x = (parts.transpose(1, 2) if layer == "layernorm" else parts).reshape(x.shape)
                if not a["affine"]:
                    return x
                shape = (-1, *[1 for _ in places])
                return x * own["weight"].reshape(shape) + own["bias"].reshape(shape)
            case "scale":
                return x * own["weight"].reshape(-1, *[1 for _ in places])
            case "times":
                return x * a["factor"]
            case "complement":
                return 1 - x
            case "attention":
                q, k, v = x.reshape(n, 3, a["heads"], c // 3 // a["heads"], -1).unbind(1)
                weights = torch.einsum("nhdi,nhdj->nhij", q, k) * a["scale"]
                return torch.einsum("nhij,nhdj->nhdi", weights, v).reshape(n, c // 3, *places)
        raise NotImplementedError(f"no equation for {layer}")

    def _current(self, layer: schema.NeuronLayer, forward_current: Tensor, run: Run) -> Tensor:
        port, t = self.spec.ports.index(layer.name), run.step
        current, factor = forward_current, torch.ones_like(forward_current)
        for name, each in named(self.spec):
            if each.target == port and t >= each.delay:
                value = self._projection(name, each, current, run)
                if each.join == "mul":
                    factor = factor * (1 + value)
                else:
                    current = current + value
        return current * factor

    def neuron(self, layer: schema.NeuronLayer, current: Tensor, run: Run) -> Tensor:
        """One step of a LIF layer: its spikes, which `run` keeps with its current and membrane."""
        port, t, neuron = self.spec.ports.index(layer.name), run.step, layer.neuron
        before = run.potentials.get(port, torch.zeros_like(current))
        given = dict(neuron.arguments)
        membrane = given["tau"] * before + current
        spike = fire(membrane, given["threshold"], dict(given["surrogate"].arguments)["width"])
        reset = spike.detach() if given["detach_reset"] else spike
        if given["reset"] == "hard":
            run.potentials[port] = membrane * (1 - reset)
        else:
            run.potentials[port] = membrane - given["threshold"] * reset

        run.left[port, t] = run.potentials[port]
        run.currents[port, t], run.membranes[port, t], run.spikes[port, t] = current, membrane, spike
        return spike

    def _projection(self, name: str, connection: schema.Connection, current: Tensor, run: Run) -> Tensor:
        """What port `source` sent `delay` steps ago, as it arrives at `target`, whose current is `current`."""
        now, then = run.step, run.step - connection.delay
        sent = {"s": run.spikes, "u": run.membranes, "v": run.left}[connection.read][connection.source, then]
        sent = sent.reshape(*sent.shape, *[1] * (4 - sent.dim()))
        size = (*current.shape[2:], 1, 1)[:2]
        through = connection.through or self.spec.feedback
        # The norms of a step's values are those of the step that they come from.
        run.step = then
        if isinstance(through, schema.OwnProjection):
            wanted = (tuple(sent.shape[1:]), (current.shape[1], *size))
            (body,) = [layers for source, target, layers in through.bodies if (source, target) == wanted]
            result = self._body(renamed(body, name), sent, run)
        else:
            mixed = F.conv2d(nearest(sent, *size), self.parameters[f"{name}.conv.weight"], padding=through.kernel // 2)
            result = self._norm(f"{name}.bn", self.spec.norm, mixed, run, then)
        run.step = now
        return result.reshape(current.shape)

    def _norm(self, name: str, norm: schema.Norm, x: Tensor, run: Run, step: int) -> Tensor:
        mean, var = self.buffers[f"{name}.running_mean"], self.buffers[f"{name}.running_var"]
        count = self.buffers[f"{name}.num_batches_tracked"]
        if norm.statistics == "per_step":
            mean, var = mean[step], var[step]
            count = count[step] if count.dim() else count
        shape = [1, -1] + [1] * (x.dim() - 2)
        if run.training:
            axes = [0, *range(2, x.dim())]
            values = x.numel() // x.shape[1]
            if values < 2:
                raise ValueError("a batch norm needs more than one value a channel to train")
            center = x.mean(axes)
            spread = (x - center.view(shape)).square().mean(axes)
            if run.update:
                with torch.no_grad():
                    mean.copy_((1 - norm.momentum) * mean + norm.momentum * center)
                    unbiased = spread * values / (values - 1)
                    var.copy_((1 - norm.momentum) * var + norm.momentum * unbiased)
                    count += 1
        else:
            center, spread = mean, var
        scaled = (x - center.view(shape)) / (spread + norm.eps).sqrt().view(shape)
        weight, bias = self.parameters[f"{name}.weight"], self.parameters[f"{name}.bias"]
        return scaled * weight.view(shape) + bias.view(shape)


def named(spec: schema.NetworkSpec) -> list[tuple[str, schema.Connection]]:
    """Every connection with the name of its parameters."""
    found: list[tuple[str, schema.Connection]] = []
    for word, some in (("backward", spec.backward), ("forward", spec.forward)):
        for each in some:
            ends = (each.source, each.target)
            shorter = any((other.source, other.target) == ends and other.delay < each.delay for other in some)
            name = f"{word}.{each.source}_{each.target}" + (f"_{each.delay}" if shorter else "")
            found.append((name, each))
    return found


def renamed(body: Sequence[schema.LayerNode], name: str) -> list[schema.LayerNode]:
    """The layers of a projection, as `name` calls them."""
    found: list[schema.LayerNode] = []
    for layer in body:
        inner = {}
        if isinstance(layer, schema.Sum | schema.Concat | schema.Product):
            inner = {"branches": tuple(tuple(renamed(branch, name)) for branch in layer.branches)}
        found.append(dataclasses.replace(layer, name=f"{name}.{layer.name}", **inner))
    return found


def padded(x: Tensor, a: Mapping[str, int]) -> Tensor:
    """Zeros around `[N, C, H, W]` or `[N, C, L]`."""
    size = (*x.shape[:2], *(s + a["top"] + a["bottom"] for s in x.shape[2:-1]), x.shape[-1] + a["left"] + a["right"])
    result = x.new_zeros(size)
    columns = slice(a["left"], a["left"] + x.shape[-1])
    if x.dim() == 3:
        result[:, :, columns] = x
    else:
        result[:, :, a["top"] : a["top"] + x.shape[2], columns] = x
    return result


def multiplied(values: Sequence[Tensor]) -> Tensor:
    """The product of values `[N, C, ...]`, each of them stretched to the largest."""
    channels = max(v.shape[1] for v in values)
    result = torch.ones(())
    for value in values:
        value = value.reshape(*value.shape, *[1] * (max(v.dim() for v in values) - value.dim()))
        result = result * value[:, [i * value.shape[1] // channels for i in range(channels)]]
    return result


def fire(membrane: Tensor, threshold: float, width: float) -> Tensor:
    """1 where the membrane is strictly above the threshold; backward, the triangle stands for the derivative."""
    spike = (membrane > threshold).to(membrane.dtype)
    slope = (width - (membrane - threshold).abs()).clamp(min=0).detach() / width**2
    return spike.detach() + slope * (membrane - membrane.detach())


def nearest(x: Tensor, height: int, width: int) -> Tensor:
    """Nearest resize of `[N, C, H, W]`: output row i reads input row `i*H // height`, columns alike."""
    rows = torch.tensor([i * x.shape[2] // height for i in range(height)])
    columns = torch.tensor([i * x.shape[3] // width for i in range(width)])
    return x[:, :, rows][:, :, :, columns]


def state_shapes(spec: schema.NetworkSpec) -> dict[str, tuple[int, ...]]:
    """Name and shape of every parameter and buffer of a network, found by running its layers without values."""
    shapes: dict[str, tuple[int, ...]] = {}
    ports: dict[str, tuple[int, ...]] = {}

    def norm(name: str, settings: schema.Norm, channels: int) -> None:
        rows = (spec.steps,) if settings.statistics == "per_step" else ()
        shapes[f"{name}.weight"] = shapes[f"{name}.bias"] = (channels,)
        shapes[f"{name}.running_mean"] = shapes[f"{name}.running_var"] = (*rows, channels)
        shapes[f"{name}.num_batches_tracked"] = rows

    def visit(body: Sequence[schema.LayerNode], x: Tensor) -> Tensor:
        for layer in body:
            x = one(layer, x)
        return x

    def standard(name: str, layer: str, a: dict[str, Any], x: Tensor) -> Tensor:
        n, c, *places = x.shape
        if layer in ("layernorm", "groupnorm") and a["affine"]:
            shapes[f"{name}.weight"] = shapes[f"{name}.bias"] = (c,)
        if layer == "scale":
            shapes[f"{name}.weight"] = (c,)
        match layer:
            case "conv_transpose":
                weight = (c, a["channels"] // a["groups"], *[a["kernel"]] * len(places))
                shapes[f"{name}.weight"] = weight
                if a["bias"]:
                    shapes[f"{name}.bias"] = (a["channels"],)
                up = F.conv_transpose1d if len(places) == 1 else F.conv_transpose2d
                settings = (a["stride"], a["padding"], a["output_padding"], a["groups"])
                return up(x, torch.empty(weight, device="meta"), None, *settings)
            case "upsample":
                return x.new_empty(n, c, *[a["factor"] * size for size in places])
            case "pad":
                return padded(x, a)
            case "tokens":
                return x.flatten(2)
            case "select":
                return x[:, : a["count"]]
            case "channel_sum":
                return x[:, : a["groups"]]
            case "place_sum":
                return x.new_empty(n, c, *[1 for _ in places])
            case "attention":
                return x[:, : c // 3]
        return x

    def one(layer: schema.LayerNode, x: Tensor) -> Tensor:
        name = layer.name
        match layer:
            case schema.Sum():
                return ([visit(b, x) for b in layer.branches] or [x])[0]
            case schema.Concat():
                return torch.cat([visit(b, x) for b in layer.branches] or [x], dim=1)
            case schema.Conv():
                sides = layer.kernel if isinstance(layer.kernel, tuple) else (layer.kernel,) * (x.dim() - 2)
                weight = (layer.channels, x.shape[1] // layer.groups, *sides)
                shapes[f"{name}.weight"] = weight
                if layer.bias:
                    shapes[f"{name}.bias"] = (layer.channels,)
                empty = torch.empty(weight, device="meta")
                convolve = F.conv1d if x.dim() == 3 else F.conv2d
                return convolve(x, empty, None, layer.stride, layer.padding, layer.dilation, layer.groups)
            case schema.Linear():
                shapes[f"{name}.weight"] = (layer.features, x.shape[1])
                if layer.bias:
                    shapes[f"{name}.bias"] = (layer.features,)
                return x.new_empty(x.shape[0], layer.features)
            case schema.BatchNorm():
                norm(name, layer.norm, x.shape[1])
            case schema.NeuronLayer():
                ports[name] = tuple(x.shape[1:])
            case schema.Resize():
                return x.new_empty(*x.shape[:2], *layer.size)
            case schema.Pool():
                pool = F.max_pool1d if x.dim() == 3 else F.max_pool2d
                return pool(x, layer.kernel, layer.stride, layer.padding, ceil_mode=layer.ceil)
            case schema.AdaptivePool():
                sides = layer.size if isinstance(layer.size, tuple) else (layer.size,) * (x.dim() - 2)
                return x.new_empty(*x.shape[:2], *sides)
            case schema.Product():
                parts = [visit(b, x) for b in layer.branches] or [x]
                return x.new_empty([max(sizes) for sizes in zip_longest(*(p.shape for p in parts), fillvalue=1)])
            case schema.Standard():
                return standard(name, layer.layer, dict(layer.arguments), x)
            case schema.Flatten():
                return x.flatten(1)
        return x

    given = spec.input
    visit(spec.backbone.body, torch.empty(2, *given.shape, device="meta"))
    sizes = [(*ports[name], 1, 1)[:3] for name in spec.ports]
    for name, each in named(spec):
        through, source, target = each.through or spec.feedback, sizes[each.source], sizes[each.target]
        if isinstance(through, schema.OwnProjection):
            (body,) = [layers for a, b, layers in through.bodies if (a, b) == (source, target)]
            visit(renamed(body, name), torch.empty(2, *source, device="meta"))
        else:
            shapes[f"{name}.conv.weight"] = (target[0], source[0], through.kernel, through.kernel)
            norm(f"{name}.bn", spec.norm, target[0])
    return shapes

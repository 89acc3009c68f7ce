"""Many small networks trained at once, each as it would be trained alone: for tables of hundreds of trainings.

A training run of `tiny` on rows costs some 10,000 calls of small operations a batch, and most of its time is the calls.
Here networks that differ in their connections, gains and seeds lie side by side: every weight has a leading axis K, and
one call computes all of them. What belongs to one network never meets another: its batches, first weights, statistics,
gradients and updates are those of `bcgraph.training.train`, up to the order in which floating-point sums are taken.

Written for what the tables need: a body of convolutions, norms, LIF neurons, sums and a linear readout on maps of one
row, projections with a delay of one step, the loss of the last step. A map of one row meets only the middle row of a
kernel, so no other is computed; the others change nothing that is kept here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

import bcgraph
from bcgraph import data, keys, schema
from bcgraph.data import Splits
from bcgraph.data.split import Split
from bcgraph.training.optimizers import factor, optimizer
from benchmarks.placement.records import Outcome

EVALUATED = 256
"""Test samples at once."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One training run: a specification with its connections, and a seed."""

    spec: schema.NetworkSpec
    seed: int


def train(
    entries: Sequence[Entry],
    *,
    dtype: torch.dtype = torch.float32,
    kind: type[Networks] | None = None,
    after: Callable[[int, Networks, Splits], None] = lambda *_: None,
    rates: Mapping[str, float] | None = None,
    splits: Splits | None = None,
) -> list[Outcome]:
    """Train all entries, whose specifications differ only in their connections and gains; outcomes in their order.

    On the data that the specification names, or on those of `splits`.

    `kind` are networks whose equations differ in something. `after` is called before training and after each epoch,
    with the number of epochs. `rates` multiply the learning rate of parameters whose name begins so.
    """
    started = time.perf_counter()
    spec = entries[0].spec
    check(spec)
    splits = splits or data.load(spec.data, spec.input, spec.steps)
    networks = (kind or Networks)([entry.spec for entry in entries], [entry.seed for entry in entries], dtype)
    update = optimizer(networks, spec.train.optimizer)
    slow = _apart(update, networks, rates or {})
    after(0, networks, splits)
    accuracies: list[Tensor] = []
    losses = torch.zeros(len(entries), dtype=torch.float64)
    for epoch in range(spec.train.epochs):
        losses = _epoch(networks, update, slow, spec, entries, splits.train, epoch)
        after(epoch + 1, networks, splits)
        accuracies.append(_accuracy(networks, spec, splits))
    table = torch.stack(accuracies)
    seconds = round((time.perf_counter() - started) / len(entries), 1)
    best = table.amax(0)
    return [Outcome(float(table[-1, k]), float(best[k]), float(losses[k]), seconds) for k in range(len(entries))]


def check(spec: schema.NetworkSpec) -> None:
    """Raises ValueError for a network or a training that has no equation here."""
    settings, usual = spec.train, schema.TrainSpec()
    names = ("accumulate", "clip", "label_smoothing", "ema", "mean_squared", "mixup", "teacher")
    unusual = [name for name in names if getattr(settings, name) != getattr(usual, name)]
    if unusual or settings.loss != "last" or spec.readout != "last":
        raise ValueError(f"`{spec.name}` is trained alone: its loss or settings are not written here")
    if not isinstance(spec.input, schema.SequenceInput) or spec.input.shape[1] != 1:
        raise ValueError(f"`{spec.name}` is trained alone: only rows are known here")
    kernel = getattr(spec.feedback, "kernel", None)
    plain = all((each.delay, each.through, each.join, each.read) == (1, None, "add", "s") for each in spec.backward)
    if spec.forward or kernel != 1 or not plain:
        raise ValueError(f"`{spec.name}` is trained alone: only plain backward connections are known here")
    if (spec.norm.statistics, spec.norm.scales) != ("shared", "shared"):
        raise ValueError(f"`{spec.name}` is trained alone: its norm is not written here")


def _is_lif(neuron: schema.Neuron) -> bool:
    given: dict[str, Any] = dict(neuron.arguments)
    return (
        neuron.name == "lif"
        and given["reset"] == "hard"
        and not given["detach_reset"]
        and given["surrogate"].name == "triangle"
    )


def _apart(update: torch.optim.Optimizer, networks: Networks, rates: Mapping[str, float]) -> list[float]:
    """Give the parameters of other rates groups of their own; the factor of each group."""
    factors = [1.0]
    (first,) = update.param_groups
    for start, own in rates.items():
        chosen = [p for name, p in networks.named_parameters() if name.startswith(f"values.{start}")]
        identities = set(map(id, chosen))
        first["params"] = [p for p in first["params"] if id(p) not in identities]
        update.add_param_group({"params": chosen})
        factors.append(own)
    return factors


def _epoch(
    networks: Networks,
    update: torch.optim.Optimizer,
    factors: Sequence[float],
    spec: schema.NetworkSpec,
    entries: Sequence[Entry],
    split: Split,
    epoch: int,
) -> Tensor:
    """Train one epoch; the mean loss of each network over its samples."""
    size = spec.data.batch
    drop_last = len(split) % size == 1
    steps = split.steps(size, drop_last)
    sums = torch.zeros(len(entries), dtype=torch.float64)
    seen = 0
    networks.train()
    for step, (x, y) in enumerate(_side_by_side(split, size, [e.seed for e in entries], epoch, drop_last)):
        rate = spec.train.optimizer.lr * factor(spec.train.schedule, epoch * steps + step, steps, spec.train.epochs)
        for group, own in zip(update.param_groups, factors, strict=True):
            group["lr"] = rate * own
        update.zero_grad(set_to_none=True)
        outputs = networks(x.to(networks.dtype))
        count = y.shape[1]
        loss = F.cross_entropy(outputs.flatten(0, 1), y.flatten(), reduction="none").view(-1, count).mean(1)
        loss.sum().backward()
        update.step()
        sums += loss.detach().double() * count
        seen += count
    return sums / seen


def _side_by_side(
    split: Split, size: int, seeds: Sequence[int], epoch: int, drop_last: bool
) -> Iterator[tuple[Tensor, Tensor]]:
    """The batches of each network's own order: x `[T, K, C, L, N]`, y `[K, N]`."""
    different = sorted(set(seeds))
    places = torch.tensor([different.index(seed) for seed in seeds])
    own = [split.batches(size, keys.derive(seed, "train", epoch), drop_last=drop_last) for seed in different]
    for batches in zip(*own, strict=True):
        x = torch.stack([row(batch[0]) for batch in batches], 1)
        yield x[:, places], torch.stack([batch[1] for batch in batches])[places]


def row(x: Tensor) -> Tensor:
    """`[T, N, C, 1, L]` as `[T, C, L, N]`."""
    return x.squeeze(3).permute(0, 2, 3, 1)


def _accuracy(networks: Networks, spec: schema.NetworkSpec, splits: Splits) -> Tensor:
    """The share of test samples that each network classifies rightly."""
    networks.eval()
    correct = torch.zeros(networks.size, dtype=torch.long)
    with torch.no_grad():
        for x, y in splits.test.batches(EVALUATED):
            rows = row(x).unsqueeze(1).to(networks.dtype)
            outputs = networks(rows.expand(-1, networks.size, -1, -1, -1))
            correct += (outputs.argmax(2) == y).sum(1)
    return correct.double() / len(splits.test)


class Networks(torch.nn.Module):
    """K networks with the same body. Parameters are those of each, stacked; of a connection, of those that have it."""

    def __init__(self, specs: Sequence[schema.NetworkSpec], seeds: Sequence[int], dtype: torch.dtype) -> None:
        super().__init__()
        self.spec = specs[0]
        self.size = len(specs)
        self.dtype = dtype
        self.values = torch.nn.ParameterDict()
        self.running: dict[str, Tensor] = {}
        states = [_first_weights(spec, seed, dtype) for spec, seed in zip(specs, seeds, strict=True)]
        found: dict[str, list[Tensor]] = {}
        for state in states:
            for name, value in state.items():
                found.setdefault(name, []).append(value[:, :, 1] if value.shape[2:] == (3, 3) else value)
        for name, values in found.items():
            if name.endswith(("running_mean", "running_var")):
                self.running[name] = torch.stack(values).flatten()
            elif not name.endswith("num_batches_tracked"):
                self.values[name.replace(".", "/")] = torch.nn.Parameter(torch.stack(values))
        # Of each port, what leaves it; all that a port receives is added at once.
        pairs = sorted({(each.source, each.target) for spec in specs for each in spec.backward})
        self.members = {
            pair: torch.tensor(
                [k for k, s in enumerate(specs) if any((c.source, c.target) == pair for c in s.backward)]
            )
            for pair in pairs
        }

    def forward(self, x: Tensor) -> Tensor:
        """x `[T, K, C, L, N]`; the outputs of the last step, `[K, N, classes]`."""
        state = _State({}, {})
        output = x
        for frame in x:
            state = _State(state.left, dict(state.spikes))
            sent = self._sent(state.spikes)
            output = self._body(self.spec.backbone.body, frame, state, sent)
        return output

    def _sent(self, spikes: dict[int, Tensor]) -> dict[tuple[int, int], Tensor]:
        """The spikes of the step before, of the networks that have each connection."""
        found: dict[tuple[int, int], Tensor] = {}
        for source, value in spikes.items():
            pairs = [pair for pair in self.members if pair[0] == source]
            if pairs:
                chosen = value.index_select(0, torch.cat([self.members[pair] for pair in pairs]))
                found.update(zip(pairs, chosen.split([len(self.members[pair]) for pair in pairs]), strict=True))
        return found

    def _body(
        self, body: Sequence[schema.LayerNode], x: Tensor, state: _State, sent: dict[tuple[int, int], Tensor]
    ) -> Tensor:
        for layer in body:
            match layer:
                case schema.Sum():
                    values = [self._body(branch, x, state, sent) for branch in layer.branches]
                    x = sum(values[1:], start=values[0])
                case schema.Conv(groups=1, bias=False, dilation=1):
                    x = self._conv(layer.name, x, int(layer.stride))  # type: ignore[arg-type]
                case schema.BatchNorm():
                    x = self._norm(layer.name, layer.norm, x)
                case schema.NeuronLayer() if _is_lif(layer.neuron):
                    x = self._neuron(layer, x, state, sent)
                case schema.AdaptivePool(kind="adaptive_avgpool", size=1):
                    x = x.mean(2)
                case schema.Flatten():
                    pass
                case schema.Linear():
                    weight, bias = self._value(f"{layer.name}.weight"), self._value(f"{layer.name}.bias")
                    x = torch.baddbmm(bias.unsqueeze(1), x.transpose(1, 2), weight.transpose(1, 2))
                case _:
                    raise ValueError(f"`{self.spec.name}` is trained alone: `{layer.name}` is not written here")
        return x

    def _value(self, name: str) -> Tensor:
        return self.values[name.replace(".", "/")]

    def _conv(self, name: str, x: Tensor, stride: int) -> Tensor:
        weight = self._value(f"{name}.weight")
        if weight.dim() == 4:
            return Convolution.apply(x, weight, stride)
        return torch.bmm(weight.flatten(2), x[:, :, ::stride].flatten(2)).unflatten(2, (-1, x.shape[3]))

    def _norm(self, name: str, norm: schema.Norm, x: Tensor) -> Tensor:
        flat = x.reshape(1, x.shape[0] * x.shape[1], -1)
        return F.batch_norm(
            flat,
            self.running[f"{name}.running_mean"],
            self.running[f"{name}.running_var"],
            self._value(f"{name}.weight").flatten(),
            self._value(f"{name}.bias").flatten(),
            self.training,
            norm.momentum,
            norm.eps,
        ).view(x.shape)

    def _neuron(
        self, layer: schema.NeuronLayer, current: Tensor, state: _State, sent: dict[tuple[int, int], Tensor]
    ) -> Tensor:
        port = self.spec.ports.index(layer.name)
        arriving = [(pair, value) for pair, value in sent.items() if pair[1] == port]
        if arriving:
            values = torch.cat([self._projection(pair, value, current.shape[2]) for pair, value in arriving])
            members = torch.cat([self.members[pair] for pair, _ in arriving])
            current = self.received(port, current, values, members)
        current = self.seen(port, current)
        given: dict[str, Any] = dict(layer.neuron.arguments)
        width = dict(given["surrogate"].arguments)["width"]
        left = state.left.get(port)
        spike, state.left[port] = LIF.apply(left, current, given["tau"], given["threshold"], width)
        state.spikes[port] = spike
        return spike

    def received(self, port: int, current: Tensor, values: Tensor, members: Tensor) -> Tensor:
        """The current of a port with what its connections bring to the networks `members` (paper eq. 6)."""
        return current.index_add(0, members, values)

    def seen(self, port: int, current: Tensor) -> Tensor:
        """The current as the neurons take it, for those who look on."""
        return current

    def _projection(self, pair: tuple[int, int], sent: Tensor, size: int) -> Tensor:
        length = sent.shape[2]
        if length != size:
            sent = sent.index_select(2, torch.arange(size) * length // size)
        name = f"backward.{pair[0]}_{pair[1]}"
        return self._norm(f"{name}.bn", self.spec.norm, self._conv(f"{name}.conv", sent, 1))


@dataclass(frozen=True, slots=True)
class _State:
    """What the ports left in their membranes, and the spikes of the last step."""

    left: dict[int, Tensor]
    spikes: dict[int, Tensor]


class Convolution(torch.autograd.Function):
    """Kernels of three places over a row, zero beyond its ends: x `[K, C, L, N]`, weight `[K, D, C, 3]`.

    One product for all places; autograd's own way through padding, slices and their sum takes twice as long.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int) -> Tensor:
        size, channels, length, number = x.shape
        count = -(-length // stride)
        seen = x.new_empty(size, 3, channels, count, number)
        for place in range(3):
            inside, outside = _places(place, length, stride, count)
            seen[:, place, :, : outside.start].zero_()
            seen[:, place, :, outside] = x[:, :, inside]
            seen[:, place, :, outside.stop :].zero_()
        columns = seen.view(size, 3 * channels, count * number)
        flat = weight.permute(0, 1, 3, 2).reshape(size, -1, 3 * channels)
        ctx.save_for_backward(columns, flat)
        ctx.shape, ctx.stride = x.shape, stride
        return torch.bmm(flat, columns).view(size, -1, count, number)

    @staticmethod
    def backward(ctx: Any, change: Tensor) -> Any:
        columns, flat = ctx.saved_tensors
        size, channels, length, number = ctx.shape
        count = change.shape[2]
        change = change.reshape(size, -1, count * number)
        by_weight = torch.bmm(change, columns.transpose(1, 2)).view(size, -1, 3, channels).permute(0, 1, 3, 2)
        by_column = torch.bmm(flat.transpose(1, 2), change).view(size, 3, channels, count, number)
        by_x = change.new_zeros(ctx.shape)
        for place in range(3):
            inside, outside = _places(place, length, ctx.stride, count)
            by_x[:, :, inside] += by_column[:, place, :, outside]
        return by_x, by_weight, None


def _places(place: int, length: int, stride: int, count: int) -> tuple[slice, slice]:
    """Where a place of a kernel reads inside the row, and for which results."""
    first = 1 if place == 0 else 0
    start = first * stride + place - 1
    last = min(count, -(-(length - place + 1) // stride))
    return slice(start, start + (last - first - 1) * stride + 1, stride), slice(first, last)


class LIF(torch.autograd.Function):
    """One step with hard reset: spikes and what is left in the membrane, from what was left and the current."""

    @staticmethod
    def forward(ctx: Any, left: Tensor | None, current: Tensor, tau: float, threshold: float, width: float) -> Any:
        membrane = current if left is None else torch.add(current, left, alpha=tau)
        spike = torch.gt(membrane, threshold, out=torch.empty_like(membrane))
        ctx.save_for_backward(membrane, spike)
        ctx.settings = (left is None, tau, threshold, width)
        return spike, torch.addcmul(membrane, membrane, spike, value=-1)

    @staticmethod
    def backward(ctx: Any, by_spike: Tensor, by_left: Tensor) -> Any:
        membrane, spike = ctx.saved_tensors
        first, tau, threshold, width = ctx.settings
        # The triangle stands for the derivative of the step (paper eq. 2).
        slope = (membrane - threshold).abs_().neg_().add_(width).clamp_(min=0)
        change = torch.addcmul(by_spike, by_left, membrane, value=-1).mul_(slope)
        if width != 1:
            change.mul_(1 / width**2)
        change.add_(by_left).addcmul_(by_left, spike, value=-1)
        return None if first else change * tau, change, None, None, None


def _first_weights(spec: schema.NetworkSpec, seed: int, dtype: torch.dtype) -> dict[str, Tensor]:
    return bcgraph.compile(spec, seed=seed, dtype=dtype, schedule="step").state_dict()

"""Inference of ResNet-18 with two backward connections, against its own raw operations and against the peer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import fx, nn

import bcgraph
from bcgraph.nn.conv import folded as folded_conv
from bcgraph.nn.conv.int16 import kernels_are_exact
from benchmarks.harness import Row, pair
from benchmarks.networks import images, resnet18, settle

BATCH = 32


def _convolves(target: Any) -> bool:
    kinds = folded_conv.ConvNeuron | folded_conv.ConvNeuronSteps
    return target is folded_conv.conv or isinstance(target, kinds)


class _Recorder(fx.Interpreter):
    """Keeps each convolution and linear call with its operands, to be run again on their own."""

    calls: list[tuple[Callable[..., Any], tuple[Any, ...]]]

    def run_node(self, n: fx.Node) -> Any:
        if n.op == "call_function" and _convolves(n.target):
            x, weight, bias, settings, *_ = self.fetch_args_kwargs_from_env(n)[0]
            # A raw call takes the weight as it is in the network, not packed; spikes lie where others will.
            plain = weight.to_dense().to(memory_format=torch.channels_last)
            self.calls.append((nn.functional.conv2d, (x.clone(), plain, bias, *settings)))
        if n.op == "call_module":
            module = self.module.get_submodule(str(n.target))
            if isinstance(module, nn.Conv2d | nn.Linear):
                self.calls.append((module, self.fetch_args_kwargs_from_env(n)[0]))
        return super().run_node(n)


def raw_calls(model: fx.GraphModule, x: torch.Tensor) -> Callable[[], None]:
    """Only the convolutions and linear layers that `model` runs on `x`, one after the other."""
    recorder = _Recorder(model, garbage_collect_values=False)
    recorder.calls = []
    recorder.run(x)

    def run() -> None:
        for function, args in recorder.calls:
            function(*args)

    return run


def contender(name: str) -> Callable[[], object]:
    """A forward pass of a settled network: a schedule of ours and its weights, `raw operations`, or the peer."""
    torch.set_grad_enabled(False)
    spec, x = resnet18(), images(BATCH)
    if name == "SpikingJelly":
        from benchmarks.peer import Peer

        peer = Peer(spec.steps, tuple((bc.source, bc.target) for bc in spec.backward))
        settle(peer, x)
        return lambda: peer(x)
    trained = bcgraph.compile(spec)
    settle(trained, x)
    schedule, _, weights = name.partition(", ")
    schedule = "unrolled" if name == "raw operations" else schedule
    ours = bcgraph.compile(spec, schedule, inference=True, weights=weights or "float32")
    ours.load_state_dict(trained.state_dict())
    last = x.to(memory_format=torch.channels_last)
    return raw_calls(ours, last) if name == "raw operations" else lambda: ours(last)


def run() -> list[Row]:
    rows = []
    if kernels_are_exact():
        mine, theirs = pair("inference", "unrolled, int16", "raw operations")
        label = "unrolled, 16-bit weights / raw operations in float32"
        rows.append(Row(label, f"{mine:.3f} s", f"{theirs:.3f} s", f"{mine / theirs:.2f}", "<= 0.70"))
    for schedule in ("unrolled", "folded"):
        for name, goal in (("raw operations", "<= 1.05"), ("SpikingJelly", "<= 0.50")):
            mine, theirs = pair("inference", schedule, name)
            rows.append(Row(f"{schedule} / {name}", f"{mine:.3f} s", f"{theirs:.3f} s", f"{mine / theirs:.2f}", goal))
    return rows

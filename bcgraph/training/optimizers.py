"""Optimizers and learning-rate schedules, by the classes of the specification.

A schedule is a pure function of the step, so there is no scheduler whose state would have to be saved.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

import torch
from torch import nn

from bcgraph import schema
from bcgraph.nn.modules import Learned

STEP_TYPE = torch.float64
"""The type of the number of steps that an update on the device counts."""

Parameters: TypeAlias = Iterable[nn.Parameter] | Iterable[dict[str, Any]]


def _adamw(parameters: Parameters, settings: schema.AdamW, captured: bool) -> torch.optim.Optimizer:
    made = torch.optim.AdamW(parameters, lr=settings.lr, weight_decay=settings.weight_decay, capturable=captured)
    if captured:
        made.register_step_pre_hook(_begin_in_float64)
    return made


def _begin_in_float64(update: torch.optim.Optimizer, *_: Any) -> None:
    """Give each weight that has its first update its state, as torch would, but a number of steps in float64.

    On the device torch counts in float32, in which `1 - 0.999**step` has lost four digits at the first steps; a plain
    update computes it in Python's numbers.
    """
    for group in update.param_groups:
        for weight in group["params"]:
            if weight.grad is not None and not update.state.get(weight):
                update.state[weight] = {
                    "step": torch.zeros((), dtype=STEP_TYPE, device=weight.device),
                    "exp_avg": torch.zeros_like(weight, requires_grad=False),
                    "exp_avg_sq": torch.zeros_like(weight, requires_grad=False),
                }


def _sgd(parameters: Parameters, settings: schema.SGD, captured: bool) -> torch.optim.Optimizer:
    return torch.optim.SGD(
        parameters,
        lr=settings.lr,
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
        nesterov=settings.nesterov,
        # The kernel that reads a learning rate on the device; the others ask for its number.
        fused=captured or None,
    )


OPTIMIZERS: dict[type, Callable[[Parameters, Any, bool], torch.optim.Optimizer]] = {
    schema.AdamW: _adamw,
    schema.SGD: _sgd,
}


def optimizer(
    model: nn.Module, settings: schema.AdamW | schema.SGD, *, captured: bool = False
) -> torch.optim.Optimizer:
    """The optimizer that `settings` describes; weight decay covers all weights (paper 5.1).

    Learned parameters of neurons do not decay: zero is no value that they should tend to. With `captured` the learning
    rates are tensors, and on a GPU a step can be part of a CUDA graph.
    """
    first = next(model.parameters())
    found = _built(model, settings, captured and first.is_cuda)
    if captured:
        for parameters in found.param_groups:
            # A fused kernel reads float32, whatever the weights are.
            kind = torch.float32 if parameters.get("fused") else torch.float64
            parameters["lr"] = torch.full((), float(parameters["lr"]), dtype=kind, device=first.device)
    return found


def _built(model: nn.Module, settings: schema.AdamW | schema.SGD, captured: bool) -> torch.optim.Optimizer:
    learned = [p for m in model.modules() if isinstance(m, Learned) for p in m.parameters(recurse=False)]
    if not learned:
        return OPTIMIZERS[type(settings)](model.parameters(), settings, captured)
    apart = set(map(id, learned))
    weights = [p for p in model.parameters() if id(p) not in apart]
    groups: list[dict[str, Any]] = [{"params": weights}, {"params": learned, "weight_decay": 0.0}]
    return OPTIMIZERS[type(settings)](groups, settings, captured)


def state_keys(update: torch.optim.Optimizer) -> set[str]:
    """What an optimizer keeps of each parameter that it has updated."""
    if isinstance(update, torch.optim.SGD):
        return {"momentum_buffer"} if update.defaults["momentum"] else set()
    return {"step", "exp_avg", "exp_avg_sq"}


def _cosine(_: schema.Cosine, epoch: float, epochs: int) -> float:
    return 0.5 * (1 + math.cos(math.pi * epoch / epochs))


def _step(settings: schema.StepDecay, epoch: float, _: int) -> float:
    return settings.gamma ** (math.floor(epoch) // settings.every)


def _constant(_: schema.Constant, __: float, ___: int) -> float:
    return 1.0


# The factor on the learning rate, `epoch` epochs (with fraction) after the warm-up, of `epochs` without it.
SCHEDULES: dict[type, Callable[[Any, float, int], float]] = {
    schema.Cosine: _cosine,
    schema.StepDecay: _step,
    schema.Constant: _constant,
}


def factor(settings: schema.Cosine | schema.StepDecay | schema.Constant, step: int, steps: int, epochs: int) -> float:
    """The factor on the learning rate at update `step` (from 0 over the whole run), with `steps` an epoch.

    The warm-up rises linearly and ends at 1; the schedule proper runs over the epochs that remain.
    """
    warmup = min(settings.warmup, epochs) * steps
    if step < warmup:
        return (step + 1) / warmup
    return SCHEDULES[type(settings)](settings, (step - warmup) / steps, epochs - warmup // steps)

"""Scores of one compiled network on one batch, from one forward pass for all of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from bcgraph import plugins
from bcgraph.compiler.targets.fx.observer import codes, spikes
from bcgraph.errors import SearchError
from bcgraph.nn.defaults import ordinary_modes
from bcgraph.plugins.values import OfGradients, OfSpikes, Score
from bcgraph.search.records.evaluations import Measure
from bcgraph.search.scores.result import ScoreResult
from bcgraph.search.scores.scoring import scoring
from bcgraph.search.scores.standard import e, n


@dataclass(frozen=True, slots=True)
class ScorePair:
    """Both scores of the paper of one network on one batch."""

    n: ScoreResult
    e: ScoreResult


def n_score(model: fx.GraphModule, x: Tensor) -> float:
    """The N-score of `model` on the batch `x`; -inf for a dead network. See `n_result`."""
    return n_result(model, x).value


def n_result(model: fx.GraphModule, x: Tensor) -> ScoreResult:
    """The N-score with its reason.

    `model` comes from `bcgraph.compile` (not the step schedule); x is `[N, C, H, W]` or `[T, N, C, H, W]`. Running
    statistics, modes and gradients of the network stay as they are. Raises SearchError (E089) for a batch of fewer
    than two samples.
    """
    return results(model, x, None, {"n": n.SCORE})["n"]


def e_score(model: fx.GraphModule, x: Tensor, y: Tensor) -> float:
    """The E-score of `model` on the batch `x` with labels `y`; -inf for a dead network. See `e_result`."""
    return e_result(model, x, y).value


def e_result(model: fx.GraphModule, x: Tensor, y: Tensor) -> ScoreResult:
    """The E-score with its reason.

    `model` comes from `bcgraph.compile` (not the step schedule); x is `[N, C, H, W]` or `[T, N, C, H, W]`, and labels
    y are `[N]`, integers. Running statistics, modes and gradients of the network stay as they are. Raises SearchError:
    E089 when no class has two samples, E090 when x and y do not fit together.
    """
    return results(model, x, y, {"e": e.SCORE})["e"]


def both_results(model: fx.GraphModule, x: Tensor, y: Tensor) -> ScorePair:
    """Both scores from one forward pass; equal to `n_result` and `e_result`, and raises what they raise."""
    found = results(model, x, y, {"n": n.SCORE, "e": e.SCORE})
    return ScorePair(found["n"], found["e"])


def results(
    model: fx.GraphModule, x: Tensor, y: Tensor | None, scores: Mapping[Measure, Score]
) -> dict[Measure, ScoreResult]:
    """The `scores` of spikes and of gradients of `model`, by name; labels y are needed for gradients alone."""
    gradients = any(isinstance(each.measure, OfGradients) for each in scores.values())
    found: dict[Measure, ScoreResult] = {}
    if gradients:
        assert y is not None
        check_labels(x, y)
    with ordinary_modes(), scoring(model), torch.set_grad_enabled(gradients):
        inputs = x.detach().clone().requires_grad_() if gradients else x
        if any(isinstance(each.measure, OfSpikes) for each in scores.values()):
            output, sent = spikes(model, inputs)
            fires = [s.detach() for s in codes(model, sent).values()]
            sent.clear()
            for name, each in scores.items():
                if isinstance(each.measure, OfSpikes):
                    found[name] = result(name, each.measure.result, map(each.measure.term, fires))
            del fires
        else:
            output = model(inputs)
        if gradients:
            rows = jacobian(output, inputs)
    for name, each in scores.items():
        if isinstance(each.measure, OfGradients):
            found[name] = result(name, each.measure.result, rows, y)
    return found


def declared(measures: tuple[Measure, ...], uses: tuple[str, ...] = ()) -> dict[Measure, Score]:
    """The scores of these names. Raises SearchError (E089) for one that nobody has registered in this process."""
    return {measure: entry(measure, uses).value for measure in measures}


def entry(measure: Measure, uses: tuple[str, ...] = ()) -> plugins.Entry:
    """The declaration of a score, and where it stands. Raises SearchError (E089) as `declared`."""
    found = plugins.find("score", measure, uses)
    if found is None:
        raise SearchError(
            "E089",
            f"the score `{measure}` is not registered in this process",
            hint="worker processes know what an installed package registers (docs/extending.md)",
        )
    return found


def result(name: Measure, function: Any, *given: Any) -> ScoreResult:
    """What the function of a score makes of `given`. Raises PluginError (E095) when it fails."""
    found = entry(name)
    with plugins.calling(found):
        value = function(*given)
        if isinstance(value, ScoreResult):
            return value
        value = float(value)
    return ScoreResult(value) if math.isfinite(value) else ScoreResult.dead(f"{found.title} is {value}")


def check_labels(x: Tensor, y: Tensor) -> None:
    """Raise SearchError (E090) unless `y` is one integer label for each sample of `x`."""
    axes = (1,) if x.dim() == 5 else (0, 1) if x.dim() > 2 else (0,)
    samples = x.shape[1] if x.dim() == 5 else x.shape[0]
    if y.dim() != 1 or len(y) not in {x.shape[axis] for axis in axes} or y.dtype.is_floating_point:
        raise SearchError(
            "E090",
            f"labels of shape {list(y.shape)} and type {y.dtype} do not fit a batch of {samples} samples",
            hint="labels are integers, one a sample",
        )


def jacobian(output: Tensor, inputs: Tensor) -> Tensor:
    """The rows `J_i` `[N, D]` of the output O `[T, N, classes]` with respect to the inputs of the batch."""
    total = output.mean(dim=0).sum()
    if not total.requires_grad:
        return rows_of(torch.zeros_like(inputs), output)
    (gradient,) = torch.autograd.grad(total, inputs, materialize_grads=True)
    return rows_of(gradient, output)


def rows_of(gradient: Tensor, output: Tensor) -> Tensor:
    """The gradient of a batch, `[N, ...]` or of a sequence `[T, N, ...]`, as one row for each sample, `[N, D]`.

    The output `[T, N, classes]` tells which. Raises SearchError (E090) where it does not.
    """
    steps, samples = output.shape[:2]
    sequence = gradient.dim() > 2 and gradient.shape[:2] == (steps, samples)
    if sequence and gradient.dim() < 5 and steps == samples:
        raise SearchError(
            "E090",
            f"a batch of as many samples as steps, {samples}, does not say which axis of the input is which",
            hint="take a batch of another size",
        )
    return (gradient.transpose(0, 1) if sequence else gradient).flatten(1)

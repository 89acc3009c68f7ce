"""Training-free scores of a network at initialization (paper 4.2.2 and appendix A).

Both look at one class-balanced batch under batch statistics and leave running statistics, modes and gradients of the
network as they are. Their own arithmetic is in float64, whatever the network computes in: the kernel of the N-score is
nearly of rank one, and in float32 its determinant is noise.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn

from bcgraph.compiler.targets.fx.module import batch_statistics, spikes
from bcgraph.errors import SearchError
from bcgraph.nn.determinism import exact

SMALL = 1e-5
"""What is added to a correlation before its logarithm (paper eq. 14)."""

FEW_CLASSES = 100
"""Up to so many classes the E-score adds up |e_c|; beyond, it compares the classes (paper eq. 14 and 15)."""

_DEAD = -math.inf
# Sums of 0s and 1s up to this are exact in float32, in any order of addition.
_EXACT_FLOAT32 = 2**24


@dataclass(frozen=True, slots=True)
class ScoreResult:
    """A score, and why it is -inf where it is: a dead network ranks last and is not dropped."""

    value: float
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class ScorePair:
    """Both scores of one network on one batch."""

    n: ScoreResult
    e: ScoreResult


@dataclass(frozen=True, slots=True, eq=False)
class Agreement:
    """A term `[N, N]` of the N-score's kernel, and whether any neuron fires."""

    term: Tensor
    fires: bool


def n_score(model: fx.GraphModule, x: Tensor) -> float:
    """The N-score of `model` on the batch `x`; -inf for a dead network. See `n_result`."""
    return n_result(model, x).value


def e_score(model: fx.GraphModule, x: Tensor, y: Tensor) -> float:
    """The E-score of `model` on the batch `x` with labels `y`; -inf for a dead network. See `e_result`."""
    return e_result(model, x, y).value


def n_result(model: fx.GraphModule, x: Tensor) -> ScoreResult:
    """The N-score (paper eq. 7 and 8) with its reason.

    `model` comes from `bcgraph.compile` (not the step schedule); x is `[N, C, H, W]` or `[T, N, C, H, W]`. Raises
    SearchError (E089) for a batch of fewer than two samples.
    """
    with scoring(model), torch.no_grad():
        _, found = spikes(model, x)
    return n_score_from_spikes(found.values())


def e_result(model: fx.GraphModule, x: Tensor, y: Tensor) -> ScoreResult:
    """The E-score (paper eq. 9 to 15) with its reason.

    Labels y are `[N]`, integers; x is as for `n_result`. Raises SearchError: E089 when no class has two samples, E090
    when x and y do not fit together.
    """
    check_labels(x, y)
    with scoring(model), torch.enable_grad():
        inputs = x.detach().clone().requires_grad_()
        jacobian = _jacobian(model(inputs), inputs)
    return e_score_from_jacobian(jacobian, y)


def both_results(model: fx.GraphModule, x: Tensor, y: Tensor) -> ScorePair:
    """Both scores from one forward pass; equal to `n_result` and `e_result`."""
    check_labels(x, y)
    with scoring(model), torch.enable_grad():
        inputs = x.detach().clone().requires_grad_()
        output, found = spikes(model, inputs)
        n = n_score_from_spikes([s.detach() for s in found.values()])
        found.clear()
        jacobian = _jacobian(output, inputs)
    return ScorePair(n, e_score_from_jacobian(jacobian, y))


def n_score_from_spikes(codes: Iterable[Tensor]) -> ScoreResult:
    """The N-score of spike tensors `[N, ...]` of 0 and 1, one for each LIF layer and step.

    For each, `d_ij = 0.5*hamming(c_i, c_j) / (N_A*(r_i(1-r_j) + (1-r_i)r_j))`, 0 where the denominator is 0, with N_A
    the number of neurons and r the firing rates. `K` is the sum of all `N_A - d`, and the score is `log|det K|`.
    """
    return n_score_from_agreements(agreement(tensor) for tensor in codes)


def agreement(codes: Tensor) -> Agreement:
    """What the spikes `[N, ...]` of one LIF layer and step add to the kernel: `N_A - d`."""
    rows = codes.detach()
    if rows.dim() == 4 and rows.is_contiguous(memory_format=torch.channels_last):
        rows = rows.permute(0, 2, 3, 1)  # counts take any order of the neurons, and this one needs no copy
    distance, fires = _distance(rows.flatten(1))
    return Agreement(codes[0].numel() - distance, fires)


def n_score_from_agreements(found: Iterable[Agreement]) -> ScoreResult:
    """The N-score of what each LIF layer and step adds to the kernel."""
    kernel: Tensor | None = None
    fired = False
    for one in found:
        fired = fired or one.fires
        kernel = one.term if kernel is None else kernel + one.term
    if kernel is None or kernel.shape[0] < 2:
        raise SearchError("E089", "the N-score compares samples and needs a batch of at least two of them")
    if not bool(torch.isfinite(kernel).all()):
        return ScoreResult(_DEAD, "spikes are not finite")
    if not fired:
        return ScoreResult(_DEAD, "no neuron fires")
    if _singular(kernel):
        return ScoreResult(_DEAD, "the kernel of the N-score is singular: samples are not told apart")
    return ScoreResult(float(torch.linalg.slogdet(kernel).logabsdet))


def e_score_from_jacobian(jacobian: Tensor, y: Tensor) -> ScoreResult:
    """The E-score of rows `J_i` `[N, D]` with labels `[N]`.

    Each row is centered over its own D entries. R is the correlation matrix of the rows of a class, and `e_c` the sum
    of `log(|R| + 1e-5)` over its entries; a class of one sample is left out. Up to 100 classes the score is the sum
    of `|e_c|`; above, `e_c` is divided by the number n_c of its samples, and the score is the sum of `|e_c - e_c'|`
    over ordered pairs of classes, divided by the number of classes.
    """
    rows = jacobian.detach().flatten(1).to(torch.float64)
    members = [m for c in torch.unique(y) if len(m := torch.nonzero(y == c).flatten()) > 1]
    if not members:
        raise SearchError(
            "E089",
            "the E-score compares samples of one class, but no class has two samples in the batch",
            hint="take a larger batch",
        )
    if not bool(torch.isfinite(rows).all()):
        return ScoreResult(_DEAD, "an input gradient is not finite")
    lengths = rows.norm(dim=1)
    if bool((lengths == 0).any()):
        return ScoreResult(_DEAD, "an input gradient is zero")
    # Scaling a row changes no correlation and keeps its square within range.
    rows = rows / rows.abs().amax(dim=1, keepdim=True)
    centered = rows - rows.mean(dim=1, keepdim=True)
    spread = centered.norm(dim=1)
    if bool((spread <= 1e-12 * rows.norm(dim=1)).any()):
        return ScoreResult(_DEAD, "an input gradient is the same everywhere and correlates with nothing")
    unit = centered / spread[:, None]
    sums = torch.stack([torch.log((unit[m] @ unit[m].T).abs() + SMALL).sum() for m in members])
    if len(members) <= FEW_CLASSES:
        return ScoreResult(float(sums.abs().sum()))
    means = sums / torch.tensor([len(m) for m in members], dtype=torch.float64, device=sums.device)
    return ScoreResult(float((means[:, None] - means[None, :]).abs().sum() / len(members)))


def check_labels(x: Tensor, y: Tensor) -> None:
    """Raise SearchError (E090) unless `y` is one integer label for each sample of `x`."""
    samples = x.shape[1] if x.dim() == 5 else x.shape[0]
    if y.dim() != 1 or len(y) != samples or y.dtype.is_floating_point:
        raise SearchError(
            "E090",
            f"labels of shape {list(y.shape)} and type {y.dtype} do not fit a batch of {samples} samples",
            hint="labels are integers, one a sample",
        )


@contextmanager
def scoring(model: nn.Module) -> Iterator[None]:
    """Batch statistics, no dropout, every digit of a type; modes and running statistics are as before behind it."""
    modes = {module: module.training for module in model.modules()}
    try:
        model.eval()
        with batch_statistics(model), exact():
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def _jacobian(output: Tensor, inputs: Tensor) -> Tensor:
    """The rows `[N, D]`: the gradient of the output, summed over classes and averaged over steps, for each sample."""
    total = output.mean(dim=0).sum()
    if not total.requires_grad:
        return rows_of(torch.zeros_like(inputs))
    (gradient,) = torch.autograd.grad(total, inputs, materialize_grads=True)
    return rows_of(gradient)


def rows_of(gradient: Tensor) -> Tensor:
    """The gradient of a batch, `[N, C, H, W]` or `[T, N, C, H, W]`, as one row for each sample, `[N, D]`."""
    return (gradient.transpose(0, 1) if gradient.dim() == 5 else gradient).flatten(1)


def _distance(codes: Tensor) -> tuple[Tensor, bool]:
    """The sparsity-aware Hamming distances `[N, N]` of codes `[N, N_A]`, and whether any of them fires."""
    neurons = codes.shape[1]
    exact = codes.to(torch.float32 if neurons < _EXACT_FLOAT32 else torch.float64)
    common = (exact @ exact.T).to(torch.float64)
    counts = common.diagonal()
    hamming = counts[:, None] + counts[None, :] - 2 * common
    rates = counts / neurons
    scale = neurons * (rates[:, None] * (1 - rates)[None, :] + (1 - rates)[:, None] * rates[None, :])
    # Written so that what is not a number stays one.
    distance = torch.where(scale == 0, 0.0, 0.5 * hamming / scale)
    return distance, bool((counts > 0).any())


def _singular(kernel: Tensor) -> bool:
    """Whether the symmetric `kernel` has no full rank in float64."""
    values = torch.linalg.eigvalsh(kernel).abs()
    return bool(values.min() <= values.max() * len(values) * torch.finfo(torch.float64).eps)

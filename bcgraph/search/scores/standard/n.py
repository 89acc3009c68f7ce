"""The N-score: how differently the samples of a batch make the neurons spike (paper eq. 7 and 8, design 1.9).

For each layer of neurons and step the spikes of sample i are its code `c_i`, of N_A neurons with firing rate r_i. The
sparsity-aware Hamming distance of two samples is `d_ij = 0.5*hamming(c_i, c_j) / (N_A*(r_i(1-r_j) + (1-r_i)r_j))`, and
0 where the denominator is 0. The kernel `K` is the sum of all `N_A - d`, and the score is `log|det K|`. A neuron that
sends other numbers than 0 and 1 counts as firing where they are not 0.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bcgraph import lazy
from bcgraph.errors import SearchError
from bcgraph.plugins.values import OfSpikes, Score
from bcgraph.search.scores.result import ScoreResult

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    torch = lazy.Module("torch")

# Sums of 0s and 1s up to this are exact in float32, in any order of addition.
_EXACT_FLOAT32 = 2**24


@dataclass(frozen=True, slots=True, eq=False)
class KernelTerm:
    """What one layer adds to the kernel in one step: `N_A - d`, `[N, N]` in float64, and whether a neuron fires.

    Both stay on the device, so that nothing waits for it before the score.
    """

    values: Tensor
    fires: Tensor


def n_score_from_spikes(codes: Iterable[Tensor]) -> ScoreResult:
    """The N-score of spike tensors `[N, ...]` of 0 and 1, one for each layer of neurons and step.

    Raises SearchError (E089) for fewer than two samples.
    """
    return n_score_from_terms(kernel_term(tensor) for tensor in codes)


def kernel_term(codes: Tensor) -> KernelTerm:
    """What the spikes `[N, ...]` of one layer of neurons and step add to the kernel."""
    rows = codes.detach()
    if rows.dim() == 4 and rows.is_contiguous(memory_format=torch.channels_last):
        rows = rows.permute(0, 2, 3, 1)  # counts take any order of the neurons, and this one needs no copy
    distance, fires = _distance(rows.flatten(1))
    return KernelTerm(codes[0].numel() - distance, fires)


def n_score_from_terms(terms: Iterable[KernelTerm]) -> ScoreResult:
    """The N-score of the kernel that is the sum of `terms`. Raises SearchError (E089) for fewer than two samples."""
    kernel: Tensor | None = None
    fires: list[Tensor] = []
    for term in terms:
        fires.append(term.fires)
        kernel = term.values if kernel is None else kernel + term.values
    if kernel is None or kernel.shape[0] < 2:
        raise SearchError("E089", "the N-score compares samples and needs a batch of at least two of them")
    if not bool(torch.isfinite(kernel).all()):
        return ScoreResult.dead("spikes are not finite")
    if not bool(torch.stack(fires).any()):
        return ScoreResult.dead("no neuron fires")
    if _singular(kernel):
        return ScoreResult.dead("the kernel of the N-score is singular: samples are not told apart")
    return ScoreResult(float(torch.linalg.slogdet(kernel).logabsdet))


def _distance(codes: Tensor) -> tuple[Tensor, Tensor]:
    """The sparsity-aware Hamming distances `[N, N]` of codes `[N, N_A]`, and whether any of them fires."""
    neurons = codes.shape[1]
    codes = codes.to(torch.float32 if neurons < _EXACT_FLOAT32 else torch.float64)
    common = (codes @ codes.T).to(torch.float64)
    counts = common.diagonal()
    hamming = counts[:, None] + counts[None, :] - 2 * common
    rates = counts / neurons
    scale = neurons * (rates[:, None] * (1 - rates)[None, :] + (1 - rates)[:, None] * rates[None, :])
    # Written so that NaN stays NaN.
    distance = torch.where(scale == 0, 0.0, 0.5 * hamming / scale)
    return distance, (counts > 0).any()


def _singular(kernel: Tensor) -> bool:
    """Whether the symmetric `kernel` has no full rank in float64."""
    values = torch.linalg.eigvalsh(kernel).abs()
    return bool(values.min() <= values.max() * len(values) * torch.finfo(torch.float64).eps)


SCORE = Score(
    OfSpikes(kernel_term, n_score_from_terms),
    "N-score",
    "how differently samples make neurons spike (paper eq. 7, 8)",
)

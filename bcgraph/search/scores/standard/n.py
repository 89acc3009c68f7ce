"""The N-score: how differently the samples of a batch make the neurons spike (paper eq. 7 and 8, design 1.9).

For each layer of neurons and step the spikes of sample i are its code `c_i`, of N_A neurons with firing rate r_i. The
sparsity-aware Hamming distance of two samples is `d_ij = 0.5*hamming(c_i, c_j) / (N_A*(r_i(1-r_j) + (1-r_i)r_j))`, and
0 where the denominator is 0. The kernel `K` is the sum of all `N_A - d`, and the score is `log|det K|`. A neuron that
sends other numbers than 0 and 1 counts as firing where they are not 0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
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

# So many numbers of terms are computed in one go.
_TOGETHER = 2**20


@dataclass(frozen=True, slots=True, eq=False)
class KernelTerm:
    """Of one layer in one step: how many of its `neurons` two samples make fire both, `[N, N]` in float64.

    It stays on the device, and all terms of a network become its kernel together: nothing waits for the device before.
    """

    common: Tensor
    neurons: int


def n_score_from_spikes(codes: Iterable[Tensor]) -> ScoreResult:
    """The N-score of spike tensors `[N, ...]` of 0 and 1, one for each layer of neurons and step.

    Raises SearchError (E089) for fewer than two samples.
    """
    return n_score_from_terms(kernel_term(tensor) for tensor in codes)


def kernel_term(codes: Tensor) -> KernelTerm:
    """What the kernel takes of the spikes `[N, ...]` of one layer of neurons and step."""
    rows = codes.detach()
    if rows.dim() == 4 and rows.is_contiguous(memory_format=torch.channels_last):
        rows = rows.permute(0, 2, 3, 1)  # counts take any order of the neurons, and this one needs no copy
    rows = rows.flatten(1)
    neurons = rows.shape[1]
    rows = rows.to(torch.float32 if neurons < _EXACT_FLOAT32 else torch.float64)
    return KernelTerm((rows @ rows.T).to(torch.float64), neurons)


def n_score_from_terms(terms: Iterable[KernelTerm]) -> ScoreResult:
    """The N-score of the kernel that is the sum of `terms`. Raises SearchError (E089) for fewer than two samples."""
    return score_of_kernel(terms, _similarity)


def score_of_kernel(terms: Iterable[KernelTerm], similarity: Callable[[Tensor, Tensor], Tensor]) -> ScoreResult:
    """`log|det K|` of the sum K over `terms` of `similarity(common, neurons)`, for `[K, N, N]` and `[K, 1, 1]`.

    The kernel is small, so its determinant is the CPU's: the result is the same wherever the network runs. Raises
    SearchError (E089) for fewer than two samples.
    """
    known = list(terms)
    samples = known[0].common.shape[0] if known else 0
    if samples < 2:
        raise SearchError("E089", "the N-score compares samples and needs a batch of at least two of them")
    kernel: Tensor | None = None
    fires = False
    at_once = max(1, _TOGETHER // samples**2)
    for start in range(0, len(known), at_once):
        part = known[start : start + at_once]
        common = torch.stack([term.common for term in part])
        neurons = torch.tensor([term.neurons for term in part], dtype=common.dtype, device=common.device)
        for value in similarity(common, neurons.view(-1, 1, 1)).cpu():
            kernel = value if kernel is None else kernel + value
        fires = fires or bool((common.diagonal(dim1=1, dim2=2) > 0).any())
    assert kernel is not None
    if not bool(torch.isfinite(kernel).all()):
        return ScoreResult.dead("spikes are not finite")
    if not fires:
        return ScoreResult.dead("no neuron fires")
    if _singular(kernel):
        return ScoreResult.dead("the kernel of the N-score is singular: samples are not told apart")
    return ScoreResult(float(torch.linalg.slogdet(kernel).logabsdet))


def hamming_distance(common: Tensor) -> Tensor:
    """Of `[..., N, N]` counts of neurons that two samples make fire both: how many only one of them does."""
    counts = common.diagonal(dim1=-2, dim2=-1)
    return counts[..., :, None] + counts[..., None, :] - 2 * common


def _similarity(common: Tensor, neurons: Tensor) -> Tensor:
    """`N_A - d` with the sparsity-aware Hamming distance d."""
    rates = common.diagonal(dim1=-2, dim2=-1)[..., None] / neurons
    other = rates.transpose(-2, -1)
    scale = neurons * (rates * (1 - other) + (1 - rates) * other)
    # Written so that NaN stays NaN.
    return neurons - torch.where(scale == 0, 0.0, 0.5 * hamming_distance(common) / scale)


def _singular(kernel: Tensor) -> bool:
    """Whether the symmetric `kernel` has no full rank in float64."""
    values = torch.linalg.eigvalsh(kernel).abs()
    return bool(values.min() <= values.max() * len(values) * torch.finfo(torch.float64).eps)


SCORE = Score(
    OfSpikes(kernel_term, n_score_from_terms),
    "N-score",
    "how differently samples make neurons spike (paper eq. 7, 8)",
)

"""NASWOT on spikes: how many neurons two samples share (Mellor et al. 2021, arXiv 2006.04647, eq. 2).

The code of a sample is what the neurons of a layer send in a step, as the sign of a ReLU is in the source. The kernel
is the sum over layers and steps of `N_A - hamming(c_i, c_j)`, and the score `log|det K|`. The N-score divides the
distance by what two codes with these firing rates have by chance; this does not.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from bcgraph.plugins.values import OfSpikes, Score
from bcgraph.search.scores.result import ScoreResult
from bcgraph.search.scores.standard.n import KernelTerm, hamming_distance, kernel_term, score_of_kernel

if TYPE_CHECKING:
    from torch import Tensor


def score_from_terms(terms: Iterable[KernelTerm]) -> ScoreResult:
    """The score of the kernel that is the sum of `terms`. Raises SearchError (E089) for fewer than two samples."""
    return score_of_kernel(terms, _similarity)


def _similarity(common: Tensor, neurons: Tensor) -> Tensor:
    return neurons - hamming_distance(common)


SCORE = Score(
    OfSpikes(kernel_term, score_from_terms),
    "NASWOT",
    "as the N-score, with plain Hamming distances (Mellor et al. 2021)",
)

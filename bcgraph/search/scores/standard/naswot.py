"""NASWOT on spikes: how many neurons two samples share (Mellor et al. 2021, arXiv 2006.04647, eq. 2).

The code of a sample is what the neurons of a layer send in a step, as the sign of a ReLU is in the source. The kernel
is the sum over layers and steps of `N_A - hamming(c_i, c_j)`, and the score `log|det K|`. The N-score divides the
distance by what two codes with these firing rates have by chance; this does not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bcgraph import lazy
from bcgraph.plugins.values import OfSpikes, Score
from bcgraph.search.scores.standard.n import KernelTerm, n_score_from_terms

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    torch = lazy.Module("torch")


def kernel_term(codes: Tensor) -> KernelTerm:
    """What the spikes `[N, ...]` of one layer of neurons and step add to the kernel `[N, N]`, in float64."""
    rows = codes.detach().flatten(1).to(torch.float64)
    common = rows @ rows.T
    counts = common.diagonal()
    hamming = counts[:, None] + counts[None, :] - 2 * common
    return KernelTerm(rows.shape[1] - hamming, (counts > 0).any())


SCORE = Score(
    OfSpikes(kernel_term, n_score_from_terms),
    "NASWOT",
    "as the N-score, with plain Hamming distances (Mellor et al. 2021)",
)

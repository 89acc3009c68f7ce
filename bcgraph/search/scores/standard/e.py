"""The E-score: how the input gradients of samples of one class correlate (paper eq. 9 to 15, design 1.10).

Row `J_i` is the gradient of the output, summed over classes and averaged over steps, with respect to sample i; each row
is centered over its own D entries. R is the correlation matrix of the rows of a class, and `e_c` the sum of
`log(|R| + 1e-5)` over its entries (eq. 14). Up to 100 classes the score is the sum of `|e_c|`. Above, `e_c` is divided
by the number n_c of its samples, and the score is the sum of `|e_c - e_c'|` over ordered pairs of classes, divided by
the number of classes (eq. 15).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bcgraph import lazy
from bcgraph.errors import SearchError
from bcgraph.plugins.values import OfGradients, Score
from bcgraph.search.scores.result import ScoreResult

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    torch = lazy.Module("torch")

SMALL = 1e-5
"""What is added to a correlation before its logarithm (paper eq. 14)."""

FEW_CLASSES = 100
"""Up to this many classes the E-score adds up |e_c|; above, it compares the classes (paper eq. 14 and 15)."""


def e_score_from_jacobian(jacobian: Tensor, y: Tensor) -> ScoreResult:
    """The E-score of rows `J_i` `[N, D]` with labels `[N]`; a class of one sample is left out.

    Raises SearchError (E089) when no class has two samples.
    """
    rows = jacobian.detach().flatten(1).to(torch.float64)
    labels = y.cpu()
    members = [m for c in torch.unique(labels) if len(m := torch.nonzero(labels == c).flatten()) > 1]
    if not members:
        raise SearchError(
            "E089",
            "the E-score compares samples of one class, but no class has two samples in the batch",
            hint="take a larger batch",
        )
    finite = torch.isfinite(rows).all()
    zero = (rows.norm(dim=1) == 0).any()
    # Scaling a row changes no correlation and keeps its square within range.
    rows = rows / rows.abs().amax(dim=1, keepdim=True)
    centered = rows - rows.mean(dim=1, keepdim=True)
    spread = centered.norm(dim=1)
    flat = (spread <= 1e-12 * rows.norm(dim=1)).any()
    unit = centered / spread[:, None]
    own = [unit[m.to(unit.device)] for m in members]
    found = [torch.log((u @ u.T).abs() + SMALL).sum() for u in own]
    # All at once: each number that is read waits for the device.
    values = torch.stack([finite.double(), zero.double(), flat.double(), *found]).cpu()
    is_finite, is_zero, is_flat = values[:3].bool().tolist()
    if not is_finite:
        return ScoreResult.dead("an input gradient is not finite")
    if is_zero:
        return ScoreResult.dead("an input gradient is zero")
    if is_flat:
        return ScoreResult.dead("an input gradient is the same everywhere and correlates with nothing")
    sums = values[3:].clone()
    if len(members) <= FEW_CLASSES:
        return ScoreResult(float(sums.abs().sum()))
    means = sums / torch.tensor([len(m) for m in members], dtype=torch.float64)
    return ScoreResult(float((means[:, None] - means[None, :]).abs().sum() / len(members)))


SCORE = Score(
    OfGradients(e_score_from_jacobian),
    "E-score",
    "how the input gradients of samples of one class correlate (paper eq. 9 to 15)",
    classes=True,
)

"""Where the weights of a run come from, as its weights file says; read without torch.

A search without a last stage leaves *inherited weights*: those that the network found shares with all candidates of the
supernet. It was never trained on its own, so its accuracy says little about what training would give.
"""

from __future__ import annotations

from os import PathLike

from bcgraph import tensorfiles

SUPERNET, TRAINING, INITIALIZATION = "supernet", "training", "initialization"

INHERITED = "inherited weights"
"""What commands and pages call the weights of a network that shared them with the candidates of a supernet."""


def origin(path: str | PathLike[str]) -> str | None:
    """`supernet`, `training` or `initialization` for the weights that a search has left; None for other files.

    Raises WeightsError (E082) when the file cannot be read.
    """
    metadata = tensorfiles.read(path)[1].get("metadata")
    found = metadata.get("origin") if isinstance(metadata, dict) else None
    return found if isinstance(found, str) else None


def inherited(path: str | PathLike[str]) -> bool:
    """Whether a weights file holds inherited weights. Raises WeightsError (E082) when it cannot be read."""
    return origin(path) == SUPERNET

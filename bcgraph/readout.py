"""Readouts: what a network's prediction is made from (design 1.5).

Each is a function of O `[T, N, classes]` to `[N, classes]` and takes tensors of torch and arrays of numpy alike.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

READOUTS: Mapping[str, Callable[[Any], Any]] = {
    "mean": lambda outputs: outputs.mean(0),
    "last": lambda outputs: outputs[-1],
}

MEANINGS: Mapping[str, str] = {"mean": "the mean over the steps", "last": "the last step"}
"""What each readout is, for people."""


def read_out(outputs: Any, readout: str) -> Any:
    """`[N, classes]` from the outputs of all steps, `[T, N, classes]`. Raises KeyError for an unknown readout."""
    return READOUTS[readout](outputs)


def predict(outputs: Any, readout: str) -> Any:
    """The predicted class of each sample, `[N]`: the arg max of what the readout makes of O `[T, N, classes]`."""
    return read_out(outputs, readout).argmax(-1)


def correct(outputs: Any, readout: str, labels: Any) -> Any:
    """Whether each sample is predicted right, `[N]`. One whose readout holds nan has no prediction, so it is not."""
    values = read_out(outputs, readout)
    return (values.argmax(-1) == labels) & (values == values).all(-1)

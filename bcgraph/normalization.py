"""Normalization of samples by channel: `(x - mean) / std`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import TypeAdapter

from bcgraph import foreign

X = TypeVar("X")


@dataclass(frozen=True, slots=True)
class Normalization:
    """By channel, `(x - mean) / std`; with `inside` an exported file does this itself and takes raw samples.

    Samples are `[..., C, H, W]`, tensors of torch or arrays of numpy; results have their type and precision. `axes` is
    the number of axes of one frame: 3, or 2 for `[..., C, L]` and 1 for `[..., F]`.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    inside: bool = False
    axes: int = 3

    def normalized(self, x: X) -> X:
        """Raw samples, normalized."""
        mean, std = self._columns(x)
        result: X = (x - mean) / std
        return result

    def raw(self, x: X) -> X:
        """Normalized samples as they were before."""
        mean, std = self._columns(x)
        result: X = x * std + mean
        return result

    def as_json(self) -> str:
        """The text that a file keeps of it."""
        axes = {} if self.axes == 3 else {"axes": self.axes}
        return json.dumps({"mean": list(self.mean), "std": list(self.std), "inside": self.inside, **axes})

    @staticmethod
    def from_json(text: str) -> Normalization:
        """The inverse of `as_json`. Raises ValueError for anything else."""
        found = foreign.from_json(text, _SHAPE)
        if len(found.mean) != len(found.std) or min(found.std, default=0) <= 0 or not 1 <= found.axes <= 3:
            raise ValueError("it normalizes by another number of deviations, or by one that is not positive")
        return found

    def _columns(self, x: Any) -> tuple[Any, Any]:
        """Mean and standard deviation `[C, 1, 1]` (or with fewer axes), of the kind of `x`."""
        shape = (-1, *[1] * (self.axes - 1))
        if hasattr(x, "new_tensor"):
            return tuple(x.new_tensor(values).view(shape) for values in (self.mean, self.std))
        import numpy as np

        return tuple(np.array(values, dtype=np.float32).reshape(shape) for values in (self.mean, self.std))  # type: ignore[return-value]


_SHAPE = TypeAdapter(Normalization)

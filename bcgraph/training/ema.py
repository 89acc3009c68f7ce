"""The exponential moving average (EMA) of the weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from bcgraph.errors import WeightsError
from bcgraph.weights import flaw_of

PREFIX = "average."


class EMA:
    """The exponential moving average of a model's parameters and running statistics, by name.

    `a <- decay*a + (1-decay)*w` after each update, starting from the first weights. Integers are copied. With a decay
    of 0 the average is the model itself, and nothing is kept.
    """

    # torch's AveragedModel does not fit: it averages integers too, skips the first update and copies a compiled module.

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model = model
        self.decay = decay
        state = model.state_dict() if decay else {}
        self.values = {name: value.detach().clone() for name, value in state.items()}
        self._average = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]

    @torch.no_grad()
    def update(self) -> None:
        """Add the model's present weights to the average."""
        if not self.decay:
            return
        present = self.model.state_dict()
        floats = [name for name, value in present.items() if value.is_floating_point()]
        self._average([self.values[name] for name in floats], [present[name] for name in floats], 0)
        for name in present.keys() - set(floats):
            self.values[name].copy_(present[name])

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Gives the model the averaged weights; restores its own on exit."""
        if not self.decay:
            yield
            return
        own = {name: value.clone() for name, value in self.model.state_dict().items()}
        self.model.load_state_dict(self.values)
        try:
            yield
        finally:
            self.model.load_state_dict(own)

    def tensors(self) -> dict[str, Tensor]:
        """The tensors that a checkpoint keeps."""
        return {PREFIX + name: value for name, value in self.values.items()}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore what `tensors` returned. Raises WeightsError (E083) when it does not fit."""
        for name, value in self.values.items():
            found = tensors.get(PREFIX + name)
            if found is None or found.shape != value.shape or flaw_of(name, found, value) is not None:
                raise WeightsError("E083", f"the checkpoint has no average of `{name}` that fits")
            value.copy_(found)

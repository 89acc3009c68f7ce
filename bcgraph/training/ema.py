"""A moving average of the weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

PREFIX = "average."


class Average:
    """The exponential moving average of a model's parameters and running statistics, by name.

    `a <- decay*a + (1-decay)*w` after each update, from the first weights on. Integers are taken as they are. With a
    decay of 0 the average is the model itself, and nothing is kept.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model = model
        self.decay = decay
        state = model.state_dict() if decay else {}
        self.values = {name: value.detach().clone() for name, value in state.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Take in the model's present weights."""
        if not self.decay:
            return
        for name, value in self.model.state_dict().items():
            if value.is_floating_point():
                self.values[name].lerp_(value, 1 - self.decay)
            else:
                self.values[name].copy_(value)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The model with the averaged weights; afterwards it has its own again."""
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
        """What a checkpoint keeps of it."""
        return {PREFIX + name: value for name, value in self.values.items()}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Put back what `tensors` gave."""
        for name, value in self.values.items():
            value.copy_(tensors[PREFIX + name])

"""How large a network may become, so that one that would be too large is refused before it is built."""

from __future__ import annotations

from dataclasses import dataclass

from bcgraph.dsl.source import Reporter
from bcgraph.errors import Span

MAX_LAYERS = 20_000
MAX_PARAMETERS = 2_000_000_000
MAX_ACTIVATIONS = 2_000_000_000
MAX_UNROLLED = 2_000_000
MAX_STEPS = 1_000_000

_REFUSED = "it is refused before it is built"


@dataclass(slots=True)
class Budget:
    """How much more work the elaboration of one text may take."""

    reporter: Reporter
    left: int = MAX_STEPS

    def spend(self, span: Span, amount: int = 1) -> None:
        """Use up some steps. Reports E054 and raises Stop when there are none left."""
        self.left -= amount
        if self.left < 0:
            self.reporter.stop(
                "E054",
                f"expanding the blocks takes more than {MAX_STEPS:,} steps",
                span,
                "fewer repetitions, or fewer blocks that call blocks",
            )


@dataclass(slots=True)
class Size:
    """What a network costs: layers, trained values, and values between layers in one step of one sample."""

    reporter: Reporter
    layers: int = 0
    parameters: int = 0
    activations: int = 0

    def add(self, layers: int, parameters: int, activations: int, span: Span, notes: tuple[str, ...] = ()) -> None:
        """Count a part of the network. Reports E054 and raises Stop when it is too much."""
        self.layers += layers
        self.parameters += parameters
        self.activations += activations
        for count, limit, noun in (
            (self.layers, MAX_LAYERS, "layers"),
            (self.parameters, MAX_PARAMETERS, "trained values"),
            (self.activations, MAX_ACTIVATIONS, "values between layers in one step of one sample"),
        ):
            if count > limit:
                message = f"the network would have more than {limit:,} {noun}"
                self.reporter.stop("E054", message, span, _REFUSED, notes)

    def check_steps(self, steps: int, span: Span) -> None:
        """Report E054 when the network, unrolled over its steps, would be too much."""
        if self.layers * steps > MAX_UNROLLED:
            message = f"{self.layers:,} layers in {steps:,} steps are more than {MAX_UNROLLED:,} in all"
            self.reporter.add("E054", message, span, _REFUSED)

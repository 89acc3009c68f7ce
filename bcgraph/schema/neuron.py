"""Neurons with the surrogates of their spikes, and norms."""

from __future__ import annotations

from dataclasses import field
from typing import Annotated, Literal, TypeAlias

from pydantic import SerializerFunctionWrapHandler, SkipValidation, model_serializer
from pydantic.dataclasses import dataclass

from bcgraph.equations.expression import Expression, text
from bcgraph.equations.neuron import Equations
from bcgraph.equations.simplify import ONE
from bcgraph.names import DEFAULT_NEURON
from bcgraph.schema.values import CONFIG, Gain, Positive, Probability, Scalar, without_defaults


@dataclass(frozen=True, config=CONFIG)
class Surrogate:
    """The derivative that a spike is given (paper eq. 5 for the triangle), as it was called and what that means.

    `derivative` is an expression of `x`, the distance of the membrane from the threshold.
    """

    name: str
    arguments: tuple[tuple[str, Scalar], ...] = ()
    derivative: Annotated[Expression, SkipValidation] = field(default=ONE, repr=False)

    @property
    def plain(self) -> dict[str, Scalar]:
        """The arguments, and the name as its kind."""
        return {**dict(self.arguments), "kind": self.name}

    @model_serializer(mode="plain")
    def _dumped(self):  # type: ignore[no-untyped-def]
        return self.plain


Argument: TypeAlias = Scalar | Surrogate


@dataclass(frozen=True, config=CONFIG)
class Neuron:
    """A neuron as it was called, `lif(tau=0.5)`, and the equations that this means.

    `source` holds the definitions of the user's own that the call needs, each as a text; those of the standard library
    are left out. It takes no part in equality.
    """

    name: str
    arguments: tuple[tuple[str, Argument], ...]
    equations: Annotated[Equations, SkipValidation] = field(repr=False)
    source: tuple[str, ...] = field(default=(), repr=False, compare=False)

    def argument(self, name: str) -> Argument | None:
        """The value of one argument, None where the definition has no such parameter."""
        return dict(self.arguments).get(name)

    @property
    def threshold(self) -> float | None:
        """The threshold where the definition has a parameter of that name, which is a number."""
        found = self.argument("threshold")
        return float(found) if isinstance(found, int | float) and not isinstance(found, bool) else None

    @model_serializer(mode="plain")
    def _dumped(self):  # type: ignore[no-untyped-def]
        """As the first version wrote its one neuron: the arguments alone. Others add their name and equations."""
        arguments = {k: v.plain if isinstance(v, Surrogate) else v for k, v in self.arguments}
        if self.name == DEFAULT_NEURON:
            return arguments
        surrogates = [text(v.derivative) for _, v in self.arguments if isinstance(v, Surrogate)]
        meaning = {"equations": str(self.equations).split("\n"), "surrogates": surrogates}
        learned = [[each.name, each.initial, each.channels] for each in self.equations.learned]
        return {"neuron": self.name, "arguments": arguments, **meaning, "learned": learned}


@dataclass(frozen=True, config=CONFIG)
class Norm:
    """Batch normalization. `statistics=per_step` keeps running statistics for each step; the affine part is shared.

    `gain` is the first value of the scale, which is trained from there; it is 1 in the paper. With `scales=per_step`
    the result of step t is multiplied by a trained p[t], which starts at 1 (TEBN, Duan et al. 2022).
    """

    eps: Positive = 1e-5
    momentum: Probability = 0.1
    statistics: Literal["shared", "per_step"] = "shared"
    gain: Gain = 1.0
    scales: Literal["shared", "per_step"] = "shared"

    @property
    def by_step(self) -> bool:
        """Whether steps are told apart, so that the norm cannot run on several at once."""
        return "per_step" in (self.statistics, self.scales)

    @model_serializer(mode="wrap")
    def _without_defaults(self, dump: SerializerFunctionWrapHandler):  # type: ignore[no-untyped-def]
        return without_defaults(dump(self), gain=1.0, scales="shared")

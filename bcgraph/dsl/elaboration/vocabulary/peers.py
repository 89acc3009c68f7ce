"""Arguments of neurons by the names and the units that other packages give them, with what they are here."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from bcgraph.dsl import syntax

Hint = Callable[[float | None], str]


def _beta(value: float | None) -> str:
    shown = "0.9" if value is None else f"{value:g}"
    return f"snnTorch's `beta` is `tau` here, the share of the membrane that is kept: write `tau={shown}`"


def _time_constant(value: float | None) -> str:
    shown = 2.0 if value is None else value
    converted = f"{1 - 1 / shown:.4g}"
    return (
        f"`tau` is the share of the membrane that is kept: SpikingJelly's time constant tau = {shown:g} is "
        f"`tau={converted}`, 1 - 1/tau; snnTorch's `beta` is `tau` as it stands"
    )


NAMES: Mapping[str, tuple[str, Hint]] = {
    "beta": ("tau", _beta),
    "decay": ("tau", lambda value: "`decay` is `tau` here, the share of the membrane that is kept"),
    "v_threshold": ("threshold", lambda value: "SpikingJelly's `v_threshold` is `threshold` here"),
    "v_th": ("threshold", lambda value: "Norse's `v_th` is `threshold` here"),
    "thresh": ("threshold", lambda value: "it is `threshold` here"),
    "surrogate_function": ("surrogate", lambda value: "SpikingJelly's `surrogate_function` is `surrogate` here"),
    "spike_grad": ("surrogate", lambda value: "snnTorch's `spike_grad` is `surrogate` here"),
    "reset_mechanism": (
        "reset",
        lambda value: "snnTorch's `reset_mechanism` is `reset` here: `hard` for `zero`, `soft` for `subtract`",
    ),
    "v_reset": ("reset", lambda value: "a `hard` reset goes to 0; SpikingJelly's `v_reset=None` is `reset=soft`"),
}
"""Foreign names: the argument that each is here, and the hint for a value (None where it is no number)."""


def renamed(name: str, known: Collection[str], value: syntax.Expression) -> str | None:
    """A hint for an argument that has another name here, one of those `known`; None where there is none."""
    if name in known or name not in NAMES or NAMES[name][0] not in known:
        return None
    number = value.value if isinstance(value, syntax.Number) else None
    return NAMES[name][1](number)


def converted(name: str, value: object) -> str | None:
    """A hint for a number that is out of range because it has another unit elsewhere; None for all others."""
    if name != "tau" or isinstance(value, bool) or not isinstance(value, int | float) or value <= 1:
        return None
    return _time_constant(value)

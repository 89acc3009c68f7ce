"""Neurons of the standard library for tests."""

from __future__ import annotations

from bcgraph import dsl, schema


def lif(
    tau: float = 0.5,
    threshold: float = 1.0,
    reset: str = "hard",
    width: float = 1.0,
    detach_reset: bool = False,
) -> schema.Neuron:
    """A LIF neuron with the triangle of `width`."""
    detach = str(detach_reset).lower()
    return dsl.neuron(
        f"lif(tau={tau!r}, threshold={threshold!r}, reset={reset}, surrogate=triangle(width={width!r}), "
        f"detach_reset={detach})"
    )

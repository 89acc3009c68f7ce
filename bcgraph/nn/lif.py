"""The LIF neuron: its equations one by one, and fused over one step or all of them.

Shapes: one step of one layer is `[N, C, H, W]` or `[N, F]`. While torch traces (`torch.export`, `torch.compile`) or
transforms (`torch.func`) the plain equations stand in for the fused functions; torch's own compiler fuses them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from bcgraph.nn import lif_autograd
from bcgraph.nn.lif_kernels import advance, advance_steps
from bcgraph.nn.norm import split
from bcgraph.nn.transforms import traced
from bcgraph.nn.workspace import Workspace, empty, is_last

Slots = tuple[int | None, int | None]
"""The slots of the workspace that hold the spikes and the membrane; None for memory of their own."""

NO_SLOTS: Slots = (None, None)


def charge(current: Tensor, membrane: Tensor, tau: float) -> Tensor:
    """`u[t] = tau*v[t-1] + I[t]` (paper eq. 1), elementwise."""
    return torch.add(current, membrane, alpha=tau)


def fire(u: Tensor, threshold: float, width: float) -> Tensor:
    """`s = 1 if u > threshold else 0`, strictly (paper eq. 2), with the triangle as its derivative (eq. 5)."""
    return lif_autograd.fire(u, threshold, width)


def reset(u: Tensor, s: Tensor, threshold: float, mode: str, detach: bool) -> Tensor:
    """`v = u*(1 - s)` for `hard`, `u - threshold*s` for `soft` (paper eq. 2); `detach` cuts the spike's gradient."""
    spikes = s.detach() if detach else s
    return u * (1.0 - spikes) if mode == "hard" else u - threshold * spikes


def lif(
    currents: Sequence[Tensor],
    membrane: Tensor | None,
    tau: float,
    threshold: float,
    width: float,
    mode: str,
    detach: bool,
    workspace: Workspace | None = None,
    slots: Slots = NO_SLOTS,
) -> tuple[Tensor, Tensor]:
    """One step of a LIF layer: `charge`, `fire` and `reset` in one (paper eq. 1, 2 and 5).

    The current I is the sum of `currents`; `membrane` is v of the step before, or None at the first step. Returns the
    spikes s and the membrane v, both of the shape of a current. The backward pass keeps one tensor.
    """
    if traced():
        u = total(currents) if membrane is None else charge(total(currents), membrane, tau)
        s = fire(u, threshold, width)
        return s, reset(u, s, threshold, mode, detach)
    if needs_gradient(*currents, membrane):
        return lif_autograd.one_step(currents, membrane, tau, threshold, width, mode, detach)
    s, v = (_like(currents[0], workspace, slot) for slot in slots)
    advance(currents, membrane, None, s, v, tau, threshold, mode)
    return s, v


def lif_last(
    currents: Sequence[Tensor],
    membrane: Tensor | None,
    tau: float,
    threshold: float,
    width: float,
    mode: str,
    detach: bool,
    workspace: Workspace | None = None,
    slots: Slots = NO_SLOTS,
) -> Tensor:
    """The last step of a LIF layer: as `lif`, without the membrane, which no later step reads."""
    if traced() or needs_gradient(*currents, membrane):
        u = total(currents)
        return fire(u if membrane is None else charge(u, membrane, tau), threshold, width)
    s = _like(currents[0], workspace, slots[0])
    advance(currents, membrane, None, s, None, tau, threshold, mode)
    return s


def lif_steps(
    currents: Sequence[Tensor],
    steps: int,
    repeated: bool,
    tau: float,
    threshold: float,
    width: float,
    mode: str,
    detach: bool,
    workspace: Workspace | None = None,
    slots: Slots = NO_SLOTS,
) -> Tensor:
    """All steps of a LIF layer (paper eq. 1, 2 and 5), from `[T*N, ...]` to spikes `[T*N, ...]`, time first.

    The current is the sum of `currents`. With `repeated` it is the same at every step and comes as `[N, ...]`.
    """
    current = total(currents)
    given = (current,) * steps if repeated else split(current, steps)
    if traced():
        return _plain_steps(given, tau, threshold, width, mode, detach)
    if needs_gradient(current):
        return lif_autograd.all_steps(current, steps, repeated, tau, threshold, width, mode, detach)
    one = given[0]
    shape = (steps * one.shape[0], *one.shape[1:])
    s = empty(workspace, slots[0], shape, is_last(one), one.dtype, one.device)
    advance_steps(given, None, split(s, steps), tau, threshold, mode)
    return s


def needs_gradient(*values: Tensor | None) -> bool:
    """Whether autograd needs the gradient of one of `values`."""
    return torch.is_grad_enabled() and any(v is not None and v.requires_grad for v in values)


def total(currents: Sequence[Tensor]) -> Tensor:
    """The sum of one or more currents."""
    found = currents[0]
    for other in currents[1:]:
        found = found + other
    return found


def _like(current: Tensor, workspace: Workspace | None, slot: int | None) -> Tensor:
    return empty(workspace, slot, tuple(current.shape), is_last(current), current.dtype, current.device)


def _plain_steps(
    given: tuple[Tensor, ...], tau: float, threshold: float, width: float, mode: str, detach: bool
) -> Tensor:
    spikes: list[Tensor] = []
    v: Tensor | None = None
    for i_t in given:
        u = i_t if v is None else charge(i_t, v, tau)
        spikes.append(fire(u, threshold, width))
        v = reset(u, spikes[-1], threshold, mode, detach)
    return torch.cat(spikes)

"""The LIF neuron: its equations one by one, and fused over one step or all of them.

Shapes: one step of one layer is `[N, C, H, W]` or `[N, F]`. The equations are elementwise, so a fused
function works block by block over the batch, with blocks small enough to stay in a core's cache from the
charge to the reset: each of the large tensors then crosses the memory bus once. While torch traces
(`torch.export`, `torch.compile`) the plain equations stand in, which its own compiler fuses.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from bcgraph.nn.norm import split

# Elements of a block: 2**18 float32 values are 1 MiB. Larger blocks fared alike on 2 MiB of L2 cache.
BLOCK = 1 << 18


def triangle(u: Tensor, threshold: float, width: float) -> Tensor:
    """Surrogate derivative `max(0, width - |u - threshold|) / width**2` (paper eq. 5), elementwise."""
    slope = torch.rsub(torch.sub(u, threshold).abs_(), width).clamp_min_(0.0)
    return slope if width == 1.0 else slope.div_(width * width)


def charge(current: Tensor, membrane: Tensor, tau: float) -> Tensor:
    """`u[t] = tau*v[t-1] + I[t]` (paper eq. 1), elementwise."""
    return torch.add(current, membrane, alpha=tau)


def fire(u: Tensor, threshold: float, width: float) -> Tensor:
    """`s = 1 if u > threshold else 0`, strictly (paper eq. 2), with the triangle as its derivative (eq. 5)."""
    spikes: Tensor = _Fire.apply(u, threshold, width)
    return spikes


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
) -> tuple[Tensor, Tensor]:
    """One step of a LIF layer: `charge`, `fire` and `reset` in one (paper eq. 1, 2 and 5).

    The current I is the sum of `currents`; `membrane` is v of the step before, or None at the first step. Returns the
    spikes s and the membrane v, both of the shape of a current. The backward pass keeps one tensor.
    """
    if torch.compiler.is_compiling():
        u = _total(currents) if membrane is None else charge(_total(currents), membrane, tau)
        s = fire(u, threshold, width)
        return s, reset(u, s, threshold, mode, detach)
    if _needs_gradient(*currents, membrane):
        both: tuple[Tensor, Tensor] = _Lif.apply(membrane, tau, threshold, width, mode, detach, *currents)
        return both
    s, v = torch.empty_like(currents[0]), torch.empty_like(currents[0])
    _advance(currents, membrane, None, s, v, tau, threshold, mode)
    return s, v


def lif_last(
    currents: Sequence[Tensor],
    membrane: Tensor | None,
    tau: float,
    threshold: float,
    width: float,
    mode: str,
    detach: bool,
) -> Tensor:
    """The last step of a LIF layer: as `lif`, without the membrane that nobody will read."""
    if torch.compiler.is_compiling() or _needs_gradient(*currents, membrane):
        u = _total(currents)
        return fire(u if membrane is None else charge(u, membrane, tau), threshold, width)
    s = torch.empty_like(currents[0])
    _advance(currents, membrane, None, s, None, tau, threshold, mode)
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
) -> Tensor:
    """All steps of a LIF layer (paper eq. 1, 2 and 5), from `[T*N, ...]` to spikes `[T*N, ...]`, time first.

    The current is the sum of `currents`. With `repeated` it is the same at every step and comes as `[N, ...]`.
    """
    current = _total(currents)
    given = (current,) * steps if repeated else split(current, steps)
    if torch.compiler.is_compiling():
        return _plain_steps(given, tau, threshold, width, mode, detach)
    if _needs_gradient(current):
        spikes: Tensor = _LifSteps.apply(current, steps, repeated, tau, threshold, width, mode, detach)
        return spikes
    s = _empty_steps(given[0], steps)
    _advance_steps(given, None, split(s, steps), tau, threshold, mode)
    return s


def _needs_gradient(*values: Tensor | None) -> bool:
    return torch.is_grad_enabled() and any(v is not None and v.requires_grad for v in values)


def _total(currents: Sequence[Tensor]) -> Tensor:
    total = currents[0]
    for other in currents[1:]:
        total = total + other
    return total


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


class _Fire(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, u: Tensor, threshold: float, width: float) -> Tensor:
        ctx.threshold, ctx.width = threshold, width
        ctx.save_for_backward(u)
        return torch.gt(u, threshold, out=torch.empty_like(u))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (u,) = ctx.saved_tensors
        return triangle(u, ctx.threshold, ctx.width).mul_(gradients[0]), None, None


class _Lif(torch.autograd.Function):
    """One step, keeping `u`; at the first step that is the current itself."""

    @staticmethod
    def forward(
        ctx: Any,
        membrane: Tensor | None,
        tau: float,
        threshold: float,
        width: float,
        mode: str,
        detach: bool,
        *currents: Tensor,
    ) -> tuple[Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        ctx.tau, ctx.first, ctx.terms = tau, membrane is None, len(currents)
        ctx.settings = (threshold, width, mode, detach)
        alone = membrane is None and len(currents) == 1
        u = currents[0] if alone else torch.empty_like(currents[0])
        s, v = torch.empty_like(u), torch.empty_like(u)
        _advance(currents, membrane, None if alone else u, s, v, tau, threshold, mode)
        ctx.save_for_backward(u)
        return s, v

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        (u,) = ctx.saved_tensors
        grad = torch.empty_like(u)
        before = None if ctx.first else torch.empty_like(u)
        for k in _blocks(u):
            to_s, to_v = (None if g is None else g[k] for g in gradients)
            _gradient(u[k], to_s, to_v, grad[k], *ctx.settings)
            if before is not None:
                torch.mul(grad[k], ctx.tau, out=before[k])
        return (before, None, None, None, None, None, *[grad] * ctx.terms)


class _LifSteps(torch.autograd.Function):
    """All steps of a layer without feedback, keeping `u` of each."""

    @staticmethod
    def forward(
        ctx: Any,
        current: Tensor,
        steps: int,
        repeated: bool,
        tau: float,
        threshold: float,
        width: float,
        mode: str,
        detach: bool,
    ) -> Tensor:
        given = (current,) * steps if repeated else split(current, steps)
        ctx.steps, ctx.repeated, ctx.tau = steps, repeated, tau
        ctx.settings = (threshold, width, mode, detach)
        u, s = _empty_steps(given[0], steps), _empty_steps(given[0], steps)
        _advance_steps(given, split(u, steps), split(s, steps), tau, threshold, mode)
        ctx.save_for_backward(u)
        return s

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (u,) = ctx.saved_tensors
        us, to_spikes = split(u, ctx.steps), split(gradients[0], ctx.steps)
        result = torch.zeros_like(us[0]) if ctx.repeated else torch.empty_like(u)
        results = (result,) * ctx.steps if ctx.repeated else split(result, ctx.steps)
        for k in _blocks(us[0]):
            grad = torch.empty_like(us[0][k])
            to_v: Tensor | None = None
            for t in reversed(range(ctx.steps)):
                _gradient(us[t][k], to_spikes[t][k], to_v, grad, *ctx.settings)
                if ctx.repeated:
                    results[t][k].add_(grad)
                else:
                    results[t][k].copy_(grad)
                to_v = grad.mul(ctx.tau)
        return (result, *([None] * 7))


def _blocks(x: Tensor) -> list[slice]:
    """Slices of the batch axis of about `BLOCK` elements each."""
    rows = max(1, BLOCK * x.shape[0] // max(1, x.numel()))
    return [slice(k, k + rows) for k in range(0, x.shape[0], rows)]


def _empty_steps(like: Tensor, steps: int) -> Tensor:
    """`[T*N, ...]` for steps of the shape and layout of `like`."""
    last = like.dim() == 4 and like.is_contiguous(memory_format=torch.channels_last)
    layout = torch.channels_last if last else torch.contiguous_format
    shape = (steps * like.shape[0], *like.shape[1:])
    return torch.empty(shape, dtype=like.dtype, device=like.device, memory_format=layout)


def _advance(
    currents: Sequence[Tensor],
    membrane: Tensor | None,
    u: Tensor | None,
    s: Tensor,
    v: Tensor | None,
    tau: float,
    threshold: float,
    mode: str,
) -> None:
    """One step, written into `s` and, where they are wanted, `v` and `u`.

    At a first step with one current that is u itself, and is not written.
    """
    for k in _blocks(currents[0]):
        now, *others = (c[k] for c in currents)
        if others or membrane is not None:
            out = torch.empty_like(now) if u is None else u[k]
            for other in others:
                now = torch.add(now, other, out=out)
            if membrane is not None:
                now = torch.add(now, membrane[k], alpha=tau, out=out)
        _fire_and_reset(now, s[k], None if v is None else v[k], threshold, mode)


def _advance_steps(
    given: tuple[Tensor, ...],
    us: tuple[Tensor, ...] | None,
    spikes: tuple[Tensor, ...],
    tau: float,
    threshold: float,
    mode: str,
) -> None:
    """All steps of each block before the next block: the membrane never leaves the cache."""
    last = len(given) - 1
    for k in _blocks(given[0]):
        v = torch.empty_like(given[0][k])
        scratch = torch.empty_like(v)
        for t, i_t in enumerate(given):
            now = i_t[k]
            if t > 0:
                now = torch.add(now, v, alpha=tau, out=scratch if us is None else us[t][k])
            elif us is not None:
                now = us[t][k].copy_(now)
            _fire_and_reset(now, spikes[t][k], v if t < last else None, threshold, mode)


def _fire_and_reset(u: Tensor, s: Tensor, v: Tensor | None, threshold: float, mode: str) -> None:
    # Only operations that stay in floating point: torch vectorizes neither a conversion from booleans nor `where`.
    torch.gt(u, threshold, out=s)
    if v is None:
        return
    if mode == "hard":
        torch.addcmul(u, u, s, value=-1.0, out=v)
    else:
        torch.sub(u, s, alpha=threshold, out=v)


def _gradient(
    u: Tensor,
    to_s: Tensor | None,
    to_v: Tensor | None,
    grad: Tensor,
    threshold: float,
    width: float,
    mode: str,
    detach: bool,
) -> None:
    """Write into `grad` what reaches `u` from its spikes and from the membrane behind the reset (paper eq. 4, 5)."""
    through = to_s
    if to_v is not None and not detach:
        if mode == "hard":
            through = -(to_v * u) if to_s is None else torch.addcmul(to_s, to_v, u, value=-1.0)
        else:
            through = to_v * -threshold if to_s is None else torch.sub(to_s, to_v, alpha=threshold)
    if through is None:
        grad.zero_()
    else:
        torch.mul(triangle(u, threshold, width), through, out=grad)
    if to_v is not None and mode == "hard":
        fired = torch.gt(u, threshold, out=torch.empty_like(u))
        to_v = torch.addcmul(to_v, to_v, fired, value=-1.0)
    if to_v is not None:
        grad.add_(to_v)

"""A neuron's kernels on tensors: memory for what they write, one layout for all, and the launch.

Elements are taken in memory order, so contiguous and channels-last tensors need no copies. A tensor whose layout is not
that of the first is copied into it.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from bcgraph.equations.neuron import CURRENT, SPIKES
from bcgraph.errors import BcgraphWarning
from bcgraph.nn.neuron.gpu import probe, source
from bcgraph.nn.neuron.gpu.load import available, loaded
from bcgraph.nn.neuron.gpu.text import Nearest
from bcgraph.nn.neuron.kernel import Kernel
from bcgraph.nn.precision import arithmetic, kept, membranes

BLOCK = 1024
"""Elements of a program."""


def usable(x: Tensor) -> bool:
    """Whether kernels run on the device of `x`: a GPU, with Triton installed and able to build them."""
    return x.is_cuda and available() and works(x.device)


@cache
def works(device: torch.device) -> bool:
    """Whether kernels with all that a neuron may ask for run on `device`; tried once, a BcgraphWarning says why not.

    Triton builds what starts a kernel with a C compiler, which not every machine has.
    """
    try:
        flaw = probe.flaw(Grid(probe.SIZE, 1, probe.SIZE).run, device)
    # It fails in the compiler, the linker or the driver, each in its own way.
    except Exception as error:
        flaw = (str(error).strip() or repr(error)).splitlines()[0]
    if flaw is None:
        return True
    said = f"neurons run in torch's own operations, which is slower: Triton does not run on `{device}`: {flaw}"
    warnings.warn(BcgraphWarning(said), stacklevel=2)
    return False


@dataclass(frozen=True, slots=True)
class Grid:
    """Elements in memory order: `inner` neighbors have the same channel."""

    n: int
    inner: int
    channels: int
    block: int = BLOCK
    """Elements of a program."""

    @property
    def programs(self) -> int:
        """How many programs the elements take."""
        return -(-self.n // self.block)

    def run(self, text: str, *tensors: Tensor) -> None:
        """Run the kernel of `text` on all elements of `tensors`."""
        if not self.n:
            return
        with _present(tensors[0].device):
            # Products and sums are rounded one by one, so that a value computed again is the same value.
            loaded(text)[(self.programs,)](
                *tensors, self.n, self.inner, self.channels, BLOCK=self.block, enable_fp_fusion=False
            )


def _present(device: torch.device) -> AbstractContextManager[object]:
    """Inside, `device` is the present one: Triton starts kernels there, wherever their tensors are."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def grid_of(like: Tensor, block: int = BLOCK) -> Grid:
    """The elements of a tensor without gaps."""
    channels = like.shape[1]
    inner = like[0, 0].numel() if like.numel() and like.is_contiguous() else 1
    return Grid(like.numel(), max(1, inner), max(1, channels), block)


def dense(x: Tensor) -> Tensor:
    """`x` in memory without gaps whose order a kernel knows: contiguous or channels-last."""
    if x.is_contiguous() or (x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last)):
        return x
    return x.contiguous()


def laid_as(x: Tensor, like: Tensor) -> Tensor:
    """`x` in the layout of `like`."""
    return x if x.stride() == like.stride() else torch.empty_like(like, dtype=x.dtype).copy_(x)


def name_of(x: Tensor) -> str:
    """What the type of the arithmetic on `x` is called in a text."""
    return str(arithmetic(x.dtype)).removeprefix("torch.")


def by_channel(uniforms: Mapping[str, Tensor]) -> frozenset[str]:
    """The uniform values that have one value a channel."""
    return frozenset(key for key, value in uniforms.items() if value.dim())


@dataclass(frozen=True, slots=True)
class Step:
    """What one step gives, what it keeps besides (`kernel.written`), the sum of its currents, and its spikes as bits.

    Of several currents the sum is only there where the backward pass asks for it; bits only where they are wanted, or
    where what is kept is rounded. `kept` is the type of what is kept (see `kept_by`).
    """

    given: tuple[Tensor, ...]
    written: tuple[Tensor, ...]
    summed: Tensor
    bits: Tensor
    kept: torch.dtype


def pack(s: Tensor) -> Tensor:
    """The bits of spikes, eight a byte in memory order."""
    s = dense(s)
    bits = _bits_of(s)
    grid_of(s).run(source.pack(), s, bits)
    return bits


def unpack(bits: Tensor, shape: torch.Size, last: bool, dtype: torch.dtype) -> Tensor:
    """The spikes that `pack` packed, channels-last where they were."""
    layout = torch.channels_last if last else torch.contiguous_format
    s = torch.empty(shape, dtype=dtype, device=bits.device, memory_format=layout)
    grid_of(s).run(source.unpack(), bits, s)
    return s


def _bits_of(s: Tensor) -> Tensor:
    return torch.empty(-(-s.numel() // 8), dtype=torch.uint8, device=s.device)


def kept_by(kernel: Kernel, current: Tensor) -> torch.dtype:
    """The type in which `kernel` keeps values for the backward pass: rounded where that has the spikes as bits."""
    return kept(current) if kernel.rounds else membranes(current)


def step(
    kernel: Kernel,
    currents: Sequence[Tensor],
    states: Sequence[Tensor],
    uniforms: Sequence[Tensor],
    keeps: bool,
    packs: bool,
) -> Step:
    """One step. With `keeps` for a backward pass, with `packs` its spikes come as bits, too.

    The first current has the size of the map. Another may have one that it is a whole multiple of: its nearest value
    is read, where it stands.
    """
    like = dense(currents[0])
    wide, held = membranes(like), kept_by(kernel, like)
    given = tuple(torch.empty_like(like, dtype=like.dtype if name == SPIKES else wide) for name in kernel.after)
    written = tuple(torch.empty_like(like, dtype=held) for _ in kernel.written) if keeps else ()
    total = keeps and len(currents) > 1 and CURRENT in kernel.held
    summed = torch.empty_like(like, dtype=held) if total else like
    packs = packs or (keeps and held != wide and kernel.reads_spikes)
    named = dict(zip(kernel.uniform, uniforms, strict=True))
    bits = _bits_of(like) if packs else like.new_empty(0, dtype=torch.uint8)
    terms = tuple(_nearest(each, like) for each in currents)
    text = source.step(kernel, terms, by_channel(named), name_of(like), keeps, total, packs)
    laid = [laid_as(v, like) if term is None else laid_out(v, like) for v, term in zip(currents, terms, strict=True)]
    places = [*laid, *(laid_as(v, like) for v in states), *uniforms, *given, *written]
    grid_of(like).run(text, *places, *([summed] if total else []), *([bits] if packs else []))
    return Step(given, written, summed, bits, held)


def _nearest(current: Tensor, like: Tensor) -> Nearest | None:
    """How a current is read whose map is smaller."""
    if current.shape == like.shape:
        return None
    (h, w), (rows, columns) = current.shape[-2:], like.shape[-2:]
    return Nearest(h, w, rows // h, columns // w, not like.is_contiguous())


def step_backward(
    kernel: Kernel,
    given: tuple[bool, ...],
    held: Sequence[Tensor],
    arrived: Sequence[Tensor],
    uniforms: Mapping[str, Tensor],
    current: torch.dtype,
    wide: torch.dtype,
    bits: Tensor | None,
) -> dict[str, Tensor]:
    """The gradients of current, states and uniform values from those that `arrived`.

    `current` and `wide` are the types of current and states. The spikes are there as `bits` where values in `held` are
    rounded.
    """
    code = kernel.gradients(given, rounded=bits is not None)
    like = dense((*held, *arrived)[0])
    grid = grid_of(like)
    channels = by_channel({key: uniforms[key] for key in kernel.uniform})
    found: dict[str, Tensor] = {}
    for key, _ in code.results:
        if key in uniforms:
            found[key] = summands(like, grid, key in channels)
        else:
            found[key] = torch.empty_like(like, dtype=current if key == CURRENT else wide)
    text = source.step_backward(kernel, given, channels, name_of(like), bits is not None)
    places = [*(laid_as(v, like) for v in (*held, *arrived)), *(uniforms[key] for key in code.uniform)]
    if bits is not None and code.spiked:
        places.append(bits)
    grid.run(text, *places, *found.values())
    return {key: summed_up(value, uniforms[key]) if key in uniforms else value for key, value in found.items()}


def summands(like: Tensor, grid: Grid, channel: bool) -> Tensor:
    """Memory for what a kernel adds up for a uniform value: a sum a program, or by channel one value an element."""
    wide = arithmetic(like.dtype)
    return torch.empty_like(like, dtype=wide) if channel else like.new_empty(grid.programs, dtype=wide)


def summed_up(parts: Tensor, uniform: Tensor) -> Tensor:
    """The gradient of a uniform value from its `summands`."""
    if not uniform.dim():
        return parts.sum().to(uniform.dtype)
    return parts.sum([0, *range(2, parts.dim())]).view(uniform.shape).to(uniform.dtype)


def order_of(like: Tensor) -> torch.memory_format:
    """The memory order of a tensor without gaps."""
    return torch.contiguous_format if like.is_contiguous() else torch.channels_last


def laid_out(x: Tensor, like: Tensor) -> Tensor:
    """`x` in the memory order of `like`, of another size."""
    return x.contiguous(memory_format=order_of(like))

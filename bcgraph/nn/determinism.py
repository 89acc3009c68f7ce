"""What makes results reproducible: generators that are seeded by keys, and settings of a GPU's kernels."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor

from bcgraph.process import GENERATORS, Setting


def _attribute(of: Any, name: str) -> Setting[Any]:
    return Setting(partial(getattr, of, name), partial(setattr, of, name))


_DETERMINISTIC = _attribute(torch.backends.cudnn, "deterministic")
_BENCHMARK = _attribute(torch.backends.cudnn, "benchmark")
# torch's own annotations of this module leave `conv` out.
_CONVOLUTIONS = _attribute(torch.backends.cudnn.conv, "fp32_precision")  # type: ignore[attr-defined]
_PRODUCTS = _attribute(torch.backends.cuda.matmul, "fp32_precision")


@contextmanager
def reproducible() -> Iterator[None]:
    """Inside, cuDNN uses deterministic algorithms and does not benchmark which of them is the fastest.

    It changes nothing on the CPU, and restores the settings once no other thread is inside.
    """
    with _DETERMINISTIC.set(True), _BENCHMARK.set(False):
        yield


@contextmanager
def full_precision() -> Iterator[None]:
    """As `reproducible`, and float32 keeps all its bits: TF32, which rounds to 10 bits, is off.

    torch uses TF32 for convolutions on a GPU. That is enough for training, but not for a ranking by scores.
    """
    with reproducible(), _CONVOLUTIONS.set("ieee"), _PRODUCTS.set("ieee"):
        yield


@contextmanager
def seeded(key: int, device: torch.device) -> Iterator[None]:
    """Inside, what is drawn on the CPU and on `device` follows from `key` alone.

    Other threads that draw within such a block wait.
    """
    with GENERATORS:
        _seed(key, device)
        yield


def _seed(key: int, device: torch.device) -> None:
    """Seed the generators of the CPU and of `device`, to what `torch.manual_seed` would.

    That seeds every kind of device that torch knows. For each that was never used it writes down where it was called
    from, which takes a millisecond, in every train step.
    """
    if device.type not in ("cpu", "cuda"):
        torch.manual_seed(key)
        return
    torch.default_generator.manual_seed(key)
    if device.type == "cuda":
        torch.cuda.manual_seed_all(key)


@contextmanager
def forked(key: int) -> Iterator[None]:
    """As `seeded`, on the CPU alone. Restores its generator on exit."""
    with GENERATORS, torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(key)
        yield


def generators_kept() -> AbstractContextManager[None]:
    """On exit all generators are as they were, in whatever order the blocks of several threads end."""
    return _STATES.kept()


def _read() -> list[Tensor]:
    return [torch.get_rng_state(), *(torch.cuda.get_rng_state_all() if torch.cuda.is_available() else ())]


def _write(states: list[Tensor]) -> None:
    torch.set_rng_state(states[0])
    if len(states) > 1:
        torch.cuda.set_rng_state_all(states[1:])


_STATES = Setting(_read, _write, GENERATORS)

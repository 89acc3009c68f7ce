"""What holds for every test."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

LONG = ("test_readme.py", "test_devices.py", "test_ways.py", "test_gains.py", "test_kill.py", "test_backbones.py")
"""Files that take about a minute and more. They come first: a file runs in one process, which would be the last."""

# Without a GPU Triton's interpreter runs the kernels. Triton looks at this when it is first imported.
if not Path("/dev/nvidiactl").exists():
    os.environ.setdefault("TRITON_INTERPRET", "1")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--nightly", action="store_true", help="run the tests that are marked `nightly`, and no others")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Keep the bytecode of tests, also where Python is told to write none: to compile them is a third of collecting."""
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, False
    try:
        yield
    finally:
        sys.dont_write_bytecode = before


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put long files first, in this order; choose the tests of the night or those of the day."""
    night = bool(config.getoption("--nightly"))
    left_out = [item for item in items if (item.get_closest_marker("nightly") is not None) != night]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in set(left_out)]
    items.sort(key=lambda item: LONG.index(item.path.name) if item.path.name in LONG else len(LONG))


def _global_state() -> dict[str, Any]:
    """What a test of this process shares with the next: float32 sums depend on all of it."""
    torch = sys.modules.get("torch")
    # Before its first import all is as torch has it; a module in the middle of its import has no such functions yet.
    if not hasattr(torch, "is_deterministic_algorithms_warn_only_enabled"):
        return {}
    return {
        "the number of threads": torch.get_num_threads(),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS"),
        "the default type": torch.get_default_dtype(),
        "the default device": torch.get_default_device(),
        "grad mode": torch.is_grad_enabled(),
        "deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
        "oneDNN": torch.backends.mkldnn.enabled,
        "cuDNN": (torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark),
        "the precision of products": torch.get_float32_matmul_precision(),
        "denormal numbers": bool(torch.full((1,), 1e-40).mul(1.0) != 0),
    }


@pytest.fixture(autouse=True)
def _leaves_no_global_state() -> Iterator[None]:
    before = _global_state()
    yield
    after = _global_state()
    changed = [f"{what}: {was}, now {after[what]}" for what, was in before.items() if after[what] != was]
    assert not changed, f"the test leaves changed: {'; '.join(changed)}"

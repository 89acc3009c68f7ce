"""torch's global defaults and modes do not reach training, and one process on the CPU loads no Fabric."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from bcgraph import data, weights
from bcgraph.search.supernet.checkpoint import STATE
from bcgraph.search.supernet.supernet import Supernet
from bcgraph.training import train
from tests.search.test_supernet import spec as supernet_spec
from tests.training.nets import tiny
from tests.training.test_train import small


@contextmanager
def float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@contextmanager
def meta() -> Iterator[None]:
    torch.set_default_device("meta")
    yield
    torch.set_default_device(None)


SET: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "float64": float64,
    "a device on which nothing is computed": meta,
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
}


@pytest.fixture(params=SET)
def defaults(request: pytest.FixtureRequest) -> Iterator[None]:
    """What a user may have set, or may be in."""
    with SET[request.param]():
        yield


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("expected")
    train(small(1), out=out / "run")
    supernet(out)
    return out


def modes() -> tuple[object, ...]:
    grad = torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.is_autocast_enabled("cpu")
    return torch.get_default_dtype(), torch.get_default_device(), *grad


def supernet(out: Path) -> None:
    spec = supernet_spec(1)
    split = data.load(spec.data, spec.input, spec.steps).train.subset(range(80))
    Supernet(spec, 7, split).train(out, lambda _: None)


@pytest.mark.usefixtures("defaults")
def test_training_does_not_see_them(expected: Path, tmp_path: Path) -> None:
    before = modes()
    train(small(1), out=tmp_path / "run")
    assert modes() == before
    for name in ("last.safetensors", "state.safetensors"):
        found, other = (weights.unpack(folder / "run" / name)[0] for folder in (tmp_path, expected))
        assert found.keys() == other.keys()
        for key, value in other.items():
            assert found[key].dtype == value.dtype, key
            assert bool((found[key] == value).all()), key


# A search has left inference mode before it makes a supernet.
@pytest.mark.parametrize("defaults", [name for name in SET if name != "inference_mode"], indirect=True)
@pytest.mark.usefixtures("defaults")
def test_a_supernet_does_not_see_them(expected: Path, tmp_path: Path) -> None:
    before = modes()
    supernet(tmp_path)
    assert modes() == before
    assert (tmp_path / STATE).read_bytes() == (expected / STATE).read_bytes()


def test_one_process_on_the_cpu_loads_no_fabric(tmp_path: Path) -> None:
    (tmp_path / "net.bcg").write_text(tiny(width=2, batch=300, epochs=1))
    program = (
        "import sys; from bcgraph.cli.main import main\n"
        "try: main()\n"
        "finally: assert not any(name.startswith('lightning') for name in sys.modules)"
    )
    for command in (["train", "net.bcg", "--out", "run"], ["eval", "run"]):
        ran = subprocess.run([sys.executable, "-c", program, *command], cwd=tmp_path, capture_output=True, text=True)
        assert ran.returncode == 0, ran.stderr

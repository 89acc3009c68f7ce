"""Commands whose memory runs out: a message, nothing recorded, and the same command resumes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bcgraph.errors import RunError
from bcgraph.memory import exhausted, ran_out

NET = """bcg 1
network net {
  input    = image(1, 8, 8)
  steps    = 4
  backbone = tiny(width=%d)
}
data = digits(batch=600)
search {
  max_backward = 1
  init { pool = 6; keep = 3; scores = [n]; batch = 400 }
  evolve { score = n; iterations = 1; population = 2; top = 2; offspring = 1 }
}
train { epochs = 1 }
"""

# Address space is limited once everything is loaded and the threads are there, so that what fails is an allocation.
LIMITED = """
import re, resource, sys
import torch, bcgraph.search.evaluators, bcgraph.training.loop, bcgraph.viz.report, bcgraph.artifacts
from bcgraph.cli.main import main
torch.ones(1000, 1000) @ torch.ones(1000, 1000)
used = int(re.search(r"VmSize:\\s+(\\d+)", open("/proc/self/status").read())[1]) * 1024
resource.setrlimit(resource.RLIMIT_AS, (used + %d * 2**20,) * 2)
sys.argv = ["bcgraph", *sys.argv[1:]]
main()
"""


def limited(folder: Path, megabytes: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    code = LIMITED % megabytes
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=folder, capture_output=True, text=True, check=False
    )


@pytest.mark.skipif(sys.platform != "linux", reason="limits of address space are Linux's")
@pytest.mark.slow
@pytest.mark.parametrize("arguments", [("train", "net.bcg", "--out", "run"), ("search", "net.bcg", "--out", "run")])
def test_a_command_that_runs_out_of_memory_says_so(arguments: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "net.bcg").write_text(NET % 256)
    done = limited(tmp_path, 150, *arguments)
    assert done.returncode == 1, done.stderr[-2000:]
    assert "error[E094]: memory has run out" in done.stderr
    assert "Traceback" not in done.stderr
    log = tmp_path / "run/log.jsonl"
    entries = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    assert not any(entry.get("reasons") for entry in entries)


@pytest.mark.parametrize(
    ("error", "memory"),
    [
        (MemoryError(), True),
        (RuntimeError("std::bad_alloc"), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:125] . DefaultCPUAllocator: can't allocate memory: ..."), True),
        (OSError(12, "Cannot allocate memory"), True),
        (RuntimeError("could not create a primitive"), True),
        (RuntimeError("could not create a primitive descriptor for a convolution"), False),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (OSError(5, "Input/output error"), False),
        (ImportError("libgomp.so: failed to map segment from shared object"), True),
        (ImportError("No module named nothing"), False),
        (ValueError("out of memory"), False),
    ],
    ids=str,
)
def test_failed_allocations_are_told_from_other_errors(error: Exception, memory: bool) -> None:
    assert ran_out(error) is memory
    wrapped = KeyError("wrapped")
    wrapped.__cause__ = error
    assert ran_out(wrapped) is memory
    assert isinstance(exhausted(error), RunError)


@pytest.mark.parametrize(
    "said", ["error return without exception set", "<built-in method apply> returned NULL without setting an exception"]
)
def test_code_that_fails_without_a_word_has_run_out_where_memory_is_limited(
    said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for limited in (True, False):
        monkeypatch.setattr("bcgraph.memory._limited", lambda limited=limited: limited)
        assert ran_out(SystemError(said)) is limited
        assert not ran_out(SystemError("bad argument to internal function"))


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (
            "DefaultCPUAllocator: can't allocate memory: you tried to allocate 7744352004 bytes.",
            "7.21 GiB",
        ),
        ("CUDA out of memory. Tried to allocate 1.50 GiB. GPU 0 has a total capacity of ...", "1.5 GiB"),
        ("Unable to allocate 14.4 GiB for an array with shape (1, 1, 44001, 44001)", "14.4 GiB"),
        ("Unable to allocate 120. bytes for an array", "120 bytes"),
    ],
)
def test_the_message_says_how_much_was_asked_for(said: str, message: str) -> None:
    assert (
        exhausted(MemoryError(said)).diagnostics[0].message
        == f"memory has run out: there is no room for {message} more"
    )
    assert exhausted(MemoryError("std::bad_alloc")).diagnostics[0].message == "memory has run out"


@pytest.mark.skipif(sys.platform != "linux", reason="limits of address space are Linux's")
@pytest.mark.slow
def test_weights_for_which_there_is_no_room(tmp_path: Path) -> None:
    """The library that reads and writes them would abort, or wait for ever."""
    program = """
import re, resource, sys, torch
from pathlib import Path
from bcgraph import weights
values = {"w": torch.zeros(64, 2**20)}
path = Path(sys.argv[1]) / "w.safetensors"
path.write_bytes(weights.pack(values, {}))
used = int(re.search(r"VmSize:\\s+(\\d+)", open("/proc/self/status").read())[1]) * 1024
for action, megabytes in ((lambda: weights.pack(values, {}), 200), (lambda: weights.unpack(path), 400)):
    resource.setrlimit(resource.RLIMIT_AS, (used + megabytes * 2**20, resource.RLIM_INFINITY))
    try:
        action()
    except MemoryError:
        print("no room")
"""
    command = [sys.executable, "-c", program, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "no room\nno room\n"


ABORTS = """
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, (2**36, resource.RLIM_INFINITY))
sys.path.insert(0, ".")
from bcgraph.cli.main import main
sys.argv = ["bcgraph", "score", "net.bcg"]
main()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits of address space are Linux's")
def test_a_torch_that_aborts_while_it_is_loaded_is_a_message(tmp_path: Path) -> None:
    """As it does where its libraries fit the address space, and what they allocate first does not."""
    (tmp_path / "net.bcg").write_text(NET % 2)
    (tmp_path / "torch.py").write_text("import os; os.abort()\n")
    for text, code in ((ABORTS, 1), (ABORTS.replace("resource.setrlimit", "print"), -6)):
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path[1:]])}
        done = subprocess.run(
            [sys.executable, "-c", text], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == code, done.stderr[-2000:]
        assert ("error[E094]: memory has run out" in done.stderr) == (code == 1)
        assert "Traceback" not in done.stderr

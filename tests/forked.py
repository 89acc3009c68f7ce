"""Processes that begin with torch and bcgraph imported: forks of a server that has imported them once.

A test of a command, or of killing and resuming one, needs a process. It does not need the seconds of processor time in
which a new interpreter imports torch. `run` and `Popen` here take what those of `subprocess` take, for commands that
begin with `sys.executable`. What they start is a process like any other, with a process id, signals, files, a working
directory and an environment of its own.

A fork ends when its threads have ended, its exit handlers have run and what it printed is written. It does not take its
modules apart as an interpreter does then: that would copy all of the server's memory, for half a second.

Use `subprocess` where a test is about what a command imports, about variables that libraries read when they are loaded,
about the seed of hashes, about memory, about the last moments of an interpreter, or about the children of a process (a
fork is a child of the server).
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import resource
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import IO, Any

ROOT = Path(__file__).parent.parent
SOCKET = "BCGRAPH_FORK_SERVER"
"""The variable with the path of the server's socket, for `bcgraph` in a shell."""

LAUNCHER = "bcgraph.training.distributed.launcher"
PRELOADED = (
    "torch",
    "torch._dynamo",
    "onnx",
    "onnxruntime",
    "optuna",
    "safetensors.torch",
    "bcgraph.compiler.driver",
    "bcgraph.compiler.targets.export",
    "bcgraph.training.loop",
    LAUNCHER,
    "bcgraph.search.driver",
    "bcgraph.search.scores",
    "bcgraph.viz.report",
    "bcgraph.cli.main",
    # What commands import when they are called.
    "bcgraph.compiler.targets.c.file",
    "bcgraph.compiler.targets.onnx.file",
    "bcgraph.cli.commands.compile",
    "bcgraph.cli.commands.run",
    "bcgraph.cli.commands.search",
    "bcgraph.cli.commands.train",
    "bcgraph.data.catalog",
    "bcgraph.data.readers.digits",
    "filelock",
    "onnx_ir.passes.common",
    "rich.progress",
)
ALONE = ("numpy", "torch", "torch.export.pt2_archive")
"""What the server has imported whose forks know nothing of bcgraph."""

NETWORK = """bcg 1

network net {
  input    = image(1, 8, 8)
  steps    = 2
  backbone = tiny(width=8, classes=10)

  backward layer2.0.lif2 -> lif1
}

data = digits(batch=64)
train { epochs = 1 }
search { evolve { iterations = 1 } }
"""


class Popen:
    """As `subprocess.Popen`, of which it has what the tests use."""

    def __init__(
        self,
        command: Sequence[str | os.PathLike[str]],
        *,
        cwd: str | os.PathLike[str] | None = None,
        env: Mapping[str, str] | None = None,
        stdin: int | IO[Any] | None = None,
        stdout: int | IO[Any] | None = None,
        stderr: int | IO[Any] | None = None,
        text: bool = False,
        pass_fds: Sequence[int] = (),
        limit_file_size: int | None = None,
        server: str | None = None,
    ) -> None:
        self.args = [os.fspath(part) for part in command]
        assert self.args[0] == sys.executable, "a fork runs the interpreter of its server"
        self.returncode: int | None = None
        theirs: list[int] = []
        opened: list[int] = []
        self.stdout: IO[Any] | None = None
        self.stderr: IO[Any] | None = None
        for number, given in enumerate((stdin, stdout, stderr)):
            if given is None:
                theirs.append(number)
            elif given == subprocess.DEVNULL:
                opened.append(os.open(os.devnull, os.O_RDWR))
                theirs.append(opened[-1])
            elif given == subprocess.STDOUT:
                theirs.append(theirs[1])
            elif given == subprocess.PIPE:
                ours, end = os.pipe()
                opened.append(end)
                theirs.append(end)
                setattr(self, ("stdin", "stdout", "stderr")[number], os.fdopen(ours, "r" if text else "rb"))
            else:
                theirs.append(given if isinstance(given, int) else given.fileno())
        asked = {
            "arguments": self.args[1:],
            "cwd": os.fspath(cwd or Path.cwd()),
            "environment": dict(os.environ if env is None else env),
            "handles": [0, 1, 2, *pass_fds],
            "limit_file_size": limit_file_size,
        }
        self._connection = _ask(server or _server(), asked, [*theirs, *pass_fds])
        for end in opened:
            os.close(end)
        self.pid = _answer(self._connection)

    def poll(self) -> int | None:
        with suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            if not select.select([self._connection], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
            self.returncode = _answer(self._connection)
            self._connection.close()
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[Any, Any]:
        """What it prints to its pipes until it ends. It prints less than a pipe holds to the first of two."""
        out, err = (stream.read() if stream else None for stream in (self.stdout, self.stderr))
        self.wait(timeout)
        return out, err

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def run(
    command: Sequence[str | os.PathLike[str]],
    *,
    cwd: str | os.PathLike[str] | None = None,
    env: Mapping[str, str] | None = None,
    stdin: bytes = b"",
    text: bool = False,
    timeout: float = 300,
    check: bool = False,
    limit_file_size: int | None = None,
    alone: bool = False,
) -> subprocess.CompletedProcess[Any]:
    """As `subprocess.run` with `capture_output`. In a process that is `alone` torch is imported, but not bcgraph.

    Past `limit_file_size` bytes a write fails: Python ignores SIGXFSZ, so with an OSError, as on a full disk.
    """
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        given.write(stdin)
        given.seek(0)
        process = Popen(
            command,
            cwd=cwd,
            env=env,
            stdin=given,
            stdout=out,
            stderr=err,
            limit_file_size=limit_file_size,
            server=_server(alone=True) if alone else None,
        )
        try:
            process.wait(timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        printed: list[Any] = []
        for stream in (out, err):
            stream.seek(0)
            printed.append(stream.read().decode() if text else stream.read())
    done = subprocess.CompletedProcess(process.args, process.returncode, *printed)
    if check:
        done.check_returncode()
    return done


def program(folder: Path) -> dict[str, str]:
    """Put the command `bcgraph` into `folder`; the environment in which a shell finds it."""
    path = folder / "bcgraph"
    path.write_text(f'#!/bin/sh\nexec {sys.executable} -I -S {__file__} "$@"\n')
    path.chmod(0o755)
    return {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}", SOCKET: _server()}


@contextmanager
def launched() -> Iterator[None]:
    """Within it the processes that share a training run, or a supernet, are forks too."""
    launcher = import_module(LAUNCHER)
    before = launcher.subprocess
    launcher.subprocess = _forking(None)  # type: ignore[attr-defined]
    try:
        yield
    finally:
        launcher.subprocess = before  # type: ignore[attr-defined]


def _forking(server: str | None) -> SimpleNamespace:
    """What a launcher needs of `subprocess`."""
    return SimpleNamespace(Popen=partial(Popen, server=server), DEVNULL=subprocess.DEVNULL)


@cache
def _server(*, alone: bool = False) -> str:
    """The path of the socket of this process's server, which ends with this process."""
    folder = tempfile.TemporaryDirectory(prefix="forks-")
    path = str(Path(folder.name) / "socket")
    server = subprocess.Popen(
        [sys.executable, __file__, path, *(["alone"] if alone else [])],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert server.stdin is not None
    assert server.stdout is not None

    def end() -> None:
        server.stdin.close()
        server.wait(60)
        folder.cleanup()

    atexit.register(end)
    assert server.stdout.readline() == b"ready\n"
    return path


def _ask(path: str, asked: Mapping[str, Any], handles: Sequence[int]) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    connection.connect(path)
    socket.send_fds(connection, [json.dumps(asked).encode()], handles)
    return connection


def _answer(connection: socket.socket) -> int:
    answer = connection.recv(64)
    assert answer, "the server of forks has ended"
    return int(answer)


def _serve(path: str) -> list[str]:
    """Fork for each connection, and tell it the process id, then how the process ended.

    Returns in the forks alone, with the arguments that each is to run.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(path)
    listener.listen(64)
    running: dict[int, tuple[int, socket.socket]] = {}
    print("ready", flush=True)
    while True:
        ready, _, _ = select.select([0, listener, *running], [], [])
        for handle in ready:
            if handle == 0:
                for pid, _ in running.values():
                    os.kill(pid, signal.SIGKILL)
                os._exit(0)
            elif handle is listener:
                connection, _ = listener.accept()
                message, handles, _, _ = socket.recv_fds(connection, 1 << 20, 64)
                asked = json.loads(message)
                pid = os.fork()
                if pid == 0:
                    for other in (listener, connection, *(each for _, each in running.values())):
                        other.close()
                    for each in running:
                        os.close(each)
                    _become(asked, handles)
                    return asked["arguments"]
                for each in handles:
                    os.close(each)
                with suppress(OSError):
                    connection.send(str(pid).encode())
                running[os.pidfd_open(pid)] = (pid, connection)
            else:
                pid, connection = running.pop(handle)
                os.close(handle)
                code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                # Whoever asked may have ended.
                with suppress(OSError):
                    connection.send(str(code).encode())
                connection.close()


def _become(asked: Mapping[str, Any], handles: Sequence[int]) -> None:
    """Take the files, the folder and the environment that were asked for."""
    # A handle may have the number of another's place, so all are moved out of the way first.
    beyond = max(*asked["handles"], *handles) + 1
    moved = [os.dup2(handle, beyond + n, inheritable=False) for n, handle in enumerate(handles)]
    for handle in handles:
        os.close(handle)
    for handle, place in zip(moved, asked["handles"], strict=True):
        os.dup2(handle, place)
        os.close(handle)
    if asked["limit_file_size"] is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (asked["limit_file_size"],) * 2)
    os.chdir(asked["cwd"])
    os.environ.clear()
    os.environ.update(asked["environment"])
    if (threads := os.environ.get("OMP_NUM_THREADS")) is not None:
        # The variable is read when torch is loaded.
        import_module("torch").set_num_threads(int(threads))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.stdin = os.fdopen(0, closefd=False)
    sys.stdout = os.fdopen(1, "w", closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, errors="backslashreplace", closefd=False)
    paths = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    sys.path[:0] = [path for path in paths if path not in sys.path]


def _run(arguments: list[str]) -> None:
    """What an interpreter does with its arguments."""
    kind, *rest = arguments
    if kind == "-m":
        sys.argv, sys.path[:0] = rest, [str(Path.cwd())]
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    elif kind == "-c":
        sys.argv, sys.path[:0] = ["-c", *rest[1:]], [""]
        sys.modules["__main__"] = ModuleType("__main__")
        exec(compile(rest[0], "<string>", "exec", dont_inherit=True), sys.modules["__main__"].__dict__)
    else:
        sys.argv, sys.path[:0] = arguments, [str(Path(kind).parent)]
        runpy.run_path(kind, run_name="__main__")


def _shell(arguments: list[str]) -> None:
    """The command `bcgraph` of a shell: run it as a fork with this process's files, and end as it ends."""
    asked = {
        "arguments": ["-m", "bcgraph", *arguments],
        "cwd": str(Path.cwd()),
        "environment": dict(os.environ),
        "handles": [0, 1, 2],
        "limit_file_size": None,
    }
    with _ask(os.environ[SOCKET], asked, [0, 1, 2]) as connection:
        _answer(connection)
        os._exit(_answer(connection) & 0xFF)


def _run_to_the_end(arguments: list[str], ending: _Ending) -> None:
    try:
        _run(arguments)
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            ending.code = end.code or 0
        raise
    ending.code = 0


class _Ending:
    """Ends a fork after all exit handlers, with the code that it has come to by then."""

    def __init__(self) -> None:
        self.code: int | None = None
        # Handlers run in the opposite order, so this one has to be there before those of libraries.
        atexit.register(self)

    def __call__(self) -> None:
        # The interpreter prints an exception that has not been caught, and says what could not be written.
        if self.code is None:
            return
        try:
            gc.collect()
            sys.stdout.flush()
            sys.stderr.flush()
        except (OSError, ValueError):
            return
        os._exit(self.code & 0xFF)


def _main(path: str, *, alone: bool) -> None:
    ending = _Ending()
    # This folder, which a script finds its modules in.
    del sys.path[0]
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if alone:
        for name in ALONE:
            import_module(name)
    else:
        _prepare(path)
    gc.collect()
    gc.freeze()
    _run_to_the_end(_serve(path), ending)


def _prepare(path: str) -> None:
    import_module("bcgraph.cli.main").prepare_libraries()
    for name in PRELOADED:
        import_module(name)
    _warm()
    # Commands that start processes get forks too.
    import_module(LAUNCHER).subprocess = _forking(path)  # type: ignore[attr-defined]


def _warm() -> None:
    """Read a network, for which the grammar, the library and the checks of values are built once."""
    import_module("bcgraph").parse(NETWORK)
    # Plugins are looked for once in a process: a fork may have others on its path.
    plugins = import_module("bcgraph.plugins")
    plugins.REGISTRY.loaded.clear()


if __name__ == "__main__":
    if SOCKET in os.environ:
        _shell(sys.argv[1:])
    else:
        _main(sys.argv[1], alone="alone" in sys.argv[2:])

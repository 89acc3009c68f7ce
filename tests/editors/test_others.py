"""Neovim, Emacs and Helix with the files of `editors/`: each starts the server and shows what it finds."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import shutil
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

from tests import needs

EDITORS = Path(__file__).parent.parent.parent / "editors"
TEXT = """\
bcg 1

network net {
  input    = image(3, 32, 32)
  steps    = 4
  backbone = tiny(width=16, clases=10)
}
"""
FOUND = "`tiny` has no argument `clases`"
SECONDS = 20
pytestmark = pytest.mark.slow


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file with one mistake, alone in its folder."""
    made = tmp_path / "work" / "net.bcg"
    made.parent.mkdir()
    made.write_text(TEXT)
    return made


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Nobody's own settings, and the `bcgraph` of this environment first on the path."""
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "bcgraph").write_text(f'#!/bin/sh\nexec {sys.executable} -m bcgraph "$@"\n')
    (programs / "bcgraph").chmod(0o755)
    homes = {name: str(tmp_path / name) for name in ("HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_STATE_HOME")}
    return {**os.environ, **homes, "PATH": f"{programs}:{os.environ['PATH']}", "TERM": "xterm-256color"}


def said(command: list[str | Path], environment: dict[str, str]) -> str:
    done = subprocess.run(
        command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=2 * SECONDS
    )
    return done.stdout + done.stderr


def test_neovim(file: Path, environment: dict[str, str], tmp_path: Path) -> None:
    program = needs.optional("nvim")
    version = re.search(r"NVIM v(\d+)\.(\d+)", said([program, "--version"], environment))
    if version is None or (int(version[1]), int(version[2])) < (0, 11):
        pytest.skip("this Neovim is older than 0.11")
    script = tmp_path / "script.lua"
    script.write_text(f"""\
local function found() return vim.diagnostic.get(0) end
vim.wait({1000 * SECONDS}, function() return #found() > 0 end, 100)
for _, each in ipairs(found()) do print(each.code, each.lnum, each.col, each.message) end
vim.wait({1000 * SECONDS}, function() return #(vim.lsp.semantic_tokens.get_at_pos(0, 5, 14) or {{}}) > 0 end, 100)
for _, each in ipairs(vim.lsp.semantic_tokens.get_at_pos(0, 5, 14) or {{}}) do print("token", each.type) end
""")
    settings = EDITORS / "neovim" / "bcgraph.lua"
    answer = said(
        [program, "--headless", "--clean", "-u", settings, file, "-c", f"luafile {script}", "-c", "qa!"], environment
    )
    assert f"E042 5 28 {FOUND}" in answer
    assert "token function" in answer


def test_emacs(file: Path, environment: dict[str, str], tmp_path: Path) -> None:
    program = needs.optional("emacs")
    if "no eglot" in said(
        [program, "-Q", "--batch", "--eval", '(unless (locate-library "eglot") (message "no eglot"))'], environment
    ):
        pytest.skip("this Emacs has no eglot")
    script = tmp_path / "script.el"
    script.write_text(f"""\
(require 'bcgraph-mode)
(require 'flymake)
(setq eglot-sync-connect {SECONDS})
(find-file "{file}")
(font-lock-ensure)
(message "face %s" (progn (search-forward "network") (get-text-property (match-beginning 0) 'face)))
(run-hooks 'post-command-hook)
(let ((end (+ (float-time) {SECONDS})))
  (while (and (< (float-time) end) (not (flymake-diagnostics)))
    (accept-process-output nil 0.1)
    (flymake-start)))
(message "%s" (mapcar #'flymake-diagnostic-text (flymake-diagnostics)))
""")
    answer = said([program, "-Q", "--batch", "-L", EDITORS / "emacs", "-l", script], environment)
    assert "face font-lock-keyword-face" in answer
    assert FOUND in answer


def test_helix(file: Path, environment: dict[str, str], tmp_path: Path) -> None:
    program = needs.optional("hx")
    settings = Path(environment["XDG_CONFIG_HOME"]) / "helix" / "languages.toml"
    settings.parent.mkdir(parents=True)
    shutil.copy(EDITORS / "helix" / "languages.toml", settings)
    # Helix shows a mistake below the line of the cursor.
    running, terminal = pty.fork()
    if running == 0:
        os.execve(program, [str(program), f"{file}:6:29"], environment)
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    shown = b""
    end = time.monotonic() + SECONDS
    try:
        while FOUND not in plain(shown) and time.monotonic() < end:
            if select.select([terminal], [], [], 0.2)[0]:
                shown += os.read(terminal, 65536)
    finally:
        os.kill(running, signal.SIGKILL)
        os.waitpid(running, 0)
        os.close(terminal)
    assert FOUND in plain(shown)


def plain(shown: bytes) -> str:
    """What was written to a terminal, without its codes for colors and places."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode(errors="replace"))

"""The pages of the documentation, and the blocks of code in them, as a Markdown parser reads them.

A block of ```bcg``` behind a line that ends in a file name in backquotes and a colon is that file. In a block of
```console``` a line with `$ ` is a command, and what follows is its output; `...` stands for any text. A block that no
test runs has a line `<!-- not run: why -->` before it.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from markdown_it import MarkdownIt

ROOT = Path(__file__).parent.parent
FOLDERS = ("docs", "editors", "editors/vscode")
PAGES = ("README.md", *sorted(str(path.relative_to(ROOT)) for each in FOLDERS for path in (ROOT / each).glob("*.md")))
"""Paths from the root."""

_MARK = re.compile(r"<!-- not run: .+ -->\s*")
_FILE = re.compile(r"`([\w./-]+\.\w+)`:$")

# Lines of progress, of which there are as many as there are epochs, or as the machine is slow.
_PROGRESS = re.compile(r"^[a-z][\w ]*: (?:epoch )?\d+/\d+.*\n", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A block of code: the word behind its fence ("" where it has none), its text, and the file that it is."""

    page: str
    line: int
    kind: str
    text: str
    file: str = ""
    marked: bool = False

    @property
    def commands(self) -> list[tuple[str, str]]:
        """Each command of a console with what it prints."""
        parts = re.split(r"^\$ ", self.text, flags=re.MULTILINE)
        assert parts[0] == "", f"{self}: a console block begins with a command"
        split = (part.replace("\\\n", " ").partition("\n") for part in parts[1:])
        return [(command, output.rstrip("\n")) for command, _, output in split]

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


@cache
def blocks(page: str) -> tuple[Block, ...]:
    """All blocks of a page, fenced and indented."""
    return tuple(_found(page))


def _found(page: str) -> Iterator[Block]:
    marked, before = False, ""
    for token in MarkdownIt().parse((ROOT / page).read_text(encoding="utf-8")):
        match token.type:
            case "fence" | "code_block":
                assert token.map is not None
                file = _FILE.search(before)
                kind = token.info.split()[0] if token.info else ""
                yield Block(page, token.map[0] + 1, kind, token.content, file[1] if file else "", marked)
                marked, before = False, ""
            case "html_block":
                marked = _MARK.fullmatch(token.content) is not None
            case "inline":
                marked, before = False, token.content


def of_kind(page: str, *kinds: str) -> list[Block]:
    """The blocks of a page that are not marked, of these kinds."""
    return [block for block in blocks(page) if block.kind in kinds and not block.marked]


def matches(expected: str, actual: str) -> bool:
    """Whether a command has printed what a page shows, lines of progress aside."""
    pattern = ".*?".join(re.escape(piece) for piece in expected.split("..."))
    return re.fullmatch(pattern, _PROGRESS.sub("", actual).rstrip("\n"), re.DOTALL) is not None


def called(command: str, folder: Path, environment: dict[str, str]) -> tuple[int, str]:
    """The exit code of a command of a page in a shell, and what it prints."""
    done = subprocess.run(
        command,
        shell=True,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    )
    return done.returncode, done.stdout

"""What MkDocs does beside rendering pages: `make docs`.

The README is the home page. Files of the repository that pages link to are copied beside the pages. Formulas between
dollars become MathML on pages whose front matter says `math: true`. The package is laid out for mkdocstrings as it is
installed, with `compiler/` and `specs/` inside.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import latex2mathml.converter
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent
_LINK = re.compile(r"\]\((?!https?:|#)([^)\s#]+)(#[^)\s]*)?\)")
_BLOCK, _INLINE = re.compile(r"^\$\$\n?(.+?)\n?\$\$$", re.MULTILINE | re.DOTALL), re.compile(r"\$([^$\n]+)\$")


def on_startup(**_: Any) -> None:
    """Lay the package out in `build/api`, before mkdocstrings looks whether that folder is there."""
    package = ROOT / "build" / "api" / "bcgraph"
    shutil.rmtree(package.parent, ignore_errors=True)
    package.mkdir(parents=True)
    for path in (ROOT / "bcgraph").iterdir():
        if path.name != "__init__.py":
            (package / path.name).symlink_to(path)
    # Without its names, which are those of modules as well.
    (package / "__init__.py").write_text('"""bcgraph."""\n')
    for name in ("compiler", "specs"):
        (package / name).symlink_to(ROOT / name)


def on_files(files: Files, config: Any) -> Files:
    """Add the README as the home page, and what pages link to outside of `docs/`."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    files.append(File.generated(config, "index.md", content=_LINK.sub(_home, text)))
    pages = [
        (ROOT / "docs" / f.src_uri).read_text(encoding="utf-8") for f in files.documentation_pages() if f.abs_src_path
    ]
    named = {m[1] for page in [*pages, _LINK.sub(_home, text)] for m in _LINK.finditer(page) if m[1].startswith("../")}
    for name in sorted(named - {"../README.md"}):
        path = (ROOT / "docs" / name).resolve()
        if path.is_file():
            files.append(File.generated(config, _copied(name), abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Links out of `docs/` lead to the copies; formulas become MathML."""
    if page.meta.get("math"):
        markdown = _BLOCK.sub(lambda m: _math(m[1], "block"), markdown)
        markdown = _INLINE.sub(lambda m: _math(m[1], "inline"), markdown)
    return _LINK.sub(_inside, markdown)


def _math(text: str, display: str) -> str:
    return latex2mathml.converter.convert(text.replace("\n", " "), display=display)


def _copied(name: str) -> str:
    return "repository/" + name.removeprefix("../")


def _home(link: re.Match[str]) -> str:
    """A link of the README, as it is from `docs/`."""
    name, anchor = link[1], link[2] or ""
    return f"]({name.removeprefix('docs/') if name.startswith('docs/') else f'../{name}'}{anchor})"


def _inside(link: re.Match[str]) -> str:
    name, anchor = link[1], link[2] or ""
    if name == "../README.md":
        return f"](index.md{anchor})"
    if not name.startswith("../"):
        return link[0]
    path = (ROOT / "docs" / name).resolve()
    # A folder has no page; its files are listed where they are used.
    return f"]({_copied(name)}{anchor})" if path.is_file() else "](index.md)"

"""Where blocks come from: the text itself, what it imports, and the standard library in `specs/backbones`.

A text and all it imports share one namespace. Each standard backbone has a namespace of its own, so that a user's
`basic` never changes what `resnet18` means.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path

from bcgraph.dsl import syntax
from bcgraph.dsl.elaboration.evaluate import Scope
from bcgraph.dsl.elaboration.layers import LAYERS
from bcgraph.dsl.parser import parse_file
from bcgraph.dsl.source import Reporter, Source, check_text, read
from bcgraph.errors import Span, SpecError, nearest

VERSION = 1
MAX_IMPORTS = 64
_MAX_PATH = 4096

# Blank lines and comments, then the language version.
_BEGINNING = re.compile(r"(?:\s|#[^\n]*+(?:\n|\Z))*+bcg\b")


def standard_folder() -> Path:
    """The folder of the standard backbones."""
    return Path(next(iter(import_module("bcgraph.specs.backbones").__path__)))


@dataclass(slots=True, eq=False)
class Namespace:
    """The blocks that a text sees under their names."""

    standard: bool
    definitions: dict[str, Definition] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Definition:
    """A block, and where the names in it are looked up."""

    block: syntax.Block
    namespace: Namespace


@dataclass(slots=True)
class Library:
    """Finds blocks by name, and reads each file at most once."""

    reporter: Reporter
    _standard: dict[str, Namespace] = field(default_factory=dict)

    def of_text(self, file: syntax.File, path: Path | None, base: Path | None) -> Namespace:
        """The namespace of a text: its own blocks and those it imports.

        `path` is the text's own file, if it has one; `base` is the folder its imports are relative to.
        """
        namespace = Namespace(standard=False)
        chain = (path.resolve(),) if path is not None else ()
        self._collect(file, namespace, base, chain, set(chain))
        return namespace

    def find(self, name: str, namespace: Namespace) -> Definition | None:
        """The block that `name` means in `namespace`, or None."""
        return namespace.definitions.get(name) or self._from_standard(name)

    def require(self, call: syntax.Call, namespace: Namespace, scope: Scope) -> Definition:
        """The block that a call in a block means. Raises Failed once it is reported that there is none (E031)."""
        definition = self.find(call.name, namespace)
        if definition is None:
            hint = nearest(call.name, [*LAYERS, *self.known(namespace)])
            raise scope.fail("E031", f"there is no layer or block `{call.name}`", call.name_span, hint)
        return definition

    def known(self, namespace: Namespace) -> list[str]:
        """The names of all blocks that can be called from `namespace`."""
        return [*namespace.definitions, *standard_names()]

    def _from_standard(self, name: str) -> Definition | None:
        if name not in self._standard:
            namespace = Namespace(standard=True)
            path = standard_folder() / f"{name}.bcg"
            if name not in standard_names():
                return None
            self._standard[name] = namespace
            file = self._parsed(read(path, str(path)), path)
            self._collect(file, namespace, path.parent, (path.resolve(),), {path.resolve()})
        return self._standard[name].definitions.get(name)

    def _parsed(self, text: str, path: Path) -> syntax.File:
        check_text(text, str(path))
        return parse_file(Source.of(text, str(path)), self.reporter)

    def _collect(
        self,
        file: syntax.File,
        namespace: Namespace,
        base: Path | None,
        chain: tuple[Path, ...],
        seen: set[Path],
    ) -> None:
        for statement in file.statements:
            if isinstance(statement, syntax.Block):
                self._define(statement, namespace)
            elif isinstance(statement, syntax.Import):
                self._import(statement, namespace, base, chain, seen)

    def _define(self, block: syntax.Block, namespace: Namespace) -> None:
        if block.name in LAYERS or block.name == "range":
            what = "layer" if block.name in LAYERS else "word"
            message = f"`{block.name}` is a {what} of the language and cannot be a block"
            self.reporter.add("E033", message, block.name_span, "give the block another name")
            return
        earlier = namespace.definitions.get(block.name)
        if earlier is not None:
            message = f"the block `{block.name}` is defined twice"
            self.reporter.add("E033", message, block.name_span, f"the first is at {earlier.block.name_span}")
            return
        names: set[str] = set()
        for parameter in block.parameters:
            if parameter.name in names:
                message = f"`{block.name}` has two parameters `{parameter.name}`"
                self.reporter.add("E033", message, parameter.span)
            names.add(parameter.name)
        namespace.definitions[block.name] = Definition(block, namespace)

    def _import(
        self,
        statement: syntax.Import,
        namespace: Namespace,
        base: Path | None,
        chain: tuple[Path, ...],
        seen: set[Path],
    ) -> None:
        span = statement.path.span
        if isinstance(statement.path, syntax.Broken):
            return
        path = self._resolve(statement.path.value, base, span)
        if path is None:
            return
        if path in chain:
            names = " -> ".join(p.name for p in (*chain[chain.index(path) :], path))
            self.reporter.add("E023", f"imports form a cycle: {names}", span)
            return
        if path in seen:
            return
        seen.add(path)
        if len(chain) >= MAX_IMPORTS or len(seen) > 4 * MAX_IMPORTS:
            self.reporter.stop("E022", "too many files import each other", span, f"allowed: {MAX_IMPORTS} levels")
        try:
            text = read(path, str(path), span)
            if _BEGINNING.match(text) is None:
                # It may be any file, so nothing of it is shown.
                message = f'"{statement.path.value}" is not a file of this language: it does not begin with its version'
                self.reporter.add("E020", message, span, f"an imported file begins with `bcg {VERSION}`")
                return
            file = self._parsed(text, path)
        except SpecError as error:
            self.reporter.add_error(error, span)
            return
        check_header(file, str(path), self.reporter)
        for other in file.statements:
            if not isinstance(other, syntax.Header | syntax.Import | syntax.Block):
                self.reporter.add(
                    "E035",
                    "an imported file holds only blocks",
                    getattr(other, "name_span", other.span),
                    f"it is imported at {span}",
                )
                break
        self._collect(file, namespace, path.parent, (*chain, path), seen)

    def _resolve(self, written: str, base: Path | None, span: Span) -> Path | None:
        """The file that an import means: beside the importing file, else in the standard library."""
        if len(written) > _MAX_PATH:
            self.reporter.add("E022", f"a path of {len(written):,} characters is too long", span)
            return None
        places = [base] if base is not None else []
        hint = None if base is not None else "a text without a file can import only standard files"
        for folder in (*places, standard_folder()):
            try:
                path = (folder / written).resolve()
                if path.is_file():
                    return path
            except (OSError, ValueError, RuntimeError):
                continue
            near = nearest(path.name, [p.name for p in sorted(path.parent.glob("*.bcg"))[:200]])
            hint = near or hint
        self.reporter.add("E022", f'there is no file "{written}" to import', span, hint)
        return None


def standard_names() -> list[str]:
    """The names of the standard backbones, sorted: the files that define a block of their own name."""
    return sorted(p.stem for p in standard_folder().glob("*.bcg"))


def check_header(file: syntax.File, name: str, reporter: Reporter) -> None:
    """Report a missing, misplaced or unsupported language version (E020)."""
    first = file.statements[0] if file.statements else None
    if not isinstance(first, syntax.Header):
        span = Span(name, 1, 1, 1, 1) if first is None else first.span
        reporter.add("E020", "the text does not begin with the language version", span, f"write `bcg {VERSION}` first")
    for statement in file.statements:
        if isinstance(statement, syntax.Header):
            if statement is not first:
                reporter.add("E020", "the language version stands only at the beginning", statement.span)
            elif statement.version != VERSION:
                message = f"version {statement.version} of the language is not supported"
                reporter.add("E020", message, statement.span, f"this is version {VERSION}")

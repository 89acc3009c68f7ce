"""Where blocks, neurons and surrogates come from: the text itself, what it imports, and the standard library, `specs/`.

A text and all it imports share one namespace. Each file of the standard library has a namespace of its own, so that a
user's `basic` never changes what `resnet18` means.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache, lru_cache
from importlib import import_module
from pathlib import Path

from bcgraph import plugins
from bcgraph.dsl import syntax
from bcgraph.dsl.elaboration.evaluate import Scope
from bcgraph.dsl.elaboration.layers import LAYERS, Layer, registered
from bcgraph.dsl.elaboration.uses import Uses
from bcgraph.dsl.elaboration.values import registered_as
from bcgraph.dsl.parser import parse_file
from bcgraph.dsl.source import Reporter, Source, Stop, check_text, read
from bcgraph.equations.expression import FUNCTIONS
from bcgraph.errors import Span, SpecError, nearest
from bcgraph.names import DEFAULT_NEURON

VERSION = 1
MAX_IMPORTS = 64
_MAX_PATH = 4096

# Blank lines and comments, then the language version.
_BEGINNING = re.compile(r"(?:\s|#[^\n]*+(?:\n|\Z))*+bcg\b")


FOLDERS: Mapping[str, str] = {"block": "backbones", "neuron": "neurons", "surrogate": "surrogates"}
"""For each kind of definition, the folder of the standard library that holds them."""

NEURON = "neuron"
"""The layer that is the network's own neuron."""


def standard_folder(kind: str = "block") -> Path:
    """The folder of the standard backbones, or of other definitions."""
    return Path(next(iter(import_module(f"bcgraph.specs.{FOLDERS[kind]}").__path__)))


@dataclass(slots=True, eq=False)
class Namespace:
    """The blocks, neurons and surrogates that a text sees under their names."""

    standard: bool
    definitions: dict[str, Definition] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Definition:
    """A block, a neuron or a surrogate, and where the names in it are looked up."""

    text: syntax.Block | syntax.Definition
    namespace: Namespace

    @property
    def kind(self) -> str:
        """`block`, `neuron` or `surrogate`."""
        return self.text.kind if isinstance(self.text, syntax.Definition) else "block"

    @property
    def block(self) -> syntax.Block:
        """The text of a block."""
        assert isinstance(self.text, syntax.Block)
        return self.text

    @property
    def definition(self) -> syntax.Definition:
        """The text of a neuron or a surrogate."""
        assert isinstance(self.text, syntax.Definition)
        return self.text


class Files:
    """Reads and parses files that a text imports, and those of the standard library."""

    def read(self, path: Path, span: Span | None = None) -> str:
        """The text of a file; `span` is where it is imported. Raises SpecError."""
        return read(path, str(path), span)

    def parse(self, source: Source, reporter: Reporter) -> syntax.File:
        """The syntax tree of a text; what is wrong with it goes to `reporter`. Raises Stop."""
        return parse_file(source, reporter)


@lru_cache(maxsize=256)
def _faultless(text: str, name: str) -> tuple[Source, syntax.File] | None:
    """A text and its syntax tree, parsed once in a process; None where something is wrong with it."""
    reporter = Reporter()
    try:
        check_text(text, name)
        source = Source.of(text, name)
        file = parse_file(source, reporter)
    except (Stop, SpecError):
        return None
    return None if reporter else (source, file)


@dataclass(slots=True)
class Library:
    """Finds blocks by name, and reads each file at most once.

    `uses` are the plugins of the text and its imports, `own` is its namespace, `words` what `frames.words` has found.
    """

    reporter: Reporter
    files: Files = field(default_factory=Files)
    uses: Uses = field(init=False)
    own: Namespace = field(default_factory=lambda: Namespace(standard=False))
    words: dict[Definition, frozenset[str]] = field(default_factory=dict)
    _standard: dict[tuple[str, str], Namespace] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.uses = Uses(self.reporter)

    def of_text(self, file: syntax.File, path: Path | None, base: Path | None) -> Namespace:
        """The namespace of a text: its own blocks and those it imports.

        `path` is the text's own file, if it has one; `base` is the folder its imports are relative to.
        """
        namespace = self.own = Namespace(standard=False)
        chain = (path.resolve(),) if path is not None else ()
        self._collect(file, namespace, base, chain, set(chain))
        return namespace

    def find(self, name: str, namespace: Namespace) -> Definition | None:
        """The block that `name` means in `namespace`, or None."""
        return self.definition("block", name, namespace)

    def definition(self, kind: str, name: str, namespace: Namespace) -> Definition | None:
        """The definition of that kind that `name` means in `namespace`, or None."""
        own = namespace.definitions.get(name)
        if own is not None:
            return own if own.kind == kind else None
        return self._from_standard(kind, name)

    def layer(self, name: str, namespace: Namespace) -> Definition | None:
        """The block or neuron that a call in a block means, or None."""
        return self.find(name, namespace) or self.definition("neuron", name, namespace)

    def built_in(self, name: str, namespace: Namespace) -> Layer | None:
        """The layer of the language that a call in a block means, or None."""
        found = LAYERS.get(name)
        return None if found is None or (found.later and name in namespace.definitions) else found

    def registered(self, call: syntax.Call, namespace: Namespace, scope: Scope) -> Layer | None:
        """The registered layer that a call in a block means: any block or neuron of that name comes first.

        Raises Failed where the text lacks a `use` line, which is reported (E025).
        """
        named = call.name in LAYERS or call.name == NEURON or self.layer(call.name, namespace) is not None
        if named or namespace.standard:
            return None
        entry = registered_as("layer", call.name, self.uses.names, scope, call.name_span)
        return None if entry is None else registered(entry)

    def require(self, call: syntax.Call, namespace: Namespace, scope: Scope) -> Definition:
        """The block or neuron that a call in a block means. Raises Failed once it is reported that there is none."""
        definition = self.layer(call.name, namespace)
        if definition is None:
            users = [e.name for e in plugins.REGISTRY.entries() if e.kind == "layer"]
            hint = nearest(call.name, [*LAYERS, NEURON, *users, *self.known(namespace), *standard_names("neuron")])
            raise scope.fail("E031", f"there is no layer or block `{call.name}`", call.name_span, hint)
        return definition

    def known(self, namespace: Namespace) -> list[str]:
        """The names of all blocks that can be called from `namespace`."""
        return self.names("block", namespace)

    def names(self, kind: str, namespace: Namespace) -> list[str]:
        """The names of all definitions of a kind that can be called from `namespace`."""
        return [*(n for n, d in namespace.definitions.items() if d.kind == kind), *standard_names(kind)]

    def _from_standard(self, kind: str, name: str) -> Definition | None:
        if (kind, name) not in self._standard:
            namespace = Namespace(standard=True)
            path = standard_folder(kind) / f"{name}.bcg"
            if name not in standard_names(kind):
                return None
            self._standard[kind, name] = namespace
            file = self._parsed(self.files.read(path), path, standard=True)
            self._collect(file, namespace, path.parent, (path.resolve(),), {path.resolve()})
        found = self._standard[kind, name].definitions.get(name)
        return found if found is not None and found.kind == kind else None

    def _parsed(self, text: str, path: Path, *, standard: bool) -> syntax.File:
        known = _faultless(text, str(path)) if standard else None
        if known is not None:
            source, file = known
            self.reporter.sources.setdefault(source.file, source)
            return file
        check_text(text, str(path))
        return self.files.parse(Source.of(text, str(path)), self.reporter)

    def _collect(
        self,
        file: syntax.File,
        namespace: Namespace,
        base: Path | None,
        chain: tuple[Path, ...],
        seen: set[Path],
    ) -> None:
        if not namespace.standard:
            self.uses.collect(file)
        for statement in file.statements:
            if isinstance(statement, syntax.Block | syntax.Definition):
                self._define(statement, namespace)
            elif isinstance(statement, syntax.Import):
                self._import(statement, namespace, base, chain, seen)

    def _define(self, text: syntax.Block | syntax.Definition, namespace: Namespace) -> None:
        made = Definition(text, namespace)
        if made.kind not in FOLDERS:
            assert isinstance(text, syntax.Definition)
            hint = nearest(made.kind, FOLDERS) or "write `neuron name() { ... }` or `surrogate name() { ... }`"
            self.reporter.add("E032", f"`{made.kind}` defines nothing", text.kind_span, hint)
            return
        taken = self._taken(made)
        if taken is not None:
            other = "another" if taken.startswith(f"a {made.kind} ") else f"a {made.kind}"
            message = f"`{text.name}` is {taken} and cannot be {other}"
            self.reporter.add("E033", message, text.name_span, f"give the {made.kind} another name")
            return
        earlier = namespace.definitions.get(text.name)
        if earlier is not None:
            kind = made.kind if made.kind == earlier.kind else "name"
            message = f"the {kind} `{text.name}` is defined twice"
            self.reporter.add("E033", message, text.name_span, f"the first is at {earlier.text.name_span}")
            return
        names: set[str] = set()
        for parameter in text.parameters:
            if parameter.name in names:
                message = f"`{text.name}` has two parameters `{parameter.name}`"
                self.reporter.add("E033", message, parameter.span)
            names.add(parameter.name)
        namespace.definitions[text.name] = made

    def _taken(self, made: Definition) -> str | None:
        """What the name of a definition means already, where it may not mean anything else."""
        name = made.text.name
        layer = LAYERS.get(name)
        word = layer is not None and not (layer.later and made.kind == "block")
        if word or (name == DEFAULT_NEURON and not made.namespace.standard):
            return "a layer of the language"
        if name == "range":
            return "a word of the language"
        if made.kind == "block" or made.namespace.standard:
            return None
        if name == NEURON:
            return "a word of the language"
        # Blocks of older files may have names that the standard library took later; new definitions may not.
        for kind in ("neuron", "surrogate"):
            if name in standard_names(kind):
                return f"a {kind} of the standard library"
        return "a function of equations" if name in FUNCTIONS and FUNCTIONS[name].written else None

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
            text = self.files.read(path, span)
            if _BEGINNING.match(text) is None:
                # It may be any file, so nothing of it is shown.
                message = f'"{statement.path.value}" is not a file of this language: it does not begin with its version'
                self.reporter.add("E020", message, span, f"an imported file begins with `bcg {VERSION}`")
                return
            file = self._parsed(text, path, standard=namespace.standard)
        except SpecError as error:
            self.reporter.add_error(error, span)
            return
        check_header(file, str(path), self.reporter)
        for other in file.statements:
            if not isinstance(other, syntax.Header | syntax.Import | syntax.Use | syntax.Block | syntax.Definition):
                self.reporter.add(
                    "E035",
                    "an imported file holds only blocks and definitions",
                    getattr(other, "name_span", other.span),
                    f"it is imported at {span}",
                )
                break
        self._collect(file, namespace, path.parent, (*chain, path), seen)

    def find_file(self, written: str, base: Path | None) -> Path | None:
        """The file that an import means: beside the importing file, else in the standard library; None without one."""
        for folder in _folders(base):
            with contextlib.suppress(OSError, ValueError, RuntimeError):
                path = (folder / written).resolve()
                if path.is_file():
                    return path
        return None

    def _resolve(self, written: str, base: Path | None, span: Span) -> Path | None:
        """The file that an import means: beside the importing file, else in the standard library."""
        if len(written) > _MAX_PATH:
            self.reporter.add("E022", f"a path of {len(written):,} characters is too long", span)
            return None
        hint = None if base is not None else "a text without a file can import only standard files"
        found = self.find_file(written, base)
        if found is not None:
            return found
        near = None
        for folder in _folders(base):
            path = folder / written
            with contextlib.suppress(OSError, ValueError, RuntimeError):
                near = near or nearest(path.name, [p.name for p in sorted(path.resolve().parent.glob("*.bcg"))[:200]])
        hint = near or hint
        self.reporter.add("E022", f'there is no file "{written}" to import', span, hint)
        return None


def _folders(base: Path | None) -> list[Path]:
    """Where imported files are looked for."""
    return [*([base] if base is not None else []), *map(standard_folder, FOLDERS)]


@cache
def standard_names(kind: str = "block") -> tuple[str, ...]:
    """The names of the standard backbones (or neurons, surrogates), sorted: each is the file of its name."""
    return tuple(sorted(p.stem for p in standard_folder(kind).glob("*.bcg")))


def backbone_names() -> tuple[str, ...]:
    """The standard names that are backbones, and not the parts of some: their files hold a block of that name."""
    folder = standard_folder("block")
    names = standard_names()
    return tuple(n for n in names if f"\nblock {n}(" in (folder / f"{n}.bcg").read_text(encoding="utf-8"))


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

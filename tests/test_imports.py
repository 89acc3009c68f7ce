"""Imports point one way: no module and no room reads one that reads it, and rooms stand in a fixed order.

All imports count, those inside functions too. What type checkers alone see counts only where circles are looked for.
"""

from __future__ import annotations

import ast
import graphlib
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# From the bottom up: a room imports rooms of earlier lines, and of its own line only what is on its left. A name stands
# for a module or for all modules of a package that have no longer name here.
ORDER = """
errors keys lazy urls names modulenames readout foreign seals normalization notebook
files process interrupts connections memory machine tensorfiles origins run_files plugins
equations
layers
schema.values schema.neuron schema.layers schema.backbone schema.connections schema.train schema.data schema.search
schema.network schema
shapes projections scales spaces pruning
data.declaration data.sets
dsl.grammar
dsl.syntax dsl.wording dsl.walk dsl.source dsl.tokens dsl.build dsl.expected dsl.habits dsl.parser dsl.fmt dsl.unparse
dsl.elaboration dsl.check dsl.printer dsl.elaborate dsl
errordocs signature exported runtime weights data nn
compiler.ir compiler.ops compiler.printer compiler.verify compiler.lower compiler.scc
compiler.needed compiler.projections
compiler.passes compiler.schedules compiler.pipelines compiler
compiler.targets.fx compiler.driver compiler.analysis profile compiler.export
compiler.targets.onnx compiler.targets.nir compiler.targets.pt2 compiler.targets.python compiler.targets
training.options training.events training.losses training.ema training.optimizers training.distributed training
firing comparison
search.events search.options search.space search.records search.strategies search.supernet search.scores
search.metrics search.finish
search.evaluators search.distributed search
importing
scores viz artifacts register view
lsp.network lsp.reading lsp.occurrences lsp.symbols lsp.calls lsp.context lsp.positions lsp.session lsp.features
lsp.textmate lsp.server lsp
cli.streams cli.output cli.guard cli.progress cli.inputs cli.examples cli.commands cli
bcgraph __main__
"""


def modules() -> dict[str, Path]:
    """Every module by its name without `bcgraph.`; the package itself is `bcgraph`."""
    found = {}
    for folder, prefix in (("bcgraph", ""), ("compiler", "compiler.")):
        for path in (ROOT / folder).rglob("*.py"):
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            name = prefix + ".".join(parts)
            found[name.removesuffix("__init__").rstrip(".") or "bcgraph"] = path
    return found


MODULES = modules()


def imports(path: Path, *, types: bool = False) -> Iterator[str]:
    """The modules of ours that a file imports, anywhere but under `if TYPE_CHECKING`, or with `types` there too."""

    def visit(node: ast.AST) -> Iterator[str]:
        for child in ast.iter_child_nodes(node):
            # No expression holds an import, and most nodes are in expressions.
            if not isinstance(child, ast.stmt | ast.excepthandler | ast.match_case):
                continue
            if not types and isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                continue
            if isinstance(child, ast.ImportFrom) and (child.module or "").split(".")[0] == "bcgraph":
                base = (child.module or "").removeprefix("bcgraph").lstrip(".")
                for alias in child.names:
                    full = f"{base}.{alias.name}".lstrip(".")
                    yield full if full in MODULES else base or "bcgraph"
            elif isinstance(child, ast.Import):
                yield from (a.name.removeprefix("bcgraph.") for a in child.names if a.name.startswith("bcgraph."))
            yield from visit(child)

    yield from visit(parsed(path))


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@cache
def graph() -> dict[str, set[str]]:
    """The modules of ours that each reads."""
    return {name: {read for read in imports(path) if read != name} for name, path in MODULES.items()}


def room(module: str) -> str:
    """The longest name in `ORDER` that is the module's or one of its packages'."""
    parts = module.split(".")
    for length in range(len(parts), 0, -1):
        if ".".join(parts[:length]) in PLACES:
            return ".".join(parts[:length])
    raise AssertionError(f"{module} stands in no room of ORDER")


PLACES = {name: place for place, name in enumerate(ORDER.split())}


def test_every_import_is_seen() -> None:
    assert len(MODULES) > 150
    assert "compiler.ops" in graph()["compiler.passes.dce"]
    assert sum(map(len, graph().values())) > 500


def test_no_circle_of_modules() -> None:
    tuple(graphlib.TopologicalSorter(graph()).static_order())


def test_no_circle_of_modules_with_types() -> None:
    # The face of a package names for type checkers what it loads when it is asked.
    faces = {name for name, path in MODULES.items() if path.name == "__init__.py"}
    whole = {n: {read for read in imports(path, types=True) if read != n} for n, path in MODULES.items()}
    tuple(
        graphlib.TopologicalSorter(
            {n: graph()[n] if n in faces else reads for n, reads in whole.items()}
        ).static_order()
    )


def test_no_circle_of_rooms() -> None:
    rooms: dict[str, set[str]] = {}
    for module, reads in graph().items():
        rooms.setdefault(room(module), set()).update(room(read) for read in reads)
    tuple(graphlib.TopologicalSorter({name: reads - {name} for name, reads in rooms.items()}).static_order())


@pytest.mark.parametrize("module", sorted(MODULES))
def test_imports_point_down(module: str) -> None:
    # The package itself only names what others define, and the entry point calls the command.
    if module in ("bcgraph", "__main__"):
        return
    wrong = {read for read in graph()[module] if read != "bcgraph" and PLACES[room(read)] > PLACES[room(module)]}
    assert not wrong, f"{module} reads {wrong}, which stand above it"


def test_search_reaches_the_compiler_only_where_candidates_are_measured() -> None:
    reaching = {
        module
        for module, reads in graph().items()
        if module.startswith("search") and any(read.split(".")[0] == "compiler" for read in reads)
    }
    assert reaching
    assert all(module.startswith(("search.metrics", "search.scores", "search.supernet")) for module in reaching), (
        reaching
    )


def reachable(module: str) -> set[str]:
    """All modules that importing `module` and calling what it imports may load."""
    found: set[str] = set()
    pending = [module]
    while pending:
        for read in graph()[pending.pop()] - found:
            found.add(read)
            pending.append(read)
    return found


def test_the_report_reads_the_log_alone() -> None:
    for module in ("search.records.history", "viz.report"):
        assert not reachable(module) & {"search.records.study", "search.records.storage"}


def test_a_schedule_runs_no_pass() -> None:
    assert not any(
        read.startswith("compiler.passes") for m in graph() if room(m) == "compiler.schedules" for read in reachable(m)
    )


def test_no_folder_holds_more_than_a_dozen_modules() -> None:
    sizes: dict[Path, int] = {}
    for path in MODULES.values():
        if path.name != "__init__.py":
            sizes[path.parent] = sizes.get(path.parent, 0) + 1
    crowded = {str(folder.relative_to(ROOT)): size for folder, size in sizes.items() if size > 14}
    # The top of the package: what has no room of its own because all rooms use it.
    assert set(crowded) <= {"bcgraph"}, crowded


def test_the_page_names_every_room() -> None:
    page = (ROOT / "docs/architecture.md").read_text()
    table = set(re.findall(r"^\| `([a-z0-9./_]+)/` \|", page, re.MULTILINE))
    folders = {str(path.parent.relative_to(ROOT)) for path in MODULES.values()} - {"bcgraph", "compiler"}
    assert table == folders

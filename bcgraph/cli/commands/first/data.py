"""`bcgraph data`: the data sets, where each is looked for, and how to get it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bcgraph import files
from bcgraph.cli.inputs import JsonOption
from bcgraph.cli.output import emit, emit_json, table
from bcgraph.errors import DataError, nearest

if TYPE_CHECKING:
    from bcgraph.data.declaration import Declaration


def data_command(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="A data set, to see how to get it.")] = None,
    root: Annotated[str, typer.Option("--root", metavar="DIR", help="The folder with the data sets.")] = "data",
    as_json: JsonOption = False,
) -> None:
    """List the data sets; with a name, say what it is, where it is looked for, and how to get it."""
    from bcgraph.data import declaration

    known = declaration.names()
    if name is not None and name not in known:
        hint = nearest(name, known) or f"the data sets are {', '.join(known)}"
        raise DataError("E080", f"there is no data set `{name}`", hint=hint)
    rows = [_row(each, files.expanded(root)) for each in ([name] if name is not None else known)]
    if as_json:
        emit_json([vars(row) for row in rows])
    elif name is None:
        cells = [(row.name, row.input, row.classes or "", row.state, row.about) for row in rows]
        emit(table(("name", "input", "classes", "here", "what it is"), cells, right=(2,)))
        emit(f"\n`bcgraph data NAME` says how to get one; looked in {Path(root).absolute()}")
    else:
        emit(_full(rows[0]))


@dataclass(frozen=True)
class _Row:
    """What is said of one data set."""

    name: str
    about: str
    input: str
    classes: int | None
    train: int | None
    test: int | None
    place: str | None
    here: bool
    settings: tuple[str, ...]
    get: str

    @property
    def state(self) -> str:
        """Whether it can be used now."""
        if self.place is None:
            return "built in" if self.here else "-"
        return "yes" if self.here else "no"


def _row(name: str, root: Path) -> _Row:
    from bcgraph.data import declaration
    from bcgraph.schema import DataSpec

    declared = declaration.find(name)
    assert declared is not None
    forms = declared.forms_of(DataSpec(name=name))
    place = None if declared.found == "nothing" else str(root / declared.found)
    return _Row(
        name,
        declared.about,
        " or ".join(form.told() for form in forms) or "as the files say",
        declared.classes,
        declared.train,
        declared.test,
        place,
        place is None or _is_there(root, declared.found),
        declared.settings,
        _how(name, declared, root),
    )


def _is_there(root: Path, found: str) -> bool:
    """Whether all that is looked for exists; of a path only what is no pattern, as words in capitals are."""
    for each in found.split(", "):
        fixed = [part for part in Path(each).parts if not part.isupper() and "*" not in part]
        try:
            if not (root / Path(*fixed)).exists() or (not fixed and not any(root.iterdir())):
                return False
        except OSError:  # it may not be looked at
            return False
    return True


def _how(name: str, declared: Declaration, root: Path) -> str:
    if declared.found == "nothing":
        return f"write `data = {name}()`: there is nothing to get"
    if "download" in declared.settings:
        return f"write `data = {name}(download=true)`: it is downloaded into {root} when it is first used"
    return f'put it there, as `{declared.found}` in {root}, and write `data = {name}(root="{root}")`'


def _full(row: _Row) -> str:
    counts = [f"{n:,} for {part}" for n, part in ((row.train, "training"), (row.test, "the test")) if n is not None]
    lines = [
        f"{row.name}: {row.about}",
        f"  input       {row.input}",
        f"  classes     {row.classes if row.classes is not None else 'as the files say'}",
        f"  samples     {', '.join(counts) or 'as the files say'}",
        f"  settings    {', '.join(('batch', 'augment', 'root', *row.settings))}",
        f"  looked for  {row.place or 'nowhere: it comes with an installed package'}",
        f"  here        {'yes' if row.here else 'no'}",
        f"  to get it   {row.get}",
    ]
    return "\n".join(lines)

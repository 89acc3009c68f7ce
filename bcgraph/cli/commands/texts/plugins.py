"""`bcgraph plugins`: what is registered, by kind, and from which package and version."""

from __future__ import annotations

import typer

from bcgraph.cli.guard import FAULT, report
from bcgraph.cli.inputs import JsonOption
from bcgraph.cli.output import emit, emit_json, table


def plugins_command(as_json: JsonOption = False) -> None:
    """Load all installed plugins and list what they have registered; those that cannot be loaded are errors."""
    from bcgraph import plugins
    from bcgraph.plugins.registry import TITLES

    failed = plugins.load_all()
    entries = plugins.REGISTRY.entries()
    if as_json:
        emit_json(
            {
                "installed": [
                    {"name": each.name, "package": each.package, "version": each.version, "module": each.module}
                    for each in plugins.installed()
                ],
                "registered": [
                    {
                        "kind": each.kind,
                        "name": each.name,
                        "plugin": each.origin.package,
                        "version": each.origin.version,
                        "file": each.origin.file,
                        "line": each.origin.line,
                    }
                    for each in entries
                ],
                "diagnostics": [d.as_data() for error in failed for d in error.diagnostics],
            }
        )
    elif entries:
        rows = [(TITLES[e.kind], e.name, e.origin.package or "", e.origin.version or "") for e in entries]
        emit(table(("kind", "name", "plugin", "version"), rows))
    elif not failed:
        emit(f"no plugin is installed: a package is one if it has an entry point in `{plugins.GROUP}`")
    if failed and not as_json:
        report(tuple(d for error in failed for d in error.diagnostics), as_json=False)
    if failed:
        raise typer.Exit(FAULT)

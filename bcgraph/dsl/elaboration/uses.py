"""The plugins that a text names: `use "package"`, in its head and in the heads of the files that it imports."""

from __future__ import annotations

from dataclasses import dataclass, field

from bcgraph import plugins
from bcgraph.dsl import syntax
from bcgraph.dsl.source import Reporter
from bcgraph.errors import Span

MAX_USES = 64


@dataclass(slots=True)
class Uses:
    """Loads the plugins of a text, and knows their names."""

    reporter: Reporter
    packages: dict[str, Span] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the plugins, sorted."""
        return tuple(sorted(self.packages))

    def collect(self, file: syntax.File) -> None:
        """Load what the `use` lines of a file name.

        Reports one out of place (E035), one that stands twice (E033), and plugins that cannot be loaded (E024, E036).
        """
        head = True
        seen: dict[str, Span] = {}
        for statement in file.statements:
            if isinstance(statement, syntax.Use):
                self._use(statement, head, seen)
            elif not isinstance(statement, syntax.Header | syntax.Import):
                head = False

    def _use(self, statement: syntax.Use, head: bool, seen: dict[str, Span]) -> None:
        if isinstance(statement.package, syntax.Broken):
            return
        name, span = statement.package.value, statement.package.span
        if not head:
            self.reporter.add("E035", "`use` stands in the head of a file", statement.span, "move it up to `bcg 1`")
            return
        if name in seen:
            self.reporter.add("E033", f'"{name}" is used twice', span, f"the first is at {seen[name]}")
            return
        seen[name] = span
        if len(self.packages) >= MAX_USES:
            self.reporter.stop("E024", f"a file uses at most {MAX_USES} plugins", span)
        try:
            plugins.load(name)
        except plugins.PluginError as error:
            self.reporter.add_error(error, span)
        self.packages[name] = span

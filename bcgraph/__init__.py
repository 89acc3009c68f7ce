"""bcgraph: backward connections in spiking networks as a thing you write, compile, search and ship.

    spec = bcgraph.load("net.bcg")
    model = bcgraph.compile(spec)
    bcgraph.export(spec, "net.onnx", state_dict=model.state_dict())

Everything is loaded when first used: reading and checking a specification never imports torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bcgraph import lazy

if TYPE_CHECKING:
    from bcgraph import compiler, scores, search
    from bcgraph.compiler.driver import compile
    from bcgraph.compiler.targets.export import export
    from bcgraph.dsl import format_spec as format
    from bcgraph.dsl import load, parse
    from bcgraph.errors import BcgraphError
    from bcgraph.schema import BackwardConnection, NetworkSpec

__version__ = "0.1.0"

__all__ = [
    "BackwardConnection",
    "BcgraphError",
    "NetworkSpec",
    "compile",
    "compiler",
    "export",
    "format",
    "load",
    "parse",
    "scores",
    "search",
]


__getattr__ = lazy.attach(
    __name__,
    {
        "BackwardConnection": "bcgraph.schema:BackwardConnection",
        "BcgraphError": "bcgraph.errors:BcgraphError",
        "NetworkSpec": "bcgraph.schema:NetworkSpec",
        "compile": "bcgraph.compiler.driver:compile",
        "compiler": "bcgraph.compiler",
        "export": "bcgraph.compiler.targets.export:export",
        "format": "bcgraph.dsl:format_spec",
        "load": "bcgraph.dsl:load",
        "parse": "bcgraph.dsl:parse",
        "scores": "bcgraph.scores",
        "search": "bcgraph.search",
    },
)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])

"""bcgraph: backward connections in spiking networks as a thing you write, compile, search and ship.

    spec = bcgraph.load("net.bcg")
    model = bcgraph.compile(spec)
    bcgraph.export(spec, "net.onnx", state_dict=model.state_dict())

Everything is loaded when first used: reading and checking a specification never imports torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bcgraph import compiler, scores, search
    from bcgraph.compiler.driver import compile
    from bcgraph.compiler.export import export
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

# Public name -> module and the attribute in it ("" is the module itself).
_WHERE: dict[str, tuple[str, str]] = {
    "BackwardConnection": ("bcgraph.schema", "BackwardConnection"),
    "BcgraphError": ("bcgraph.errors", "BcgraphError"),
    "NetworkSpec": ("bcgraph.schema", "NetworkSpec"),
    "compile": ("bcgraph.compiler.driver", "compile"),
    "compiler": ("bcgraph.compiler", ""),
    "export": ("bcgraph.compiler.export", "export"),
    "format": ("bcgraph.dsl", "format_spec"),
    "load": ("bcgraph.dsl", "load"),
    "parse": ("bcgraph.dsl", "parse"),
    "scores": ("bcgraph.scores", ""),
    "search": ("bcgraph.search", ""),
}


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _WHERE[name]
    loaded = import_module(module)
    return getattr(loaded, attribute) if attribute else loaded


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])

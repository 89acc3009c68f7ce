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
    from bcgraph import compiler, data, profile, register, runtime, scores, search, training, weights
    from bcgraph.compiler.driver import compile
    from bcgraph.compiler.targets.export import export
    from bcgraph.compiler.targets.fx.record import record
    from bcgraph.dsl import format_spec as format
    from bcgraph.dsl import load, parse
    from bcgraph.errors import BcgraphError
    from bcgraph.importing import from_nir, from_torch
    from bcgraph.schema import BackwardConnection, ForwardConnection, NetworkSpec
    from bcgraph.training.loop import train
    from bcgraph.viz.arcs import draw
    from bcgraph.viz.raster import raster

__version__ = "0.1.0"

__all__ = [
    "BackwardConnection",
    "BcgraphError",
    "ForwardConnection",
    "NetworkSpec",
    "compile",
    "compiler",
    "data",
    "draw",
    "export",
    "format",
    "from_nir",
    "from_torch",
    "load",
    "parse",
    "profile",
    "raster",
    "record",
    "register",
    "runtime",
    "scores",
    "search",
    "train",
    "training",
    "weights",
]


__getattr__ = lazy.attach(
    __name__,
    {
        "BackwardConnection": "bcgraph.schema:BackwardConnection",
        "BcgraphError": "bcgraph.errors:BcgraphError",
        "ForwardConnection": "bcgraph.schema:ForwardConnection",
        "NetworkSpec": "bcgraph.schema:NetworkSpec",
        "compile": "bcgraph.compiler.driver:compile",
        "compiler": "bcgraph.compiler",
        "data": "bcgraph.data",
        "draw": "bcgraph.viz.arcs:draw",
        "export": "bcgraph.compiler.targets.export:export",
        "format": "bcgraph.dsl:format_spec",
        "from_nir": "bcgraph.importing:from_nir",
        "from_torch": "bcgraph.importing:from_torch",
        "load": "bcgraph.dsl:load",
        "parse": "bcgraph.dsl:parse",
        "profile": "bcgraph.profile",
        "raster": "bcgraph.viz.raster:raster",
        "record": "bcgraph.compiler.targets.fx.record:record",
        "register": "bcgraph.register",
        "runtime": "bcgraph.runtime",
        "scores": "bcgraph.scores",
        "search": "bcgraph.search",
        "train": "bcgraph.training.loop:train",
        "training": "bcgraph.training",
        "weights": "bcgraph.weights",
    },
)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])

"""How loud training made each connection: the scale of its last norm, read from a weights file without torch.

A connection's projection ends in a batch norm (paper eq. 6). Its scale starts at the connection's gain and is trained,
so its size says how much of the feedback the network uses.
"""

from __future__ import annotations

from os import PathLike

from bcgraph import projections, tensorfiles
from bcgraph.schema import NetworkSpec, Place


def learned_scales(path: str | PathLike[str], spec: NetworkSpec) -> dict[Place, float]:
    """The mean size of the scale of each connection of `spec` in a safetensors file, by place.

    Connections without a norm, or that the file does not hold, are left out. Raises WeightsError (E082) when the file
    cannot be read.
    """
    arrays = tensorfiles.arrays(tensorfiles.read(path)[0])
    prefixes = spec.prefixes()
    found: dict[Place, float] = {}
    for each in spec.in_order:
        name = projections.scale_of(spec, each, prefixes[each])
        if name in arrays:
            found[each.place] = float(abs(arrays[name]).mean())
    return found

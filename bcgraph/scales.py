"""How loud training made each connection: the scale of its norm, read from a weights file without torch.

A connection's projection ends in a batch norm (paper eq. 6). Its scale starts at the connection's gain and is trained,
so its size says how much of the feedback the network uses.
"""

from __future__ import annotations

from os import PathLike

from bcgraph import tensorfiles
from bcgraph.names import parse_projection


def learned_scales(path: str | PathLike[str]) -> dict[tuple[int, int], float]:
    """The mean size of the scale of each connection in a safetensors file, by (source, target).

    Raises WeightsError (E082) when the file cannot be read.
    """
    found: dict[tuple[int, int], float] = {}
    for name, value in tensorfiles.arrays(tensorfiles.read(path)[0]).items():
        projection = parse_projection(name)
        if projection is not None and projection.part == "bn.weight":
            found[projection.source, projection.target] = float(abs(value).mean())
    return dict(sorted(found.items()))

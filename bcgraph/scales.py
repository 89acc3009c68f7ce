"""How loud training made each connection: the scale of its norm, read from a weights file without torch.

A connection's projection ends in a batch norm (paper eq. 6). Its scale starts at the connection's gain and is trained,
so its size says how much of the feedback the network uses.
"""

from __future__ import annotations

from os import PathLike

from bcgraph.errors import WeightsError
from bcgraph.names import parse_projection


def learned_scales(path: str | PathLike[str]) -> dict[tuple[int, int], float]:
    """The mean size of the scale of each connection in a safetensors file, by (source, target).

    Raises WeightsError (E082) when the file cannot be read.
    """
    from safetensors import SafetensorError, safe_open

    found: dict[tuple[int, int], float] = {}
    try:
        with safe_open(path, framework="numpy") as file:
            for name in file.keys():  # noqa: SIM118  (a file is no mapping)
                projection = parse_projection(name)
                if projection is not None and projection.part == "bn.weight":
                    found[projection.source, projection.target] = float(abs(file.get_tensor(name)).mean())
    except (OSError, SafetensorError, TypeError) as error:
        raise WeightsError("E082", f"`{path}` cannot be read: {str(error).splitlines()[0]}") from None
    return dict(sorted(found.items()))

"""How large a file may become, so that one that would take hours to write is refused before it is built."""

from __future__ import annotations

from bcgraph import schema, shapes
from bcgraph.errors import CompileError
from bcgraph.schema import NetworkSpec

MAX_UNROLLED = 50_000
"""Layers times steps of a form that holds or is proved by all steps: some minutes."""

PROVED_STEPS = 64
"""Steps for which a file of one step is run against the unrolled network."""


def check(spec: NetworkSpec, form: str) -> None:
    """Raise CompileError (E054) for a network that is too long to be written out step by step."""
    if form == "step":
        return
    frame = spec.input.shape
    layers = sum(1 for _ in shapes.walk(spec.backbone.body, frame)) + 2 * len(spec.backward)
    if layers * spec.steps > MAX_UNROLLED:
        raise CompileError(
            "E054",
            f"{layers:,} layers and projections in {spec.steps:,} steps are more than {MAX_UNROLLED:,} to write out",
            hint="an .onnx file with --form step holds one step, whatever their number",
        )


def shortened(spec: NetworkSpec) -> NetworkSpec:
    """The network with as many steps as a file of one step is proved for."""
    if spec.steps <= PROVED_STEPS:
        return spec
    fields = {name: getattr(spec, name) for name in schema.NetworkSpec.model_fields}
    return NetworkSpec(**{**fields, "steps": PROVED_STEPS})

"""Small specifications for the tests of data, weights and training."""

from __future__ import annotations

from typing import Any

from bcgraph import schema
from bcgraph.schema import BatchNorm, Conv, Linear, NeuronLayer, Norm, Sum
from tests import neurons

TINY = """bcg 1
network rows {{
  input = sequence(1, 1, 8)
  steps = 8
  readout = last
  backbone = tiny(width={width}, classes=10)
  {backward}
}}
data = digits_rows(batch={batch})
train {{ epochs = {epochs}; loss = {loss}; {more} }}
"""


def plain(
    *,
    steps: int = 3,
    width: int = 4,
    classes: int = 10,
    sequence: bool = False,
    tau: float = 0.5,
    norm: Norm | None = None,
    **more: Any,
) -> schema.NetworkSpec:
    """A network of two LIF layers on the digits, made without the language."""
    neuron = neurons.lif(tau=tau)
    norm = norm or Norm()
    body: schema.Body = (
        Conv(name="conv1", channels=width, padding=1),
        BatchNorm(name="bn1", norm=norm),
        NeuronLayer(name="lif1", neuron=neuron),
        Sum(
            name="sum", branches=((Conv(name="conv2", channels=width, padding=1), BatchNorm(name="bn2", norm=norm)), ())
        ),
        NeuronLayer(name="lif2", neuron=neuron),
        schema.AdaptivePool(name="pool", kind="adaptive_avgpool"),
        schema.Flatten(name="flatten"),
        Linear(name="fc", features=classes),
    )
    settings: dict[str, Any] = {
        "name": "plain",
        "input": schema.SequenceInput(1, 1, 8) if sequence else schema.ImageInput(1, 8, 8),
        "steps": 8 if sequence else steps,
        "neuron": neuron,
        "norm": norm,
        "backbone": schema.Backbone.build(schema.Call("plain", (("width", width),)), "", body),
        "data": schema.DataSpec(name="digits_rows" if sequence else "digits", batch=100),
    }
    return schema.NetworkSpec(**{**settings, **more})


def tiny(
    backward: str = "", *, width: int = 16, batch: int = 64, epochs: int = 12, loss: str = "last", more: str = ""
) -> str:
    """The text of the `tiny` backbone on the rows of digits."""
    return TINY.format(backward=backward, width=width, batch=batch, epochs=epochs, loss=loss, more=more)

"""NIR files in the readers of other libraries: the outputs of `bcgraph run`, feedback included."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import nir
import numpy as np
import pytest
import torch
from torch import Tensor

import bcgraph
from bcgraph.compiler.targets.nir.file import load
from tests import needs
from tests.targets.test_onnx import inputs, lively

TEXT = """
bcg 1

block body() {{
  c1 = conv(4); bn1 = bn(); n1 = neuron(); {between}
  flatten(); fc = linear(4)
}}

network n {{ input = image(2, 6, 6); steps = 3; neuron = {neuron}; backbone = body(); {feedback} }}
"""
PLAIN = "c2 = conv(4); bn2 = bn(); n2 = neuron()"
CASES: Mapping[str, Mapping[str, str]] = {
    "residual": {"between": "sum { branch { c2 = conv(4); bn2 = bn() }; branch { } }; n2 = neuron()"},
    "feedback": {"between": PLAIN, "feedback": "backward @1 -> @0; backward @1 -> @1"},
    "cuba": {"between": PLAIN, "neuron": "cuba()"},
    "pool": {"between": f"avgpool(2); {PLAIN}"},
}
Step = Callable[[Tensor, object], tuple[Tensor, object]]


def snntorch(path: Path) -> Step:
    needs.optional_package("snntorch")
    from snntorch.import_nir import import_from_nir

    return import_from_nir(nir.read(path))


def spikingjelly(path: Path) -> Step:
    needs.optional_package("spikingjelly")
    exchange = needs.optional_package("spikingjelly.activation_based.nir_exchange")
    return exchange.import_from_nir(nir.read(path), dt=1e-4)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("reader", [snntorch, spikingjelly])
@pytest.mark.filterwarnings("ignore")
def test_a_file_gives_the_same_in_another_library(case: str, reader: Callable[[Path], Step], tmp_path: Path) -> None:
    needs.optional_package("nirtorch")
    spec = bcgraph.parse(TEXT.format(**({"neuron": "lif()", "feedback": ""} | dict(CASES[case]))))
    x, path = inputs(spec, 3), tmp_path / "net.nir"
    report = bcgraph.export(spec, path, state_dict=lively(spec), inputs=x)
    assert report.proof.firing_ports == 2
    expected = load(path)(x.numpy())
    for sample in range(3):
        net, state, found = reader(path), None, []
        with torch.no_grad():
            for _ in range(spec.steps):
                # Their `Flatten` knows no batch, so there is one sample.
                output, state = net(x[sample : sample + 1], state)
                found.append(output.reshape(-1).numpy())
        np.testing.assert_allclose(np.stack(found), expected[:, sample], atol=1e-3)

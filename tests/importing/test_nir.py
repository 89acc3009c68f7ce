"""NIR files of other libraries: read as texts, run as they are, and compared with what their writers compute."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import nir
import numpy as np
import pytest
import torch
from torch import Tensor, nn

import bcgraph
from bcgraph.errors import RunError
from bcgraph.importing import ImportFailedError, from_nir
from tests import needs

STEPS = 6
Writer = Callable[[], tuple[Any, Callable[[Tensor], Tensor], tuple[int, ...], float]]


def number(count: int, value: float) -> Tensor:
    return torch.full((count,), value)


def loud(layer: nn.Module) -> Any:
    """A layer with weights, whose currents make neurons fire."""
    assert isinstance(layer, nn.Linear | nn.Conv2d)
    layer.weight.data.mul_(4)
    return layer


def spikingjelly() -> tuple[Any, Callable[[Tensor], Tensor], tuple[int, ...], float]:
    exchange = needs.optional_package("spikingjelly.activation_based.nir_exchange")
    from spikingjelly.activation_based import layer, neuron

    first, last = neuron.LIFNode(tau=2.0), neuron.IFNode()
    conv, fc = loud(layer.Conv2d(2, 4, 3, padding=1)), loud(layer.Linear(36, 4))
    net = nn.Sequential(conv, first, layer.AvgPool2d(2), layer.Flatten(), fc, last)
    return exchange.export_to_nir(net, torch.rand(1, 2, 6, 6)), net, (2, 6, 6), 1e-4


def snntorch() -> tuple[Any, Callable[[Tensor], Tensor], tuple[int, ...], float]:
    snn = needs.optional_package("snntorch")
    from snntorch.export_nir import export_to_nir

    given = {"reset_mechanism": "zero", "init_hidden": True}
    first = snn.Leaky(beta=torch.full((4, 6, 6), 0.5), threshold=torch.ones(4, 6, 6), **given)
    last = snn.Leaky(beta=number(4, 0.75), threshold=number(4, 0.5), **given)
    net = nn.Sequential(
        loud(nn.Conv2d(2, 4, 3, padding=1)), first, nn.AvgPool2d(2), nn.Flatten(-3), loud(nn.Linear(36, 4)), last
    )
    return export_to_nir(net, torch.rand(2, 6, 6)), net, (2, 6, 6), 1e-4


def snntorch_recurrent() -> tuple[Any, Callable[[Tensor], Tensor], tuple[int, ...], float]:
    snn = needs.optional_package("snntorch")
    from snntorch.export_nir import export_to_nir

    given = {"reset_mechanism": "zero", "init_hidden": True}
    # With the delay its reset drops the current of the next step as well, which a NIR file does not say.
    first = snn.RLeaky(beta=number(5, 0.5), threshold=number(5, 1.0), linear_features=5, reset_delay=False, **given)
    # Its first step adds the bias to no spikes at all, where feedback that is late adds nothing.
    nn.init.zeros_(first.recurrent.bias)
    last = snn.Leaky(beta=number(4, 0.75), threshold=number(4, 0.5), **given)
    net = nn.Sequential(loud(nn.Linear(6, 5)), first, loud(nn.Linear(5, 4)), last)
    return export_to_nir(net, torch.rand(6)), net, (6,), 1e-4


def norse() -> tuple[Any, Callable[[Tensor], Tensor], tuple[int, ...], float]:
    library = needs.optional_package("norse.torch")
    from norse.torch import LIBoxParameters, LIFBoxParameters, to_nir

    zero, one = number(5, 0.0), number(5, 1.0)
    p = LIFBoxParameters(tau_mem_inv=number(5, 500.0), v_leak=zero, v_th=0.25 * one, v_reset=zero)
    last = LIBoxParameters(tau_mem_inv=number(4, 100.0), v_leak=number(4, 0.0))
    fc1, fc2 = loud(nn.Linear(6, 5)), loud(nn.Linear(5, 4))
    net = library.SequentialState(fc1, library.LIFBoxCell(p=p), fc2, library.LIBoxCell(p=last))
    state: list[Any] = [None]

    def step(x: Tensor) -> Tensor:
        found, state[0] = net(x, state[0])
        return found  # type: ignore[no-any-return]

    # Norse multiplies its time constants by its own step of 1 ms, so a step of the file lasts 1 us.
    return to_nir(net, torch.rand(6)), step, (6,), 1e-6


def sinabs() -> tuple[Any, Callable[[Tensor], Tensor], tuple[int, ...], float]:
    layers = needs.optional_package("sinabs.layers")
    from sinabs.activation import MembraneReset, SingleSpike
    from sinabs.nir import to_nir

    reset = {"reset_fn": MembraneReset(), "spike_fn": SingleSpike, "batch_size": 1}
    fc1, fc2 = loud(nn.Linear(6, 5)), loud(nn.Linear(5, 4))
    net = nn.Sequential(fc1, layers.IAFSqueeze(**reset), fc2, layers.IAFSqueeze(spike_threshold=0.5, **reset))
    # It counts time in steps.
    return to_nir(net, torch.rand(1, 6)), net, (6,), 1.0


@pytest.mark.parametrize("writer", [spikingjelly, snntorch, snntorch_recurrent, norse, sinabs])
@pytest.mark.filterwarnings("ignore")
def test_a_file_of_another_library_gives_what_its_writer_computes(writer: Writer, tmp_path: Path) -> None:
    torch.manual_seed(3)
    graph, net, shape, dt = writer()
    path = tmp_path / "net.nir"
    nir.write(path, graph)
    found = from_nir(path, steps=STEPS, dt=dt, frames=True)
    assert found.error < 1e-5
    for module in [net] if isinstance(net, nn.Module) else []:
        for each in module.modules():
            reset = (
                getattr(each, "reset_mem", None) or getattr(each, "reset_states", None) or getattr(each, "reset", None)
            )
            if reset is not None:
                reset()
    x = torch.rand((STEPS, 1, *shape)) * 3
    batched = writer is not snntorch and writer is not snntorch_recurrent
    with torch.no_grad():
        wanted = [net(frame if batched else frame[0]) for frame in x]
    expected = np.stack([np.asarray(w[0] if isinstance(w, tuple) else w).reshape(-1) for w in wanted])
    model = bcgraph.compile(found.spec).eval()
    model.load_state_dict(dict(found.state_dict))
    got = model(x).detach().numpy()[:, 0]
    assert len(np.unique(expected)) > 1
    np.testing.assert_allclose(got, expected, atol=1e-5)


def looped(**more: Any) -> nir.NIRGraph:
    """Two layers of neurons; the second feeds the first through a matrix."""
    draw = np.random.default_rng(0)

    def lif(count: int) -> nir.LIF:
        one = np.ones(count, np.float32)
        return nir.LIF(tau=2e-4 * one, r=2 * one, v_leak=0 * one, v_threshold=one, v_reset=0 * one)

    def matrix(out: int, given: int) -> nir.Linear:
        return nir.Linear(draw.normal(size=(out, given)).astype(np.float32))

    nodes = {"in": nir.Input({"input": np.array([6])}), "out": nir.Output({"output": np.array([4])})}
    nodes |= {"fc1": matrix(5, 6), "first": lif(5), "fc2": matrix(3, 5), "second": lif(3), "feedback": matrix(5, 3)}
    nodes |= {"fc3": matrix(4, 3)} | more
    chain = ["in", "fc1", "first", "fc2", "second", "fc3", "out"]
    edges = [*pairwise(chain), ("second", "feedback"), ("feedback", "first")]
    return nir.NIRGraph(nodes, edges)


def test_a_loop_becomes_a_backward_connection(tmp_path: Path) -> None:
    """The text that is written runs step by step as the definition of NIR says."""
    path, out = tmp_path / "net.nir", tmp_path / "net.bcg"
    graph = looped()
    nir.write(path, graph)
    from_nir(path, steps=5, frames=True).save(out)
    spec = bcgraph.load(out)
    assert [(b.source, b.target, b.delay) for b in spec.backward] == [(1, 0, 1)]
    assert spec.ports == ("first", "second")
    model = bcgraph.compile(spec, dtype=torch.float64).eval()
    model.load_state_dict({k: v.double() for k, v in bcgraph.weights.load(out.with_suffix(".safetensors")).items()})
    x = torch.rand(5, 7, 6, dtype=torch.float64) * 4
    w = {name: torch.from_numpy(node.weight).double() for name, node in graph.nodes.items() if hasattr(node, "weight")}
    v1, v2, s2 = torch.zeros(7, 5), torch.zeros(7, 3), torch.zeros(7, 3).double()
    outputs, fired = [], 0.0
    for frame in x:
        u1 = 0.5 * v1 + frame @ w["fc1"].T + s2 @ w["feedback"].T
        s1 = (u1 > 1).double()
        v1 = u1 * (1 - s1)
        u2 = 0.5 * v2 + s1 @ w["fc2"].T
        s2 = (u2 > 1).double()
        v2 = u2 * (1 - s2)
        fired += float(s2.sum())
        outputs.append(s2 @ w["fc3"].T)
    assert fired > 0
    assert torch.allclose(model(x), torch.stack(outputs), atol=1e-9)


def test_everything_that_cannot_be_said_is_named_in_one_report(tmp_path: Path) -> None:
    one = np.ones(5, np.float32)
    apart = nir.LIF(
        tau=2e-4 * one, r=2 * one, v_leak=0 * one, v_threshold=np.arange(1, 6, dtype=np.float32), v_reset=0 * one
    )
    path = tmp_path / "net.nir"
    nodes = {"in": nir.Input({"input": np.array([5])}), "one": nir.Threshold(one), "two": nir.Delay(one)}
    nodes |= {"out": nir.Output({"output": np.array([5])})}
    nir.write(path, nir.NIRGraph(nodes, list(pairwise(nodes))))
    with pytest.raises(ImportFailedError) as caught:
        from_nir(path)
    notes = [d.notes for d in caught.value.diagnostics]
    assert notes == [("in the node `one` of the kind Threshold",), ("in the node `two` of the kind Delay",)]
    nir.write(path, looped(first=apart))
    with pytest.raises(ImportFailedError, match="its neurons have a `v_threshold` each"):
        from_nir(path)


@pytest.mark.parametrize("way", ["link", "bomb", "deep", "cut"])
def test_a_hostile_file_is_refused_within_bounds(way: str, tmp_path: Path) -> None:
    path = tmp_path / "net.nir"
    nir.write(path, looped())
    if way == "cut":
        path.write_bytes(path.read_bytes()[:-700])
    else:
        with h5py.File(path, "a") as file:
            if way == "link":
                file["node/more"] = h5py.ExternalLink("/etc/passwd", "/")
            if way == "bomb":
                file.create_dataset("node/more", shape=(2**34,), dtype="f8", chunks=(2**20,), compression="gzip")
            if way == "deep":
                file.create_group("node/" + "x/" * 200)
    with pytest.raises(RunError, match="damaged, or no NIR file"):
        from_nir(path)


def test_an_exported_file_with_connections_is_read_again(tmp_path: Path) -> None:
    spec = bcgraph.parse(
        "bcg 1\nblock b() { c = conv(4); n1 = lif(); d = conv(4); n2 = lif(); e = conv(4); n3 = cuba(); flatten()\n"
        "  f = linear(3) }\nnetwork n { input = image(2, 4, 4); steps = 5; backbone = b(); backward @1 -> @0\n"
        "  forward @0 -> @2 { delay = 0 } }\n"
    )
    bcgraph.export(spec, tmp_path / "net.nir", seed=3)
    found = from_nir(tmp_path / "net.nir", steps=5)
    x = torch.randn(4, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    ours, again = bcgraph.compile(spec, seed=3).eval(), bcgraph.compile(found.spec).eval()
    again.load_state_dict(found.state_dict)
    assert len(found.spec.backward) == 1
    torch.testing.assert_close(again(x), ours(x), atol=1e-4, rtol=1e-4)

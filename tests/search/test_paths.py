"""Paths through a supernet from shared parts: the program, the bits and the state of each architecture by itself.

Captures call again, so that all around them runs without a GPU.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import bcgraph
from bcgraph import data, keys
from bcgraph.compiler import pipelines
from bcgraph.errors import BcgraphWarning
from bcgraph.nn.graphs.capture import CallAgain, CudaCapture, Run
from bcgraph.schema import NetworkSpec
from bcgraph.search.space.search_space import of_search, wired
from bcgraph.search.supernet import parts
from bcgraph.search.supernet import supernet as supernets
from bcgraph.search.supernet.lowered import Lowered
from bcgraph.search.supernet.paths import SESSIONS, Paths
from bcgraph.search.supernet.restriction import Restriction
from bcgraph.search.supernet.shared_weights import SharedWeights
from bcgraph.search.supernet.supernet import Supernet
from tests.imitated_gpu import gpus

TINY = "backbone = tiny(width=3, classes=5)"
NETWORKS = {
    "image": f"input = image(1, 8, 8); steps = 3; {TINY}",
    "sequence": f"input = sequence(2, 8, 8); steps = 3; neuron = plif(); {TINY}",
    "norm of each step": f"input = image(1, 8, 8); steps = 3; norm = bn(statistics=per_step); {TINY}",
    "two states": f"input = image(1, 8, 8); steps = 2; neuron = alif(beta=0.5); {TINY}",
    "vectors": "input = image(1, 4, 4); steps = 3; backbone = small()",
}
SMALL = """
block small() {
  flatten(); fc1 = linear(8); lif1 = neuron(); dropout(0.5); fc2 = linear(8); lif2 = neuron(); fc3 = linear(5)
}
"""
SPACE = (
    "search { space { backward any -> any { delay = [1, 2]; through = [project(), project(kernel=3)]; "
    "join = [add, mul] }; forward any -> later { delay = [0, 1] }; at_most = 3 } }"
)


def parsed(name: str, more: str = "") -> NetworkSpec:
    return bcgraph.parse(f"bcg 1\n{SMALL}\nnetwork n {{ {NETWORKS[name]} }}\n{more}")


def everything(spec: NetworkSpec) -> NetworkSpec:
    space = of_search(spec)
    return spec.with_connections(space.pair(i) for i in range(space.pairs))


def drawn(spec: NetworkSpec, count: int, seed: int = 0) -> list[NetworkSpec]:
    """So many networks of the space, and the backbone."""
    space, rng = of_search(spec), keys.rng(seed, "paths")
    found = [wired(spec, space.architecture(rng.randrange(space.size))) for _ in range(count)]
    return [wired(spec, ()) if spec.search.space is None else found[0], *found]


@pytest.mark.parametrize(
    "text", [NETWORKS["image"], NETWORKS["sequence"], "input = image(3, 8, 8); steps = 2; backbone = resnet18(width=2)"]
)
def test_a_restriction_is_the_program_of_the_network(text: str) -> None:
    spec = bcgraph.parse(f"bcg 1\nnetwork n {{ {text} }}")
    restriction = Restriction(Lowered.of(everything(spec)).graph)
    many = drawn(spec, 12)
    # One source for two larger targets: a resize is shared, which the program with all connections does not say.
    last = len(spec.ports) - 1
    shared = spec.with_backward([(last, 0), (last, 1)])
    assert restriction.to(shared.prefixes().values()) is None
    found = [restriction.to(each.prefixes().values()) for each in many]
    assert sum(nodes is not None for nodes in found) > len(many) / 2
    for each, nodes in zip(many, found, strict=True):
        if nodes is not None:
            assert nodes == Lowered.of(each).scheduled("unrolled", pipelines.SUPERNET).nodes
    # What does not change is the same object, by which parts are known.
    again = restriction.to(many[1].prefixes().values())
    assert again is None or all(a is b for a, b in zip(again, found[1] or (), strict=True))


class Weights:
    """The weights of a supernet, and what a pass leaves in them."""

    def __init__(self, spec: NetworkSpec, dtype: torch.dtype, device: str = "cpu") -> None:
        self.weights = SharedWeights(3, dtype=dtype, device=device)
        paper = spec.search.space is None
        covers = [everything(spec)] if paper else [wired(spec, m) for m in of_search(spec).covers()]
        self.root = self.weights.root(covers[0]) if paper else self.weights.whole_tree(covers)
        self.full = covers[0] if paper else None

    def paths(self, capture: Any = None) -> Paths:
        return Paths(self.root, self.full, capture)

    def effect(self, run: Callable[[Tensor], Tensor], x: Tensor, *, keep: bool = False) -> list[Tensor | None]:
        """O, gradients and running statistics."""
        for parameter in self.root.parameters() if not keep else ():
            parameter.grad = None
        torch.manual_seed(5)
        output = run(x)
        output.square().mean().backward()
        gradients = [None if p.grad is None else p.grad.clone() for p in self.root.parameters()]
        return [output.detach().clone(), *gradients, *(b.clone() for b in self.root.buffers())]


def inputs(spec: NetworkSpec, dtype: torch.dtype, count: int, size: int = 6) -> Iterator[Tensor]:
    lead = (spec.steps, size) if spec.input.kind == "sequence" else (size,)
    generator = torch.Generator().manual_seed(1)
    for _ in range(count):
        yield torch.randn(*lead, *spec.input.shape, generator=generator).to(dtype)


@pytest.mark.parametrize("form", ["image", "sequence"])
def test_a_part_may_hold_nothing_but_zeros(form: str) -> None:
    """A neuron that divides by its state reads a tensor of zeros in the first step."""
    spec = bcgraph.parse(
        "bcg 1\nneuron own() { state v = 0; u = max(I, min(I, 1 / v)); s = spike(u - 0.5, triangle()); v = s }\n"
        f"network n {{ input = {form}(1, 8, 8); steps = 3; neuron = own(); {TINY} }}\n"
    )
    ours, theirs = Weights(spec, torch.float64), Weights(spec, torch.float64)
    x = next(inputs(spec, torch.float64, 1))
    with torch.no_grad():
        found, wanted = ours.paths().run(spec, x), theirs.weights.candidate(spec).train()(x)
    assert found.isfinite().all()
    assert torch.equal(found, wanted)


@pytest.mark.parametrize(("name", "more"), [*((name, "") for name in NETWORKS), ("image", SPACE)])
def test_a_step_is_that_of_the_network_alone_to_the_bit(name: str, more: str) -> None:
    spec = parsed(name, more)
    ours, theirs = Weights(spec, torch.float32), Weights(spec, torch.float32)
    paths = ours.paths()
    many = drawn(spec, 5)
    for each, x in zip(many, inputs(spec, torch.float32, len(many)), strict=True):
        found = ours.effect(lambda x, each=each: paths.run(each, x), x)
        wanted = theirs.effect(theirs.weights.candidate(each).train(), x)
        assert len(found) == len(wanted)
        for a, b in zip(found, wanted, strict=True):
            assert (a is None) == (b is None)
            assert a is None or b is None or torch.equal(a, b)


@pytest.mark.parametrize(("name", "more"), [*((name, "") for name in NETWORKS), ("image", SPACE)])
def test_a_captured_step_is_the_plain_one(name: str, more: str) -> None:
    spec = parsed(name, more)
    ours, theirs = Weights(spec, torch.float64), Weights(spec, torch.float64)
    paths = ours.paths(CallAgain)
    many = drawn(spec, 4)
    sizes = (6, 6, 4, 6, 4)
    for place, (each, size) in enumerate(zip(many, sizes, strict=True)):
        (x,) = inputs(spec, torch.float64, 1, size)
        # The last two add to the gradients of the one before, as accumulation does.
        keep = place >= 3
        found = ours.effect(lambda x, each=each: paths.run(each, x), x, keep=keep)
        wanted = theirs.effect(theirs.weights.candidate(each).train(), x, keep=keep)
        for a, b in zip(found, wanted, strict=True):
            assert (a is None) == (b is None)
            if a is not None and b is not None:
                torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)
    assert len(paths._captured) == 2
    assert all(not s.failed for held in paths._captured.values() for s in held.segments.values())


def test_what_was_made_of_parts_is_forgotten_when_it_is_much(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = parsed("image")
    ours, theirs = Weights(spec, torch.float64), Weights(spec, torch.float64)
    paths = ours.paths(CallAgain)
    (x,) = inputs(spec, torch.float64, 1)
    many = drawn(spec, 8)
    with torch.enable_grad():
        paths.run(many[0], x)
    most = len(paths._divider._parts)
    monkeypatch.setattr(parts, "_KEPT", most)
    for each in many[1:]:
        found = ours.effect(lambda x, each=each: paths.run(each, x), x)
        wanted = theirs.effect(theirs.weights.candidate(each).train(), x)
        torch.testing.assert_close(found[0], wanted[0], rtol=1e-9, atol=1e-12)
        assert len(paths._divider._parts) <= 2 * most


def test_a_new_architecture_captures_nothing_anew() -> None:
    spec = parsed("image")
    ours = Weights(spec, torch.float64)
    made: list[str] = []

    class Counting(CallAgain):
        def record(self, run: Run, device: torch.device) -> Run:
            made.append("")
            return super().record(run, device)

    paths = ours.paths(Counting)
    many = drawn(spec, 12)
    counts = []
    for each, x in zip(many, inputs(spec, torch.float64, len(many)), strict=True):
        ours.effect(lambda x, each=each: paths.run(each, x), x)
        counts.append(len(made))
    # The stem, and for each step five ports and what is before the first; forward and backward.
    assert counts[0] == 2 * (1 + 3 * 5)
    # Only the spikes of the last port are packed or not, for a convolution of their own or another, in two steps.
    assert counts[-1] <= counts[0] + 2 * 2 * 2
    compiled = len(paths._parts)
    paths.run(many[3], next(inputs(spec, torch.float64, 1)))
    assert len(paths._parts) == compiled


def test_a_capture_that_fails_or_differs_runs_plain_and_says_so() -> None:
    spec = parsed("image")

    class Failing(CallAgain):
        def record(self, run: Run, device: torch.device) -> Run:
            raise RuntimeError("not this\nkernel")

    class Wrong(CallAgain):
        def record(self, run: Run, device: torch.device) -> Run:
            return lambda: tuple(x * 2 if x.is_floating_point() else x for x in run())

    for capture, what in ((Failing, "not this$"), (Wrong, "other numbers than a plain call$")):
        ours, theirs = Weights(spec, torch.float64), Weights(spec, torch.float64)
        paths = ours.paths(capture)
        (each, *_), (x,) = drawn(spec, 1), inputs(spec, torch.float64, 1)
        with pytest.warns(BcgraphWarning, match=f"runs without CUDA graphs: .*{what}") as said:
            found = ours.effect(lambda x, p=paths, e=each: p.run(e, x), x)
        assert len(said) == 1 + 3 * 5
        for a, b in zip(found, theirs.effect(theirs.weights.candidate(each).train(), x), strict=True):
            assert a is None or b is None or torch.allclose(a, b, rtol=1e-9, atol=1e-12)


TRAINED = """bcg 1
network five { input = image(1, 8, 8); steps = 2; backbone = tiny(width=3) }
data = digits(batch=50)
search { supernet { epochs = 2 } }
train { loss = tet }
"""


@pytest.mark.parametrize("how", ["whole", "captured"])
def test_a_training_run_ends_with_the_same_weights(tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = bcgraph.parse(TRAINED)
    train = data.load(spec.data, spec.input, spec.steps).train.subset(range(220))
    dtype = torch.float32 if how == "whole" else torch.float64

    def run(name: str) -> dict[str, Tensor]:
        (tmp_path / name).mkdir()
        made = Supernet(spec, 7, train, dtype=dtype)
        made.train(tmp_path / name, lambda _: None)
        return {key: value.clone() for key, value in made.full.state_dict().items()}

    wanted = run("parts")
    plain = supernets._Drawn.__init__

    def changed(self: Any, supernet: Supernet, capture: Any) -> None:
        plain(self, supernet, CallAgain if how == "captured" else capture)
        if how == "whole":
            self.paths = None

    monkeypatch.setattr(supernets._Drawn, "__init__", changed)
    found = run(how)
    for name, value in wanted.items():
        if how == "whole":
            assert torch.equal(found[name], value), name
        else:
            torch.testing.assert_close(found[name], value, rtol=1e-7, atol=1e-10)


def test_parts_hold_the_layers_of_the_supernet() -> None:
    spec = parsed("image")
    ours = Weights(spec, torch.float32)
    paths = ours.paths()
    paths.path(drawn(spec, 1)[1])
    own = {id(m) for m in ours.root.modules()}
    for part in (each.module for each in paths._parts.values()):
        layers = [m for m in part.modules() if not list(m.children()) and m is not part]
        assert all(id(m) in own for m in layers if list(m.parameters()) and isinstance(m, nn.Module))


@pytest.mark.parametrize("capture", [None, CallAgain])
def test_a_step_after_an_evaluation_is_in_training_mode(capture: Any) -> None:
    spec = parsed("vectors")
    ours, theirs = Weights(spec, torch.float64), Weights(spec, torch.float64)
    paths = ours.paths(capture)
    each, (x, *_) = drawn(spec, 1)[1], inputs(spec, torch.float64, 1)
    for evaluated in (False, True):
        if evaluated:
            ours.root.eval()
        found = ours.effect(lambda x: paths.run(each, x), x)
        wanted = theirs.effect(theirs.weights.candidate(each).train(), x)
        for a, b in zip(found, wanted, strict=True):
            assert a is None or b is None or torch.allclose(a, b, rtol=1e-9, atol=1e-12)


def test_an_architecture_of_known_parts_is_made_of_the_same_ones() -> None:
    """What was made of a node, and a compiled part, come again, whatever an architecture reads there."""
    spec = parsed("image")
    ours, theirs = Weights(spec, torch.float32), Weights(spec, torch.float32)
    paths = ours.paths(CallAgain)
    many = drawn(spec, 40)
    for each in many:
        paths.path(each)
    known = len(paths._parts)
    again = ours.paths(CallAgain)
    for each, x in zip(reversed(many), inputs(spec, torch.float32, len(many)), strict=True):
        one, other = paths.path(each), again.path(each)
        assert [(p.key, p.reads, p.gives) for p in one.parts] == [(p.key, p.reads, p.gives) for p in other.parts]
        with torch.no_grad():
            assert torch.equal(paths.run(each, x), theirs.weights.candidate(each).train()(x))
    assert len(paths._parts) == known


@pytest.mark.parametrize(("name", "more"), [("sequence", ""), ("vectors", ""), ("image", SPACE)])
def test_replayed_segments_give_the_bits_of_the_network_alone(name: str, more: str) -> None:
    """Any order of architectures and sizes of batches, also of those whose captures were dropped in between."""
    with gpus() as gpu, warnings.catch_warnings(action="error", category=BcgraphWarning):
        spec = parsed(name, more)
        ours, theirs = (Weights(spec, torch.float32, "cuda") for _ in range(2))
        paths = ours.paths(CudaCapture().apart)
        many = drawn(spec, 3)
        for number, size in ((0, 6), (1, 6), (2, 4), (3, 5), (1, 4), (0, 6), (2, 6)):
            each = many[number]
            (x,) = inputs(spec, torch.float32, 1, size)
            found = ours.effect(lambda x, each=each: paths.run(each, x), x.cuda())
            wanted = theirs.effect(theirs.weights.candidate(each).train(), x.cuda())
            for a, b in zip(found, wanted, strict=True):
                assert (a is None) == (b is None)
                assert a is None or b is None or torch.equal(a, b)
        assert gpu.replays > gpu.captures
        assert len(paths._captured) == SESSIONS


@pytest.mark.parametrize("name", ["image", "vectors"])
def test_under_autocast_replayed_segments_give_the_bits_of_plain_parts(name: str) -> None:
    with gpus() as gpu, warnings.catch_warnings(action="error", category=BcgraphWarning):
        spec = parsed(name)
        ours, theirs = (Weights(spec, torch.float32, "cuda") for _ in range(2))
        paths, plain = ours.paths(CudaCapture().apart), theirs.paths()
        many = drawn(spec, 3)

        def half(paths: Paths, each: NetworkSpec) -> Callable[[Tensor], Tensor]:
            def run(x: Tensor) -> Tensor:
                with torch.autocast("cuda", torch.bfloat16):
                    return paths.run(each, x).float()

            return run

        for number in (0, 1, 2, 1):
            each = many[number]
            (x,) = inputs(spec, torch.float32, 1)
            found = ours.effect(half(paths, each), x.cuda())
            wanted = theirs.effect(half(plain, each), x.cuda())
            exact = Weights(spec, torch.float32, "cuda").paths().run(each, x.cuda())
            assert not torch.equal(wanted[0], exact)
            for a, b in zip(found, wanted, strict=True):
                assert (a is None) == (b is None)
                assert a is None or b is None or torch.equal(a, b)
        assert gpu.replays > gpu.captures

"""The Triton kernels written from a neuron's equations compute what the kernels of the CPU compute.

Without a GPU Triton's interpreter runs them. Kernels round operation by operation, so in float64 both agree to the
last few bits, spikes included.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor

import bcgraph
from bcgraph import dsl
from bcgraph.dsl.elaboration.library import standard_names
from bcgraph.equations.expression import FUNCTIONS as FUNCTIONS_OF_EXPRESSIONS
from bcgraph.equations.neuron import SPIKES, Equations
from bcgraph.errors import BcgraphWarning
from bcgraph.nn.neuron.gpu import launch, load, source, text
from bcgraph.nn.neuron.gpu import steps as gpu_steps
from bcgraph.nn.neuron.neuron import Neuron, NeuronSteps
from bcgraph.nn.neuron.packed_spikes import pack, unpack
from bcgraph.nn.precision import membranes
from bcgraph.nn.workspace import is_last
from tests import needs
from tests.library import plain
from tests.library.support import network
from tests.library.test_neurons import NEURONS, SLOW, agree


@pytest.fixture(autouse=True, scope="module")
def triton() -> None:
    needs.package("triton")


DEVICE = "cuda" if torch.cuda.is_available() else "cpu"

# The interpreter computes both sides of every choice.
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")

CALLS = {**NEURONS, **{f"surrogate-{name}": f"lif(surrogate={name}(0.7))" for name in plain.SURROGATES}}

QUICK = {("lif", "unrolled"), ("lif", "folded"), ("cuba", "unrolled")}
"""Networks that are judged each time; the interpreter takes seconds for one."""

FUNCTIONS = """neuron strange(surrogate=sigmoid()) {
  state v = 0
  learn a = 0.7
  learn[channels] b = -0.2
  x = tanh(I * 3) + softplus(4 * v) + sqrt(abs(I)) + exp(-v) + log(1 + abs(I)) + 1 / (2 + I * I)
  y = x ** 3 + abs(v) ** 1.5 + (I / 7) ** 2 + x ** -2 + (1 + abs(I)) ** a + min(x, v) + max(I, 0.1) + clamp(x, -b, 0.4)
  z = floor(3 * y) / 9 + round(5 * y) / 9 + relu(-y) + sigmoid(x) + (y if y > 0 and not (v >= 1 or I <= 0) else b)
  s = spike(z - 1.5, surrogate)
  v = 0.2 * z - s * a
}
"""


def equations(call: str, definitions: str = "") -> Equations:
    body = f"input = image(1, 8, 8); steps = 1; neuron = {call}; backbone = tiny()"
    return dsl.parse(f"bcg 1\n{definitions}\nnetwork any {{ {body} }}\n").neuron.equations


def drawn(shape: tuple[int, ...], seed: int, layout: str, dtype: torch.dtype, loud: float = 1.5) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    x = (torch.randn(shape, generator=g, dtype=torch.float64) * loud).to(DEVICE, dtype)
    if layout == "last" and x.dim() == 4:
        return x.contiguous(memory_format=torch.channels_last)
    if layout == "sliced":
        return torch.cat([x, x], 1)[:, : shape[1]]
    return x


@contextmanager
def kernels(monkeypatch: pytest.MonkeyPatch, wanted: bool) -> Iterator[None]:
    with monkeypatch.context() as m:
        m.setattr(launch, "usable", lambda x: wanted)
        yield


Run = Callable[[], tuple[list[Tensor], list[Tensor]]]


def both(monkeypatch: pytest.MonkeyPatch, run: Run) -> Iterator[tuple[Tensor, Tensor]]:
    """Results and gradients, of kernels and of what runs on the CPU."""
    found = []
    for wanted in (True, False):
        with kernels(monkeypatch, wanted):
            values, inputs = run()
            loss = sum((v * torch.cos(torch.arange(v.numel(), device=v.device).view(v.shape))).sum() for v in values)
            found.append([*values, *torch.autograd.grad(loss, inputs, allow_unused=True)])
    for ours, theirs in zip(*found, strict=True):
        assert (ours is None) == (theirs is None)
        if ours is not None:
            assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
            yield ours, theirs


def learned_of(eq: Equations, channels: int, dtype: torch.dtype) -> list[Tensor]:
    return [
        torch.full((channels,) if each.channels else (), each.initial, dtype=dtype, device=DEVICE)
        + 0.01 * torch.arange(channels if each.channels else 1, device=DEVICE).squeeze()
        for each in eq.learned
    ]


def loudness(call: str) -> float:
    return 60.0 if "izhikevich" in call else 1.5


def one_step(eq: Equations, layout: str, dtype: torch.dtype, shape: tuple[int, ...], terms: int, loud: float) -> Run:
    def run() -> tuple[list[Tensor], list[Tensor]]:
        currents = [drawn(shape, k, layout, dtype, loud) for k in range(terms)]
        states = [drawn(shape, 10 + k, layout, dtype, 0.5) for k in range(len(eq.states))]
        inputs = [*currents, *states, *learned_of(eq, shape[1], dtype)]
        for each in inputs:
            each.requires_grad_()
        given = Neuron(eq, "any")(currents, states, inputs[terms + len(states) :])
        return list(given), inputs

    return run


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_one_step(call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    eq = equations(call)
    for layout, shape, terms, dtype in (
        ("rows", (3, 5, 7, 3), 1, torch.float64),
        ("last", (2, 5, 9, 13), 3, torch.float64),
        ("rows", (3, 50), 2, torch.float32),
    ):
        full = eq.giving((SPIKES, *eq.states))
        for ours, theirs in both(monkeypatch, one_step(full, layout, dtype, shape, terms, loudness(call))):
            close = 1e-12 if dtype == torch.float64 else 1e-5
            torch.testing.assert_close(ours, theirs, rtol=close, atol=close)


@pytest.mark.parametrize("layout", ["rows", "last", "sliced"])
@pytest.mark.parametrize("shapes", [((6, 10), (3, 5)), ((9, 4), (3, 1)), ((4, 4), (4, 2)), ((1, 6), (1, 1))])
def test_a_smaller_map_is_read_where_it_stands(
    shapes: tuple[tuple[int, int], tuple[int, int]], layout: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    eq = equations("lif(tau=0.7)")
    eq = eq.giving((SPIKES, *eq.states))
    whole, small = ((3, 5, *size) for size in shapes)

    def run() -> tuple[list[Tensor], list[Tensor]]:
        currents = [drawn(each, k, layout, torch.float64) for k, each in enumerate((whole, small, whole))]
        inputs = [*currents, drawn(whole, 9, layout, torch.float64)]
        for each in inputs:
            each.requires_grad_()
        return list(Neuron(eq, "any")(currents, inputs[3:], [])), inputs

    for ours, theirs in both(monkeypatch, run):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def all_steps(call: str, steps: int, repeated: bool, shape: tuple[int, ...] = (3, 5, 7, 3)) -> Run:
    eq = equations(call, FUNCTIONS)

    def run() -> tuple[list[Tensor], list[Tensor]]:
        whole = shape if repeated else (steps * shape[0], *shape[1:])
        layouts = ("last", "rows") if repeated else ("rows", "sliced")
        currents = [drawn(whole, k, each, torch.float64, loudness(call) / 2) for k, each in enumerate(layouts)]
        for each in currents:
            each.requires_grad_()
        parameters = [each.requires_grad_() for each in learned_of(eq, shape[1], torch.float64)]
        return [NeuronSteps(eq, "any")(currents, parameters, steps, repeated)], [*currents, *parameters]

    return run


each_or_repeated = pytest.mark.parametrize("repeated", [False, True], ids=["each", "repeated"])


@each_or_repeated
@pytest.mark.parametrize("call", NEURONS.values(), ids=NEURONS)
def test_all_steps(call: str, repeated: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    for ours, theirs in both(monkeypatch, all_steps(call, 4, repeated)):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


@each_or_repeated
@pytest.mark.parametrize("call", [*NEURONS.values(), "strange()"], ids=[*NEURONS, "strange"])
def test_kernels_hand_states_on(call: str, repeated: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_steps, "LONGEST", 3)
    monkeypatch.setattr(gpu_steps, "LONGEST_AGAIN", 2)
    for ours, theirs in both(monkeypatch, all_steps(call, 5, repeated, (2, 3, 5, 2))):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("name", ["slow", "strange"])
@pytest.mark.parametrize("layout", ["rows", "last", "sliced"])
def test_every_function_and_parameters_by_channel(name: str, layout: str, monkeypatch: pytest.MonkeyPatch) -> None:
    eq = equations(f"{name}()", SLOW if name == "slow" else FUNCTIONS)
    eq = eq.giving((SPIKES, *eq.states))
    for ours, theirs in both(monkeypatch, one_step(eq, layout, torch.float64, (4, 5, 11, 6), 2, 1.5)):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-11)


def test_no_gradients_no_keeping(monkeypatch: pytest.MonkeyPatch) -> None:
    eq = equations("lif()")
    full = eq.giving((SPIKES, "v"))
    x, v = drawn((2, 3, 5, 5), 0, "rows", torch.float64), drawn((2, 3, 5, 5), 1, "rows", torch.float64)
    with torch.no_grad():
        found = []
        for wanted in (True, False):
            with kernels(monkeypatch, wanted):
                found.append((*Neuron(full, "a")([x], [v], []), NeuronSteps(eq, "b")([x], [], 2, False)))
    for ours, theirs in zip(*found, strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("wanted", [True, False], ids=["kernels", "cpu"])
def test_under_autocast_membranes_stay_in_float32(
    half: torch.dtype, wanted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    eq = equations("lif(tau=0.9)").giving((SPIKES, "v"))
    currents = [drawn((2, 3, 5, 5), k, "rows", torch.float32, 0.01).to(half).requires_grad_() for k in range(2)]
    state = drawn((2, 3, 5, 5), 9, "rows", torch.float32).requires_grad_()
    with kernels(monkeypatch, wanted), torch.autocast(DEVICE, dtype=half):
        s, v = Neuron(eq, "any")(currents, [state], [])
    assert (s.dtype, v.dtype) == (half, torch.float32)
    exact, _ = Neuron(eq, "any")([sum(c.detach().float() for c in currents)], [state.detach()], [])  # type: ignore[list-item]
    assert torch.equal(s.float(), exact)
    grads = torch.autograd.grad((s.float().sum() + (v * v).sum()), [*currents, state])
    assert [g.dtype for g in grads] == [half, half, torch.float32]
    with torch.no_grad(), kernels(monkeypatch, wanted), torch.autocast(DEVICE, dtype=half):
        assert NeuronSteps(equations("lif()"), "any")([currents[0]], [], 2, False).dtype == half


def half_gradients(run: Run, rounded: bool, monkeypatch: pytest.MonkeyPatch) -> tuple[list[Tensor], list[Tensor]]:
    """The gradients of `run` by kernels under autocast to bfloat16, and what was kept for them."""
    saved: list[Tensor] = []
    keep = torch.autograd.graph.saved_tensors_hooks(lambda x: saved.append(x) or x, lambda x: x)
    with kernels(monkeypatch, True), monkeypatch.context() as m:
        if not rounded:
            m.setattr(launch, "kept", membranes)
        with keep, torch.autocast(DEVICE, dtype=torch.bfloat16):
            values, inputs = run()
        kept = list(saved)
        loss = sum(
            (v.float() * torch.cos(torch.arange(v.numel(), device=v.device).view(v.shape))).sum() for v in values
        )
        return [g.float() for g in torch.autograd.grad(loss, inputs) if g is not None], kept


def close_as_bfloat16(ours: list[Tensor], theirs: list[Tensor]) -> None:
    for mine, other in zip(ours, theirs, strict=True):
        assert (mine - other).norm() <= 2**-6 * other.norm()


@pytest.mark.parametrize("layout", ["rows", "last", "sliced"])
@pytest.mark.parametrize("call", [*NEURONS.values(), "lif(detach_reset=true)"])
def test_what_is_kept_in_half_precision_gives_the_gradients(
    call: str, layout: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    eq = equations(call)
    eq, shape, loud = eq.giving((SPIKES, *eq.states)), (3, 5, 7, 3), loudness(call)

    def run() -> tuple[list[Tensor], list[Tensor]]:
        currents = [drawn(shape, k, layout, torch.float32, loud).to(torch.bfloat16) for k in range(2)]
        # In another layout than the currents: bits are in the order of those.
        states = [drawn(shape, 10 + k, "last", torch.float32, 0.5) for k in range(len(eq.states))]
        inputs = [each.requires_grad_() for each in (*currents, *states, *learned_of(eq, 5, torch.float32))]
        return list(Neuron(eq, "any")(currents, states, inputs[2 + len(states) :])), inputs

    ours, kept = half_gradients(run, True, monkeypatch)
    theirs, _ = half_gradients(run, False, monkeypatch)
    close_as_bfloat16(ours, theirs)
    full = [each for each in kept if each.numel() == 3 * 5 * 7 * 3]
    assert {each.dtype for each in full} <= ({torch.bfloat16} if eq.binary else {torch.float32})


@each_or_repeated
@pytest.mark.parametrize("call", NEURONS.values(), ids=NEURONS)
def test_all_steps_keep_half_precision(call: str, repeated: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_steps, "LONGEST", 3)
    eq, steps, loud = equations(call), 4, loudness(call)

    def run() -> tuple[list[Tensor], list[Tensor]]:
        whole = (3 if repeated else steps * 3, 5, 7, 3)
        current = drawn(whole, 0, "last", torch.float32, loud).to(torch.bfloat16)
        inputs = [each.requires_grad_() for each in (current, *learned_of(eq, 5, torch.float32))]
        return [NeuronSteps(eq, "any")([current], inputs[1:], steps, repeated)], inputs

    ours, kept = half_gradients(run, True, monkeypatch)
    theirs, more = half_gradients(run, False, monkeypatch)
    close_as_bfloat16(ours, theirs)
    if call == NEURONS["lif"]:
        elements = steps * 3 * 5 * 7 * 3
        assert sum(each.nbytes for each in more) == 4 * elements
        assert sum(each.nbytes for each in kept) == 2 * elements + steps * -(-3 * 5 * 7 * 3 // 8)


@pytest.mark.parametrize("all_at_once", [False, True], ids=["one-step", "all-steps"])
def test_a_rounded_membrane_stays_on_its_side_of_the_threshold(
    all_at_once: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # So close to 1 that bfloat16 rounds all of them to it. What fires is reset, and hands no gradient on.
    v = (1 + torch.tensor([[3e-4, -3e-4, 1e-3, -1e-3, 6e-8, 0.0]])).to(DEVICE)
    eq = equations("lif(tau=1.0, surrogate=rectangle(4.0))").giving((SPIKES, "v"))

    def one() -> tuple[list[Tensor], list[Tensor]]:
        state = v.clone().requires_grad_()
        _, after = Neuron(eq, "any")([torch.zeros_like(v, dtype=torch.bfloat16)], [state], [])
        return [after], [state]

    def every() -> tuple[list[Tensor], list[Tensor]]:
        # The membranes of the second step: 1 of the first, more or less 2 ** -12 of its own current.
        first, second = torch.ones(1, 4), torch.tensor([[2.0**-12, -(2.0**-12), 2.0**-11, 0.0]])
        currents = torch.cat([first, second, torch.ones(1, 4) / 2]).to(DEVICE, torch.bfloat16).requires_grad_()
        made = equations("lif(tau=1.0, surrogate=rectangle(4.0))")
        return [NeuronSteps(made, "any")([currents], [], 3, False)], [currents]

    run = every if all_at_once else one
    (ours,), _ = half_gradients(run, True, monkeypatch)
    (theirs,), _ = half_gradients(run, False, monkeypatch)
    torch.testing.assert_close(ours, theirs, rtol=2**-8, atol=2**-8)


@pytest.mark.parametrize("layout", ["rows", "last", "sliced"])
@pytest.mark.parametrize("shape", [(3, 5, 7, 3), (2, 4, 16, 16), (1, 1, 1, 1)])
def test_spikes_come_as_bits_too(shape: tuple[int, ...], layout: str, monkeypatch: pytest.MonkeyPatch) -> None:
    eq = equations("lif()").giving((SPIKES,))
    for gradient in (False, True):
        x, v = (drawn(shape, k, layout, torch.float32).requires_grad_(gradient) for k in range(2))
        s, bits = Neuron(eq, "any", packs=True)([x], [v], [])
        with kernels(monkeypatch, True):
            ours, packed = Neuron(eq, "any", packs=True)([x], [v], [])
            assert torch.equal(pack(s), bits)
            again = unpack(packed, (s.shape, is_last(s)), torch.float32)
            with torch.no_grad():
                assert len(Neuron(eq, "any", packs=True)([x], [v], [])[1]) == 0
        assert torch.equal(ours, s)
        assert torch.equal(again, s)
        assert torch.equal(packed, bits)
        assert not packed.requires_grad


def test_equal_texts_are_loaded_once() -> None:
    one, other = (Neuron(equations("lif()").giving((SPIKES, "v")), name).kernel for name in ("a", "b"))
    first, second = (source.step(k, (None,), frozenset(), "float32", True, False, False) for k in (one, other))
    assert load.loaded(first) is load.loaded(second)


def test_where_triton_does_not_run_it_is_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    launch.works.cache_clear()
    assert launch.works(torch.device(DEVICE))
    launch.works.cache_clear()

    def broken(text: str) -> None:
        raise RuntimeError("Failed to find C compiler.")

    with monkeypatch.context() as m:
        m.setattr(launch, "loaded", broken)
        with pytest.warns(BcgraphWarning, match=r"torch's own operations.*C compiler"):
            assert not launch.works(torch.device(DEVICE))
        assert not launch.works(torch.device(DEVICE))
    launch.works.cache_clear()


@pytest.mark.parametrize("name", ["tanh", "and", "quantize"])
def test_a_function_that_computes_something_else_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    launch.works.cache_clear()
    monkeypatch.setitem(text.WRITE, name, lambda text, call, given: given[0])
    with pytest.warns(BcgraphWarning, match=rf"torch's own operations.*`{name}` computes something else"):
        assert not launch.works(torch.device(DEVICE))
    launch.works.cache_clear()


def test_the_table_of_functions_is_complete() -> None:
    assert text.WRITE.keys() == FUNCTIONS_OF_EXPRESSIONS.keys()


@pytest.mark.parametrize(
    ("name", "schedule"),
    [
        pytest.param(name, schedule, marks=[] if (name, schedule) in QUICK else pytest.mark.slow)
        for name in standard_names("neuron")
        for schedule in ("unrolled", "folded")
    ],
)
def test_kernels_of_a_whole_network_agree_with_the_reference(
    name: str, schedule: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if DEVICE != "cpu":
        pytest.skip("tests/library/test_neurons.py judges them there")
    with kernels(monkeypatch, True):
        agree(network(NEURONS[name]), schedule, ((True, {}),))


@pytest.mark.parametrize("schedule", ["unrolled", "folded"])
def test_a_whole_network_with_feedback(schedule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = network("plif()")
    found = []
    for wanted in (True, False):
        with kernels(monkeypatch, wanted):
            model = bcgraph.compile(spec, schedule, dtype=torch.float64, device=DEVICE).train()
            outputs = model(drawn((3, *spec.input.shape), 0, "rows", torch.float64))
            outputs.square().sum().backward()
            found.append([outputs.detach(), *(p.grad for p in model.parameters())])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)

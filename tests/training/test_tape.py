"""A pass of captured segments and plain calls is, to autograd, the same pass without captures, to the bit."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from bcgraph.nn.graphs.capture import CallAgain
from bcgraph.nn.graphs.segment import GraphedSegment, Places
from bcgraph.nn.graphs.tape import Tape

Call = Callable[..., tuple[Tensor, ...]]


class Network:
    """Segments and plain calls in turn; the value `a` has four readers, two of them in plain calls in a row.

    Without sums, in which kernels add in an order of their own.
    """

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.weights = [nn.Parameter(torch.randn(7, 5)) for _ in range(4)]
        w, v, u, t = self.weights
        self.calls: list[tuple[Call, list[nn.Parameter], tuple[str, ...], tuple[str, ...], bool]] = [
            (lambda x: (torch.tanh(x * w), x > 0), [w], ("x",), ("a", "signs"), True),
            (lambda a: (a.sin() * t,), [t], ("a",), ("b",), False),
            (lambda a, b: (a * b / 3,), [], ("a", "b"), ("c",), False),
            (lambda a, c, s: (a * v + c, (a * s).cos()), [v], ("a", "c", "signs"), ("d", "unread"), True),
            (lambda a, d: (a.exp() - d * u,), [u], ("a", "d"), ("e",), True),
        ]

    def plain(self, x: Tensor) -> Tensor:
        values = {"x": x}
        for call, _, reads, gives, _ in self.calls:
            values.update(zip(gives, call(*(values[name] for name in reads)), strict=True))
        return values["e"]

    def taped(self) -> Callable[[Tensor], Tensor]:
        captured = [each for each in self.calls if each[4]]
        places = Places([p for each in captured for p in each[1]])
        segments = {
            each[3]: GraphedSegment(each[0], each[1], list, CallAgain(), places, each[3][0], range(3))
            for each in captured
        }

        def run(x: Tensor) -> Tensor:
            places.begin()
            tape = Tape(places, "x", x)
            for call, _, reads, gives, is_captured in self.calls:
                if is_captured:
                    tape.replay(segments[gives], reads, gives)
                else:
                    tape.call(call, reads, gives)
            tape.drop(("a", "b"))
            assert not any(segment.failed for segment in segments.values())
            return tape.end("e")

        return run

    def effect(self, run: Callable[[Tensor], Tensor], x: Tensor) -> list[Tensor | None]:
        for weight in self.weights:
            weight.grad = None
        result = run(x)
        (result * torch.arange(5.0)).sum().backward()
        return [result.detach().clone(), x.grad, *(None if w.grad is None else w.grad.clone() for w in self.weights)]


@pytest.mark.parametrize("asks", [False, True])
def test_gradients_are_those_of_the_calls_alone_to_the_bit(asks: bool) -> None:
    ours, theirs = Network(), Network()
    taped = ours.taped()
    for number in range(3):
        x = torch.randn(7, 5, generator=torch.Generator().manual_seed(number))
        found = ours.effect(taped, x.clone().requires_grad_(asks))
        wanted = theirs.effect(theirs.plain, x.clone().requires_grad_(asks))
        assert (found[1] is not None) == asks
        for a, b in zip(found, wanted, strict=True):
            assert (a is None) == (b is None)
            assert a is None or b is None or torch.equal(a, b)


def test_a_pass_goes_backward_once() -> None:
    network = Network()
    loss = network.taped()(torch.randn(7, 5)).sum()
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="goes backward once"):
        loss.backward()

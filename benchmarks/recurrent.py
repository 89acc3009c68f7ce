"""Small recurrent nets on one thread: two layers of neurons that feed back on themselves, against a plain loop.

700-128-128-20, T = 100, batch 64. The plain loop is what one writes by hand in PyTorch, with the same norms in the
feedback. With the packages installed, the same loop runs with their neurons.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

import bcgraph
from bcgraph.schema import NetworkSpec
from benchmarks.harness import Row, several
from benchmarks.plain import Lif

INPUTS, WIDTH, CLASSES, STEPS, BATCH = 700, 128, 20, 100, 64


def spec(steps: int = STEPS) -> NetworkSpec:
    """The network in the language."""
    return bcgraph.parse(
        f"""bcg 1
    network recurrent {{
      input = sequence({INPUTS})
      steps = {steps}
      backbone = rsnn(width={WIDTH}, classes={CLASSES})
      backward lif1 -> lif1
      backward lif2 -> lif2
    }}"""
    )


def frames(steps: int = STEPS) -> Tensor:
    """A tenth of the inputs fire, `[T, N, 700]`."""
    return (torch.rand((steps, BATCH, INPUTS), generator=torch.Generator().manual_seed(0)) < 0.1).float()


class PlainLoop(nn.Module):
    """The network as a loop over steps; `neuron` makes a layer of neurons with a state of its own."""

    def __init__(self, neuron: Callable[[], nn.Module], reset: Callable[[nn.Module], None]) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(INPUTS, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.fc3 = nn.Linear(WIDTH, CLASSES)
        self.back = nn.ModuleList(nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(2))
        self.norms = nn.ModuleList(nn.BatchNorm1d(WIDTH) for _ in range(2))
        self.lifs = nn.ModuleList(neuron() for _ in range(2))
        self.reset = reset

    def forward(self, x: Tensor) -> Tensor:
        """`[T, N, 700]` to `[T, N, 20]`."""
        for lif in self.lifs:
            self.reset(lif)
        before: list[Tensor | None] = [None, None]
        outputs = []
        for x_t in x:
            s = x_t
            for k, layer in enumerate((self.fc1, self.fc2)):
                current, late = layer(s), before[k]
                if late is not None:
                    current = current + self.norms[k](self.back[k](late))
                s = before[k] = self.lifs[k](current)
            outputs.append(self.fc3(s))
        return torch.stack(outputs)


def _plain() -> nn.Module:
    def reset(lif: Any) -> None:
        lif.v = 0.0

    return PlainLoop(Lif, reset)


def _spikingjelly() -> nn.Module:
    from spikingjelly.activation_based import neuron

    return PlainLoop(lambda: neuron.LIFNode(tau=2.0, decay_input=False), lambda lif: lif.reset())


def _snntorch() -> nn.Module:
    import snntorch

    return PlainLoop(
        lambda: snntorch.Leaky(beta=0.5, reset_mechanism="zero", init_hidden=True), lambda lif: lif.reset_mem()
    )


class _Norse(nn.Module):
    """Norse hands the state on; here it is kept, as by the others."""

    def __init__(self) -> None:
        super().__init__()
        from norse.torch import LIFBoxCell

        self.cell, self.state = LIFBoxCell(), None

    def forward(self, current: Tensor) -> Tensor:
        s, self.state = self.cell(current, self.state)
        return s


def _norse() -> nn.Module:
    def reset(lif: Any) -> None:
        lif.state = None

    return PlainLoop(_Norse, reset)


PEERS: dict[str, tuple[str, Callable[[], nn.Module]]] = {
    "plain loop": ("torch", _plain),
    "SpikingJelly": ("spikingjelly", _spikingjelly),
    "snnTorch": ("snntorch", _snntorch),
    "Norse": ("norse", _norse),
}


def contender(name: str) -> Callable[[], object]:
    """`training` or `inference`, and of what: `chosen`, a schedule, a peer; or a number of steps."""
    torch.set_num_threads(1)
    what, _, of = name.partition(" ")
    steps = int(of) if of.isdigit() else STEPS
    x = frames(steps)
    if of in PEERS:
        model: nn.Module = PEERS[of][1]()
    else:
        schedule = of if of in ("unrolled", "folded") else None
        model = bcgraph.compile(spec(steps), schedule, inference=what == "frozen")
    if what == "training":
        y = torch.arange(BATCH) % CLASSES
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)

        def train() -> None:
            optimizer.zero_grad(set_to_none=True)
            outputs = model(x)
            nn.functional.cross_entropy(outputs.flatten(0, 1), y.repeat(len(outputs))).backward()
            optimizer.step()

        return train
    model.eval()

    def infer() -> None:
        with torch.no_grad():
            model(x)

    return infer


def run() -> list[Row]:
    rows = []
    peers = [name for name, (package, _) in PEERS.items() if find_spec(package) is not None]
    for what, ours, goal in (("training", "training chosen", "<= 0.70"), ("inference", "frozen chosen", "<= 0.60")):
        mine, *theirs = several("recurrent", ours, *(f"{what} {name}" for name in peers), repeats=15)
        for name, other in zip(peers, theirs, strict=True):
            wanted = goal if name == "plain loop" else "< 1"
            rows.append(
                Row(f"{what} / {name}", f"{mine * 1e3:.1f} ms", f"{other * 1e3:.1f} ms", f"{mine / other:.2f}", wanted)
            )
    eval_mode, frozen = several("recurrent", "inference chosen", "frozen chosen", repeats=15)
    times = f"{frozen * 1e3:.1f} ms", f"{eval_mode * 1e3:.1f} ms", f"{frozen / eval_mode:.2f}"
    rows.append(Row("compiled for inference / eval mode", *times, "<= 1"))
    short, long = several("recurrent", "training 10", "training 1000", repeats=5)
    each = f"{long:.2f} ms", f"{short * 100:.2f} ms", f"{long / (100 * short):.2f}"
    rows.append(Row("a step of training, T = 1000 / T = 10", *each, "about 1"))
    return rows

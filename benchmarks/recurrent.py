"""Small nets with feedback on one thread, against a plain loop: two layers that feed back on themselves, and `tiny`.

700-128-128-20, T = 100, batch 64; and `tiny` with two connections on images of 8x8 and 28x28, T = 4. The plain loop is
what one writes by hand in PyTorch, with the same norms in the feedback. With the packages installed, the same loop runs
with their neurons.
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
from benchmarks.plain import Lif, Tiny, reset

INPUTS, WIDTH, CLASSES, STEPS, BATCH = 700, 128, 20, 100, 64
IMAGES = {"8x8": 8, "28x28": 28}
IMAGE_STEPS, IMAGE_CLASSES, PAIRS = 4, 10, ((4, 4), (2, 1))


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


class _Norse(nn.Module):
    """Norse hands the state on; here it is kept, as by the others."""

    def __init__(self) -> None:
        super().__init__()
        from norse.torch import LIFBoxCell

        self.cell, self.state = LIFBoxCell(), None

    def forward(self, current: Tensor) -> Tensor:
        s, self.state = self.cell(current, self.state)
        return s


Neurons = tuple[Callable[[], nn.Module], Callable[[Any], None]]
"""What makes a layer of neurons, and what sets it to the beginning of its time."""


def _plain() -> Neurons:
    return Lif, reset


def _spikingjelly() -> Neurons:
    from spikingjelly.activation_based import neuron

    return lambda: neuron.LIFNode(tau=2.0, decay_input=False), lambda lif: lif.reset()


def _snntorch() -> Neurons:
    import snntorch

    def make() -> nn.Module:
        made: nn.Module = snntorch.Leaky(beta=0.5, reset_mechanism="zero", init_hidden=True)
        return made

    return make, lambda lif: lif.reset_mem()


def _norse() -> Neurons:
    return _Norse, lambda lif: setattr(lif, "state", None)


PEERS: dict[str, tuple[str, Callable[[], Neurons]]] = {
    "plain loop": ("torch", _plain),
    "SpikingJelly": ("spikingjelly", _spikingjelly),
    "snnTorch": ("snntorch", _snntorch),
    "Norse": ("norse", _norse),
}


class _Images(Tiny):
    """The peers' `tiny` on images, which are the same at every step."""

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        """`[N, 1, H, W]` to `[T, N, classes]`."""
        return super().forward(x, sequence=False)


def tiny(size: int) -> NetworkSpec:
    """`tiny` with two connections, on images of `size` by `size`."""
    return bcgraph.parse(
        f"""bcg 1
    network images {{
      input = image(1, {size}, {size})
      steps = {IMAGE_STEPS}
      backbone = tiny(width=16, classes={IMAGE_CLASSES})
    }}"""
    ).with_backward(PAIRS)


def contender(name: str) -> Callable[[], object]:
    """`training`, `inference` or `frozen`, and of what: `chosen`, a schedule, a peer; or a number of steps.

    In front of it may stand the size of images for `tiny`.
    """
    torch.set_num_threads(1)
    first, _, rest = name.partition(" ")
    size = IMAGES.get(first)
    what, _, of = (rest if size else name).partition(" ")
    steps = int(of) if of.isdigit() else STEPS
    x = (
        frames(steps)
        if size is None
        else torch.rand((BATCH, 1, size, size), generator=torch.Generator().manual_seed(0))
    )
    if of in PEERS:
        neurons = PEERS[of][1]()
        model: nn.Module = (
            PlainLoop(*neurons) if size is None else _Images(PAIRS, IMAGE_STEPS, 16, IMAGE_CLASSES, *neurons)
        )
    else:
        schedule = of if of in ("unrolled", "folded") else None
        network = spec(steps) if size is None else tiny(size)
        model = bcgraph.compile(network, schedule, inference=what == "frozen")
    if what == "training":
        y = torch.arange(BATCH) % (IMAGE_CLASSES if size else CLASSES)
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
    rows = _against_peers("", ("<= 0.70", "<= 0.60"))
    short, long = several("recurrent", "training 10", "training 1000", repeats=5)
    each = f"{long:.2f} ms", f"{short * 100:.2f} ms", f"{long / (100 * short):.2f}"
    rows.append(Row("a step of training, T = 1000 / T = 10", *each, "about 1"))
    for size in IMAGES:
        rows += _against_peers(f"{size} ", ("", ""))
    return rows


def _against_peers(network: str, goals: tuple[str, str]) -> list[Row]:
    """Training and inference against the plain loop, with `goals`, and against the peers; then against eval mode."""
    rows = []
    peers = [name for name, (package, _) in PEERS.items() if find_spec(package) is not None]
    label = f"tiny, {network.strip()}, " if network else ""
    for what, ours, goal in (("training", "training chosen", goals[0]), ("inference", "frozen chosen", goals[1])):
        names = (f"{network}{ours}", *(f"{network}{what} {name}" for name in peers))
        mine, *theirs = several("recurrent", *names, repeats=15)
        for name, other in zip(peers, theirs, strict=True):
            wanted = goal if name == "plain loop" else "< 1"
            times = f"{mine * 1e3:.1f} ms", f"{other * 1e3:.1f} ms", f"{mine / other:.2f}"
            rows.append(Row(f"{label}{what} / {name}", *times, wanted))
    eval_mode, frozen = several("recurrent", f"{network}inference chosen", f"{network}frozen chosen", repeats=15)
    times = f"{frozen * 1e3:.1f} ms", f"{eval_mode * 1e3:.1f} ms", f"{frozen / eval_mode:.2f}"
    rows.append(Row(f"{label}compiled for inference / eval mode", *times, "<= 1"))
    return rows

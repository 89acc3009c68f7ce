"""Every kind of connection in every schedule: join, what is read, kernel, delay, direction, blocks of a user's own."""

from __future__ import annotations

import itertools
from random import Random

import pytest

import bcgraph
from bcgraph import schema
from bcgraph.compiler.lower import lower
from bcgraph.schema import BackwardConnection, ForwardConnection, Projection
from tests.equivalence.support import SCHEDULES, compare, replace, small

JOINS = ("add", "mul")
READS = ("s", "u", "v")
KERNELS = (1, 3)

EVERY = [
    (kind, delay, join, read, kernel)
    for kind, delays in ((BackwardConnection, (1, 2, 3)), (ForwardConnection, (0, 1, 2, 3)))
    for delay, join, read, kernel in itertools.product(delays, JOINS, READS, KERNELS)
]


def dealt() -> list[schema.NetworkSpec]:
    """Networks of three connections each, in which every combination stands once."""
    rng = Random(7)
    cards = rng.sample(EVERY, len(EVERY))
    found = []
    for hand in zip(cards[::3], cards[1::3], cards[2::3], strict=True):
        steps, sequence = rng.choice([3, 5]), rng.random() < 0.5
        spec = small(steps=steps, sequence=sequence)
        connections: dict[tuple[str, int, int, int], schema.Connection] = {}
        for kind, delay, join, read, kernel in hand:
            low, high = sorted(rng.sample(range(len(spec.ports)), 2))
            ends = (high, low) if kind is BackwardConnection else (low, high)
            through = None if kernel == 1 and rng.random() < 0.5 else Projection(kernel=kernel, gain=0.5)
            each = kind(*ends, delay, through=through, join=join, read=read)
            connections[each.word, *each.key] = each
        found.append(
            spec.with_connections(
                [each for each in connections.values() if isinstance(each, BackwardConnection)],
                [each for each in connections.values() if isinstance(each, ForwardConnection)],
            )
        )
    return found


DEALT = dealt()


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("number", range(len(DEALT)))
def test_every_kind_of_connection(number: int, schedule: str) -> None:
    compare(DEALT[number], schedule, training=number % 2 == 0, size=2)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("number", range(0, len(DEALT), 4))
def test_every_kind_of_connection_for_inference(number: int, schedule: str) -> None:
    compare(DEALT[number], schedule, training=False, size=2, inference=True)


OWN = """bcg 1

block deep(channels, mid=2) {
  a   = conv(input.channels // mid, 1)
  bn1 = bn()
  resize(nearest)
  b   = conv(channels, 3)
  bn2 = bn()
}

block branched(channels) {
  resize(nearest)
  sum {
    branch { a = conv(channels, 1); bn1 = bn() }
    branch { b = conv(channels, 3) }
  }
}

block gated(channels) {
  resize(nearest)
  mul {
    branch { a = conv(channels, 1); bn1 = bn() }
    branch { b = conv(1, 1); bn2 = bn() }
  }
}

block squeezed(channels) {
  resize(nearest)
  mul {
    branch { a = conv(channels, 1); bn1 = bn() }
    branch { adaptive_avgpool(); b = conv(channels, 1, bias=true) }
  }
}

block halves(channels) {
  resize(nearest)
  concat {
    branch { a = conv(channels - 1, 1); bn1 = bn() }
    branch { b = conv(1, 1); bn2 = bn() }
  }
}

block counted(channels) {
  norm1 = bn(statistics=per_step)
  resize(nearest)
  conv  = conv(channels, 1)
  norm2 = bn()
}

block biased(channels) {
  norm = bn()
  resize(nearest)
  conv = conv(channels, 1, bias=true)
}

block plain() { resize(nearest) }

block vector(channels) { flatten(); fc = linear(channels) }

block net() {
  conv1 = conv(4, 3); bn1 = bn(); lif1 = lif()
  conv2 = conv(4, 3); bn2 = bn(); lif2 = lif()
  conv3 = conv(6, 3, stride=2); bn3 = bn(); lif3 = lif()
  flatten()
  fc1 = linear(12); lif4 = lif()
  fc2 = linear(4)
}

network own {
  input    = INPUT(2, 7, 7)
  steps    = 4
  backbone = net()
  CONNECTIONS
}
"""

CONNECTED = {
    "a block of two layers": "backward @2 -> @0 { through = deep() }"
    "; backward @2 -> @1 { delay = 2; through = deep(3) }",
    "branches": "backward @2 -> @0 { through = branched() }; forward @0 -> @2 { through = branched(); join = mul }",
    "products": "backward @2 -> @0 { through = gated() }"
    "; backward @2 -> @1 { delay = 2; through = gated(); gain = 0.5 }",
    "a weight for each channel": "backward @2 -> @0 { through = squeezed() }",
    "parts side by side": "backward @2 -> @0 { through = halves() }"
    "; backward @1 -> @1 { through = halves(); gain = 0.5 }",
    "a convolution after a norm of each step": "backward @2 -> @0 { delay = 2; through = counted() }",
    "a bias after a norm": "backward @2 -> @1 { delay = 2; through = biased() }",
    "nothing but a resize": "backward @1 -> @0 { through = plain() }"
    "; backward @0 -> @0 { through = plain(); join = mul }",
    "two between the same ports": "backward @2 -> @0; backward @2 -> @0 { delay = 2; read = v }",
    "to and from vectors": "backward @3 -> @3 { through = vector() }"
    "; forward @2 -> @3 { delay = 0; through = vector() }; backward @3 -> @1 { through = deep(); read = u }",
    "all that a port can get": "backward @3 -> @1; backward @2 -> @1 { join = mul }; forward @0 -> @1 { join = mul }"
    "; forward @0 -> @1 { delay = 0 }; backward @1 -> @1 { read = u }",
    "a temporal skip outside of every loop": "forward @0 -> @2 { delay = 2 }; forward @1 -> @3 { delay = 1; read = v }",
    "the network's own projection": "feedback = branched(); backward @2 -> @0; forward @0 -> @1",
}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("name", CONNECTED)
def test_projections_of_a_users_own(name: str, schedule: str, training: bool) -> None:
    form = "sequence" if training else "image"
    spec = bcgraph.parse(OWN.replace("INPUT", form).replace("CONNECTIONS", CONNECTED[name]))
    assert bcgraph.parse(bcgraph.format(spec)) == spec
    compare(spec, schedule, training=training, size=3)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("name", ["a bias after a norm", "a convolution after a norm of each step", "products"])
def test_projections_of_a_users_own_for_inference(name: str, schedule: str) -> None:
    spec = bcgraph.parse(OWN.replace("INPUT", "image").replace("CONNECTIONS", CONNECTED[name]))
    compare(spec, schedule, training=False, size=3, inference=True)


MINE = """
block mine(channels, kernel=1, gain=1.0) {
  resize(nearest)
  conv = conv(channels, kernel)
  bn   = bn(gain=gain)
}

block net()"""


@pytest.mark.parametrize("arguments", ["", "kernel=3", "kernel=3, gain=0.1"])
def test_the_standard_projection_is_a_block_that_anyone_could_write(arguments: str) -> None:
    text = OWN.replace("INPUT", "image").replace("\nblock net()", MINE)
    ours, mine = (
        lower(bcgraph.parse(text.replace("CONNECTIONS", f"backward @2 -> @0 {{ through = {name}({arguments}) }}")))
        for name in ("project", "mine")
    )
    assert ours == mine


def test_a_connection_whose_parts_are_given_in_full_is_the_same() -> None:
    """The defaults written out change neither the network nor what its weights fit."""
    short = replace(small(), backward=(BackwardConnection(2, 0),))
    full = replace(small(), backward=(BackwardConnection(2, 0, 1, through=Projection(), join="add", read="s"),))
    assert short == full
    assert short.fingerprint() == full.fingerprint()
    for other in (
        BackwardConnection(2, 0, join="mul"),
        BackwardConnection(2, 0, read="u"),
        BackwardConnection(2, 0, through=Projection(kernel=3)),
    ):
        changed = replace(small(), backward=(other,))
        assert changed != short
        assert changed.fingerprint() != short.fingerprint()

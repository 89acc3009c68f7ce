"""Connections, and the projections that they run through (paper eq. 6)."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Hashable, Iterable
from dataclasses import field
from functools import lru_cache
from typing import Annotated, Any, ClassVar, Literal, TypeAlias, TypeVar, cast

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer
from pydantic.dataclasses import dataclass

from bcgraph.equations.neuron import SPIKES
from bcgraph.errors import Span, SpecError
from bcgraph.schema.backbone import Call
from bcgraph.schema.layers import BatchNorm, Body, Conv, Resize, body_digest, last_norm, with_gain
from bcgraph.schema.neuron import Norm
from bcgraph.schema.values import CONFIG, Gain, PositiveInt, without_defaults

Maps: TypeAlias = tuple[int, int, int]
"""Channels, height and width of what a port sends; a vector counts as maps of 1x1, a signal as columns."""


@dataclass(frozen=True, config=CONFIG)
class Projection:
    """The standard projection of a connection: nearest resize, convolution, batch norm (paper eq. 6).

    With a `kernel` of 1 it is the paper's. `gain` is the first value of the norm's scale: with 1, as in the paper, the
    feedback is as loud as the forward current from the first step on; with 0.1 or 0 it starts quietly and the scale is
    learned.
    """

    kernel: PositiveInt = 1
    gain: Gain = 1.0

    def layers(self, source: Maps, target: Maps, norm: Norm) -> Body:
        """The layers of a projection between ports of these maps, in a network of that norm."""
        channels, height, width = target
        conv = Conv(name="conv", channels=channels, kernel=self.kernel, padding=(self.kernel - 1) // 2)
        scaled = dataclasses.replace(norm, gain=self.gain)
        return (Resize(name="resize", size=(height, width)), conv, BatchNorm(name="bn", norm=scaled))

    def __str__(self) -> str:
        """As a file has it."""
        given = [f"kernel={self.kernel}"] if self.kernel != 1 else []
        given += [f"gain={self.gain!r}"] if self.gain != 1.0 else []
        return f"project({', '.join(given)})"

    @model_serializer(mode="wrap")
    def _without_defaults(self, dump: SerializerFunctionWrapHandler):  # type: ignore[no-untyped-def]
        return without_defaults(dump(self), kernel=1)


@dataclass(frozen=True, eq=False, config=CONFIG)
class OwnProjection:
    """A projection that a block of the user's describes.

    `call` and `source` say how it was written, as those of a neuron do; `channels` is left out of the call's
    arguments. `bodies` are what it expands to between ports of these maps, for all pairs of them that the network has
    and the block fits. They alone decide equality; their layers have names within the projection.
    """

    call: Call
    source: tuple[str, ...]
    bodies: tuple[tuple[Maps, Maps, Body], ...]
    gain: float | None = None
    digest: str = ""

    @staticmethod
    def build(call: Call, source: tuple[str, ...], bodies: Iterable[tuple[Maps, Maps, Body]]) -> OwnProjection:
        """A projection with `gain`, that of its last norm, and `digest` derived from its bodies."""
        made = tuple(bodies)
        norms = [norm for _, _, body in made if (norm := last_norm(body)) is not None]
        content = repr([(source, target, body_digest(with_gain(body, 1.0))) for source, target, body in made])
        digest = hashlib.sha256(content.encode()).hexdigest()
        gain = norms[0].norm.gain if norms else None
        return OwnProjection(call=call, source=source, bodies=made, gain=gain, digest=digest)

    def layers(self, source: Maps, target: Maps, norm: Norm) -> Body | None:
        """The layers of a projection between ports of these maps; None where the block does not fit them."""
        return next((body for a, b, body in self.bodies if (a, b) == (source, target)), None)

    def __str__(self) -> str:
        """As a file has it."""
        return str(self.call)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, OwnProjection) and (self.digest, self.gain) == (other.digest, other.gain)

    def __hash__(self) -> int:
        return hash((self.digest, self.gain))


Through: TypeAlias = Projection | OwnProjection
"""What a connection runs through."""

Place: TypeAlias = tuple[str, int, int, int]
"""`backward` or `forward`, source, target and delay."""


@dataclass(frozen=True, order=True, config=CONFIG)
class Connection:
    """What backward and forward connections have in common.

    What port `source` sends reaches the current of port `target` after `delay` steps, through a projection (paper
    eq. 6). `gain` is the first scale of its last norm, None for what the projection says; `through` is the projection,
    None for what the network says (`feedback`). The result is added to the current, or with `join="mul"` multiplies it
    by one plus itself. `read` names what is sent: `s`, the spikes, or another value of the source's neuron.
    """

    source: Annotated[int, Field(ge=0)]
    target: Annotated[int, Field(ge=0)]
    delay: Annotated[int, Field(ge=0, le=1_000)] = 1
    gain: Gain | None = None
    through: Through | None = None
    join: Literal["add", "mul"] = "add"
    read: str = SPIKES
    span: Annotated[Span | None, Field(exclude=True)] = field(default=None, repr=False, compare=False)

    word: ClassVar[str]
    """The word that begins its statement, and the names of its parameters."""

    @model_serializer(mode="wrap")
    def _without_defaults(self, dump: SerializerFunctionWrapHandler):  # type: ignore[no-untyped-def]
        return without_defaults(dump(self), gain=None, through=None, join="add", read=SPIKES)

    def __str__(self) -> str:
        """By port number, as a file has it."""
        return f"@{self.source} -> @{self.target}{self.settings}"

    @property
    def key(self) -> tuple[int, int, int]:
        """Source, target and delay: what two connections of a network may not share."""
        return self.source, self.target, self.delay

    @property
    def place(self) -> Place:
        """The word and the key: what tells a connection from all others of its network."""
        return self.word, self.source, self.target, self.delay

    @property
    def settings(self) -> str:
        """The settings that follow in a file, ` { delay = 2; gain = 0.1 }`; empty where they are the defaults."""
        return self.braces(lambda value: repr(value) if isinstance(value, float) else str(value))

    def braces(self, text: Callable[[Any], str]) -> str:
        """The same with values as `text` writes them."""
        found = {name: getattr(self, name) for name in ("delay", "gain", "through", "join", "read")}
        defaults = {each.name: each.default for each in dataclasses.fields(Connection)}
        given = [f"{name} = {text(value)}" for name, value in found.items() if value != defaults[name]]
        return f" {{ {'; '.join(given)} }}" if given else ""


@dataclass(frozen=True, order=True, config=CONFIG)
class BackwardConnection(Connection):
    """From a port to one that does not come after it, at least one step late (paper eq. 6)."""

    delay: Annotated[int, Field(ge=1, le=1_000)] = 1

    word: ClassVar[str] = "backward"


@dataclass(frozen=True, order=True, config=CONFIG)
class ForwardConnection(Connection):
    """From a port to a later one: a temporal skip, or with a delay of 0 a plain one."""

    delay: Annotated[int, Field(ge=0, le=1_000)] = 1

    word: ClassVar[str] = "forward"


_Kind = TypeVar("_Kind", bound=Connection)


def connection_of(given: _Kind | tuple[int, ...], kind: type[_Kind]) -> _Kind:
    """The connection that `with_backward` is given. Raises SpecError for what is none."""
    if type(given) is kind:
        return given
    if isinstance(given, Connection) or len(given) not in (2, 3) or not all(type(n) is int for n in given):
        raise SpecError("E040", f"{given!r} is not (source, target) or (source, target, delay)")
    if min(given[:2]) < 0:
        raise SpecError("E060", f"there is no port @{min(given[:2])}", hint="ports count from 0")
    low = 1 if kind is BackwardConnection else 0
    if len(given) == 3 and not low <= given[2] <= 1_000:
        raise SpecError("E063", f"a delay of {given[2]} steps is not possible", hint=f"allowed: {low} to 1000")
    source, target, delay = (*given, 1)[:3]
    found: _Kind = _of_numbers(cast(Hashable, kind), source, target, delay)
    return found


@lru_cache(maxsize=4096)
def _of_numbers(kind: Any, source: int, target: int, delay: int) -> Any:
    """A connection of which nothing but the numbers is given: a search asks for the same ones again and again."""
    return kind(source, target, delay)

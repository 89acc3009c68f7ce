"""What feeds a network, and the network without connections."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer
from pydantic.dataclasses import dataclass

from bcgraph.schema.layers import Body, NeuronLayer, body_digest, walk
from bcgraph.schema.values import CONFIG, PositiveInt, Scalar, without_defaults


@dataclass(frozen=True, config=CONFIG)
class _Input:
    @property
    def sizes(self) -> dict[str, int]:
        """The sizes that were given, by name."""
        return {name: size for name, size in self.__dict__.items() if name != "kind" and size is not None}

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one sample at one step: `(C, H, W)`, `(C, L)` or `(F,)`."""
        return tuple(self.sizes.values())


@dataclass(frozen=True, config=CONFIG)
class ImageInput(_Input):
    """A static image `[N, C, H, W]`, fed unchanged at every step (direct coding)."""

    channels: PositiveInt
    height: PositiveInt
    width: PositiveInt
    kind: Literal["image"] = "image"


@dataclass(frozen=True, config=CONFIG)
class SignalInput(_Input):
    """A static signal `[N, C, L]`, fed unchanged at every step."""

    channels: PositiveInt
    length: PositiveInt
    kind: Literal["signal"] = "signal"


@dataclass(frozen=True, config=CONFIG)
class VectorInput(_Input):
    """A static vector `[N, F]`, fed unchanged at every step."""

    features: PositiveInt
    kind: Literal["vector"] = "vector"

    @property
    def channels(self) -> int:
        """The features: a vector is a channel each."""
        return self.features


@dataclass(frozen=True, config=CONFIG)
class SequenceInput(_Input):
    """A sequence of frames: `[T, N, C, H, W]`, `[T, N, C, L]` or `[T, N, F]`; frame t is fed at step t.

    `channels` are the features where they stand alone, and `height` is the length where no width follows.
    """

    channels: PositiveInt
    height: PositiveInt | None = None
    width: PositiveInt | None = None
    kind: Literal["sequence"] = "sequence"

    @model_serializer(mode="wrap")
    def _without_defaults(self, dump: SerializerFunctionWrapHandler):  # type: ignore[no-untyped-def]
        return without_defaults(dump(self), height=None, width=None)


InputSpec: TypeAlias = Annotated[ImageInput | SequenceInput | SignalInput | VectorInput, Field(discriminator="kind")]


@dataclass(frozen=True, config=CONFIG)
class Call:
    """A name with arguments by name, as written in the text: `resnet18(width=64, classes=10)`."""

    name: str
    arguments: tuple[tuple[str, Scalar], ...] = ()

    def __str__(self) -> str:
        shown = (f"{name}={str(value).lower() if isinstance(value, bool) else value}" for name, value in self.arguments)
        return f"{self.name}({', '.join(shown)})"


@dataclass(frozen=True, eq=False, config=CONFIG)
class Backbone:
    """A network without backward connections, with its blocks expanded.

    `call` and `source` say how it was written: the backbone's name with its arguments, and the text of every
    block that the user defined for it ("" when all come from the standard library). `body` is what they expand
    to, and alone decides equality. `ports` are the names of the layers of neurons in topological order.
    """

    call: Call
    source: str
    body: Body
    ports: tuple[str, ...] = ()
    digest: str = ""

    @staticmethod
    def build(call: Call, source: str, body: Body) -> Backbone:
        """A backbone with `ports` and `digest` derived from its body."""
        ports = tuple(n.name for n in walk(body) if isinstance(n, NeuronLayer))
        return Backbone(call=call, source=source, body=body, ports=ports, digest=body_digest(body))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Backbone) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

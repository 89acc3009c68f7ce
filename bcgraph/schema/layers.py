"""The layers of a network as a tree: layers in the order of the data, with joins that hold branches."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterator
from functools import cache
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field, SerializerFunctionWrapHandler, TypeAdapter, model_serializer
from pydantic.dataclasses import dataclass

from bcgraph.errors import Span
from bcgraph.schema.neuron import Neuron, Norm
from bcgraph.schema.values import CONFIG, Counts, PositiveInt, Scalar, Sizes, without_defaults


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class _Node:
    name: str
    span: Annotated[Span | None, Field(exclude=True)] = Field(default=None, exclude=True, repr=False)

    def _key(self) -> tuple[Any, ...]:
        return tuple(v for k, v in self.__dict__.items() if k != "span")

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash((type(self).__name__, self._key()))


@dataclass(frozen=True, kw_only=True, eq=False, config=CONFIG)
class Conv(_Node):
    """Convolution over the places of an image or of a signal, to `channels` output channels.

    Padding defaults to half the kernel. A size is one number, or for an image `[rows, columns]`.
    """

    kind: Literal["conv"] = "conv"
    channels: PositiveInt
    kernel: Sizes = 3
    stride: Sizes = 1
    padding: Counts = 0
    dilation: Sizes = 1
    groups: PositiveInt = 1
    bias: bool = False

    @property
    def pointwise(self) -> bool:
        """Whether it looks at one place at a time, so that it may change places with a resize."""
        return self.kernel == self.stride == 1 and not self.padding


@dataclass(frozen=True, kw_only=True, eq=False, config=CONFIG)
class BatchNorm(_Node):
    """Batch normalization over channels (of an image) or features (of a vector)."""

    kind: Literal["bn"] = "bn"
    norm: Norm = Norm()


@dataclass(frozen=True, kw_only=True, eq=False, config=CONFIG)
class NeuronLayer(_Node):
    """A layer of neurons: one port of the network."""

    kind: Literal["neuron"] = "neuron"
    neuron: Neuron

    @model_serializer(mode="wrap")
    def _named(self, dump: SerializerFunctionWrapHandler):  # type: ignore[no-untyped-def]
        return {**dump(self), "kind": self.neuron.name}


@dataclass(frozen=True, kw_only=True, eq=False, config=CONFIG)
class Linear(_Node):
    """Fully connected layer on a vector."""

    kind: Literal["linear"] = "linear"
    features: PositiveInt
    bias: bool = True


@dataclass(frozen=True, kw_only=True, eq=False, config=CONFIG)
class Pool(_Node):
    """Average or maximum over windows; padding counts in an average. `ceil` adds a window for what is left over."""

    kind: Literal["avgpool", "maxpool"]
    kernel: Sizes
    stride: Sizes
    padding: Counts = 0
    ceil: bool = False

    @model_serializer(mode="wrap")
    def _without_defaults(self, dump: SerializerFunctionWrapHandler):  # type: ignore[no-untyped-def]
        return without_defaults(dump(self), ceil=False)


@dataclass(frozen=True, kw_only=True, eq=False, config=CONFIG)
class AdaptivePool(_Node):
    """Average or maximum to a fixed output size."""

    kind: Literal["adaptive_avgpool", "adaptive_maxpool"]
    size: Sizes = 1


@dataclass(frozen=True, kw_only=True, eq=False, config=CONFIG)
class Flatten(_Node):
    """`[C, H, W]` or `[C, L]` to one vector."""

    kind: Literal["flatten"] = "flatten"


@dataclass(frozen=True, kw_only=True, eq=False, config=CONFIG)
class Dropout(_Node):
    """Dropout with a mask of its own at each step."""

    kind: Literal["dropout"] = "dropout"
    probability: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.5


@dataclass(frozen=True, kw_only=True, eq=False, config=CONFIG)
class Registered(_Node):
    """A layer that a user has registered: its name, the plugin that it comes from, and all its arguments."""

    kind: Literal["registered"] = "registered"
    layer: str
    package: str | None = None
    arguments: tuple[tuple[str, Scalar], ...] = ()


@dataclass(frozen=True, kw_only=True, eq=False, config=CONFIG)
class Standard(_Node):
    """A layer that `bcgraph.layers` declares: its name there, and all its arguments."""

    kind: Literal["standard"] = "standard"
    layer: str
    arguments: tuple[tuple[str, Scalar], ...] = ()


@dataclass(frozen=True, kw_only=True, eq=False, config=CONFIG)
class Sum(_Node):
    """The sum of its branches; an empty branch is the identity."""

    kind: Literal["sum"] = "sum"
    branches: tuple[tuple[LayerNode, ...], ...]


@dataclass(frozen=True, kw_only=True, eq=False, config=CONFIG)
class Concat(_Node):
    """The concatenation of its branches along channels (features); an empty branch is the identity."""

    kind: Literal["concat"] = "concat"
    branches: tuple[tuple[LayerNode, ...], ...]


@dataclass(frozen=True, kw_only=True, eq=False, config=CONFIG)
class Product(_Node):
    """The product of its branches; an empty branch is the identity.

    A branch of fewer channels, of one place or none, holds for all that it stands for: C/c channels, all places.
    """

    kind: Literal["mul"] = "mul"
    branches: tuple[tuple[LayerNode, ...], ...]


Join: TypeAlias = Sum | Concat | Product
"""What has branches."""


@dataclass(frozen=True, kw_only=True, eq=False, config=CONFIG)
class Resize(_Node):
    """Nearest-neighbor resize to `size`, height and width: in a projection, those of the target."""

    kind: Literal["resize"] = "resize"
    mode: Literal["nearest"] = "nearest"
    size: tuple[PositiveInt, PositiveInt]


LayerNode: TypeAlias = Annotated[
    Conv
    | BatchNorm
    | NeuronLayer
    | Linear
    | Pool
    | AdaptivePool
    | Flatten
    | Dropout
    | Standard
    | Registered
    | Resize
    | Sum
    | Concat
    | Product,
    Field(discriminator="kind"),
]

Body: TypeAlias = tuple[LayerNode, ...]


def walk(body: Body) -> Iterator[LayerNode]:
    """Every node of a body in topological order, a join after its branches."""
    for node in body:
        if isinstance(node, Join):
            for branch in node.branches:
                yield from walk(branch)
        yield node


def changed(body: Body, change: Callable[[LayerNode], LayerNode]) -> Body:
    """A body with each layer changed, those in branches too, the layers that hold branches last."""

    def one(layer: LayerNode) -> LayerNode:
        if isinstance(layer, Join):
            layer = dataclasses.replace(layer, branches=tuple(changed(branch, change) for branch in layer.branches))
        return change(layer)

    return tuple(map(one, body))


def last_norm(body: Body) -> BatchNorm | None:
    """The last norm of a body, in the order of the data, whose scale says how loud the result is."""
    return next((layer for layer in reversed(list(walk(body))) if isinstance(layer, BatchNorm)), None)


def with_gain(body: Body, gain: float) -> Body:
    """A body whose last norm starts with that gain."""
    last = last_norm(body)
    if last is None:
        return body
    quiet = dataclasses.replace(last, norm=dataclasses.replace(last.norm, gain=gain))
    return changed(body, lambda layer: quiet if layer is last else layer)


@cache
def _body() -> TypeAdapter[Body]:
    return TypeAdapter(Body)


def body_digest(body: Body) -> str:
    """A digest of an expanded backbone: names, layers and their settings, and nothing else."""
    return hashlib.sha256(_body().dump_json(body)).hexdigest()

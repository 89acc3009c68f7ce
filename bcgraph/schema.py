"""The specification: what a `.bcg` file means, as frozen values.

`NetworkSpec` is the one value that travels: the language elaborates a text to it, search operators map it to
another one, the compiler lowers it. It is hashable and equal by content; where a value came from (its `span`)
takes no part in that. Nothing here imports torch.

A backbone's `body` is a tree: layers in the order of the data, with `Sum` and `Concat` nodes that hold
branches. Names in it are complete (`layer1.0.conv1`), since blocks are already expanded.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import field
from functools import cache, lru_cache
from typing import Annotated, Any, ClassVar, Literal, TypeAlias, TypeVar, cast

from pydantic import (
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    SkipValidation,
    TypeAdapter,
    model_serializer,
    model_validator,
)
from pydantic.dataclasses import dataclass

from bcgraph import connections
from bcgraph.equations.expression import Expression, text
from bcgraph.equations.neuron import SPIKES, Equations
from bcgraph.equations.simplify import ONE
from bcgraph.errors import Span, SpecError
from bcgraph.names import BACKWARD, DEFAULT_NEURON, FORWARD, projection
from bcgraph.schema_search import EvolveSpec as EvolveSpec
from bcgraph.schema_search import FinishSpec as FinishSpec
from bcgraph.schema_search import InitSpec as InitSpec
from bcgraph.schema_search import SearchSpec as SearchSpec
from bcgraph.schema_search import SupernetSpec as SupernetSpec
from bcgraph.schema_values import (
    Count,
    Counts,
    Frozen,
    Gain,
    NotNegative,
    Positive,
    PositiveInt,
    Probability,
    Scalar,
    Sizes,
)

_CONFIG = ConfigDict(extra="forbid", strict=True, defer_build=True)

# --- Neuron and normalization -----------------------------------------------------------------------------


@dataclass(frozen=True, config=_CONFIG)
class Surrogate:
    """The derivative that a spike is given (paper eq. 5 for the triangle), as it was called and what that means.

    `derivative` is an expression of `x`, the distance of the membrane from the threshold.
    """

    name: str
    arguments: tuple[tuple[str, Scalar], ...] = ()
    derivative: Annotated[Expression, SkipValidation] = field(default=ONE, repr=False)

    @property
    def plain(self) -> dict[str, Scalar]:
        """The arguments, and the name as its kind."""
        return {**dict(self.arguments), "kind": self.name}

    @model_serializer(mode="plain")
    def _dumped(self):  # type: ignore[no-untyped-def]
        return self.plain


Argument: TypeAlias = Scalar | Surrogate


@dataclass(frozen=True, config=_CONFIG)
class Neuron:
    """A neuron as it was called, `lif(tau=0.5)`, and the equations that this means.

    `source` holds the definitions of the user's own that the call needs, each as a text; those of the standard library
    are left out. It takes no part in equality.
    """

    name: str
    arguments: tuple[tuple[str, Argument], ...]
    equations: Annotated[Equations, SkipValidation] = field(repr=False)
    source: tuple[str, ...] = field(default=(), repr=False, compare=False)

    def argument(self, name: str) -> Argument | None:
        """The value of one argument, None where the definition has no such parameter."""
        return dict(self.arguments).get(name)

    @property
    def threshold(self) -> float | None:
        """The threshold where the definition has a parameter of that name, which is a number."""
        found = self.argument("threshold")
        return float(found) if isinstance(found, int | float) and not isinstance(found, bool) else None

    @model_serializer(mode="plain")
    def _dumped(self):  # type: ignore[no-untyped-def]
        """As the first version wrote its one neuron: the arguments alone. Others add their name and equations."""
        arguments = {k: v.plain if isinstance(v, Surrogate) else v for k, v in self.arguments}
        if self.name == DEFAULT_NEURON:
            return arguments
        surrogates = [text(v.derivative) for _, v in self.arguments if isinstance(v, Surrogate)]
        meaning = {"equations": str(self.equations).split("\n"), "surrogates": surrogates}
        learned = [[each.name, each.initial, each.channels] for each in self.equations.learned]
        return {"neuron": self.name, "arguments": arguments, **meaning, "learned": learned}


@dataclass(frozen=True, config=_CONFIG)
class Norm:
    """Batch normalization. `statistics=per_step` keeps running statistics for each step; the affine part is shared.

    `gain` is the first value of the scale, which is trained from there; it is 1 in the paper. With `scales=per_step`
    the result of step t is multiplied by a trained p[t], which starts at 1 (TEBN, Duan et al. 2022).
    """

    eps: Positive = 1e-5
    momentum: Probability = 0.1
    statistics: Literal["shared", "per_step"] = "shared"
    gain: Gain = 1.0
    scales: Literal["shared", "per_step"] = "shared"

    @property
    def by_step(self) -> bool:
        """Whether steps are told apart, so that the norm cannot run on several at once."""
        return "per_step" in (self.statistics, self.scales)

    @model_serializer(mode="wrap")
    def _without_defaults(self, dump: SerializerFunctionWrapHandler):  # type: ignore[no-untyped-def]
        return _dumped(dump(self), gain=1.0, scales="shared")


# --- Layers -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class _Node:
    name: str
    span: Annotated[Span | None, Field(exclude=True)] = Field(default=None, exclude=True, repr=False)

    def _key(self) -> tuple[Any, ...]:
        return tuple(v for k, v in self.__dict__.items() if k != "span")

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash((type(self).__name__, self._key()))


@dataclass(frozen=True, kw_only=True, eq=False, config=_CONFIG)
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


@dataclass(frozen=True, kw_only=True, eq=False, config=_CONFIG)
class BatchNorm(_Node):
    """Batch normalization over channels (of an image) or features (of a vector)."""

    kind: Literal["bn"] = "bn"
    norm: Norm = Norm()


@dataclass(frozen=True, kw_only=True, eq=False, config=_CONFIG)
class NeuronLayer(_Node):
    """A layer of neurons: one port of the network."""

    kind: Literal["neuron"] = "neuron"
    neuron: Neuron

    @model_serializer(mode="wrap")
    def _named(self, dump: SerializerFunctionWrapHandler):  # type: ignore[no-untyped-def]
        return {**dump(self), "kind": self.neuron.name}


@dataclass(frozen=True, kw_only=True, eq=False, config=_CONFIG)
class Linear(_Node):
    """Fully connected layer on a vector."""

    kind: Literal["linear"] = "linear"
    features: PositiveInt
    bias: bool = True


@dataclass(frozen=True, kw_only=True, eq=False, config=_CONFIG)
class Pool(_Node):
    """Average or maximum over windows; padding counts in an average. `ceil` adds a window for what is left over."""

    kind: Literal["avgpool", "maxpool"]
    kernel: Sizes
    stride: Sizes
    padding: Counts = 0
    ceil: bool = False

    @model_serializer(mode="wrap")
    def _without_defaults(self, dump: SerializerFunctionWrapHandler):  # type: ignore[no-untyped-def]
        return _dumped(dump(self), ceil=False)


@dataclass(frozen=True, kw_only=True, eq=False, config=_CONFIG)
class AdaptivePool(_Node):
    """Average or maximum to a fixed output size."""

    kind: Literal["adaptive_avgpool", "adaptive_maxpool"]
    size: Sizes = 1


@dataclass(frozen=True, kw_only=True, eq=False, config=_CONFIG)
class Flatten(_Node):
    """`[C, H, W]` or `[C, L]` to one vector."""

    kind: Literal["flatten"] = "flatten"


@dataclass(frozen=True, kw_only=True, eq=False, config=_CONFIG)
class Dropout(_Node):
    """Dropout with a mask of its own at each step."""

    kind: Literal["dropout"] = "dropout"
    probability: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.5


@dataclass(frozen=True, kw_only=True, eq=False, config=_CONFIG)
class Registered(_Node):
    """A layer that a user has registered: its name, the plugin that it comes from, and all its arguments."""

    kind: Literal["registered"] = "registered"
    layer: str
    package: str | None = None
    arguments: tuple[tuple[str, Scalar], ...] = ()


@dataclass(frozen=True, kw_only=True, eq=False, config=_CONFIG)
class Standard(_Node):
    """A layer that `bcgraph.layers` declares: its name there, and all its arguments."""

    kind: Literal["standard"] = "standard"
    layer: str
    arguments: tuple[tuple[str, Scalar], ...] = ()


@dataclass(frozen=True, kw_only=True, eq=False, config=_CONFIG)
class Sum(_Node):
    """The sum of its branches; an empty branch is the identity."""

    kind: Literal["sum"] = "sum"
    branches: tuple[tuple[LayerNode, ...], ...]


@dataclass(frozen=True, kw_only=True, eq=False, config=_CONFIG)
class Concat(_Node):
    """The concatenation of its branches along channels (features); an empty branch is the identity."""

    kind: Literal["concat"] = "concat"
    branches: tuple[tuple[LayerNode, ...], ...]


@dataclass(frozen=True, kw_only=True, eq=False, config=_CONFIG)
class Product(_Node):
    """The product of its branches; an empty branch is the identity.

    A branch of fewer channels, of one place or none, holds for all that it stands for: C/c channels, all places.
    """

    kind: Literal["mul"] = "mul"
    branches: tuple[tuple[LayerNode, ...], ...]


Join: TypeAlias = Sum | Concat | Product
"""What has branches."""


@dataclass(frozen=True, kw_only=True, eq=False, config=_CONFIG)
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


# --- Backbone, input, connections -------------------------------------------------------------------------


@dataclass(frozen=True, config=_CONFIG)
class _Input:
    @property
    def sizes(self) -> dict[str, int]:
        """The sizes that were given, by name."""
        return {name: size for name, size in self.__dict__.items() if name != "kind" and size is not None}

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one sample at one step: `(C, H, W)`, `(C, L)` or `(F,)`."""
        return tuple(self.sizes.values())


@dataclass(frozen=True, config=_CONFIG)
class ImageInput(_Input):
    """A static image `[N, C, H, W]`, fed unchanged at every step (direct coding)."""

    channels: PositiveInt
    height: PositiveInt
    width: PositiveInt
    kind: Literal["image"] = "image"


@dataclass(frozen=True, config=_CONFIG)
class SignalInput(_Input):
    """A static signal `[N, C, L]`, fed unchanged at every step."""

    channels: PositiveInt
    length: PositiveInt
    kind: Literal["signal"] = "signal"


@dataclass(frozen=True, config=_CONFIG)
class VectorInput(_Input):
    """A static vector `[N, F]`, fed unchanged at every step."""

    features: PositiveInt
    kind: Literal["vector"] = "vector"

    @property
    def channels(self) -> int:
        """The features: a vector is a channel each."""
        return self.features


@dataclass(frozen=True, config=_CONFIG)
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
        return _dumped(dump(self), height=None, width=None)


@dataclass(frozen=True, config=_CONFIG)
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
        return _dumped(dump(self), kernel=1)


Maps: TypeAlias = tuple[int, int, int]
"""Channels, height and width of what a port sends; a vector counts as maps of 1x1, a signal as columns."""

InputSpec: TypeAlias = Annotated[ImageInput | SequenceInput | SignalInput | VectorInput, Field(discriminator="kind")]


@dataclass(frozen=True, config=_CONFIG)
class Call:
    """A name with arguments by name, as written in the text: `resnet18(width=64, classes=10)`."""

    name: str
    arguments: tuple[tuple[str, Scalar], ...] = ()

    def __str__(self) -> str:
        shown = (f"{name}={str(value).lower() if isinstance(value, bool) else value}" for name, value in self.arguments)
        return f"{self.name}({', '.join(shown)})"


@dataclass(frozen=True, eq=False, config=_CONFIG)
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


@dataclass(frozen=True, eq=False, config=_CONFIG)
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


Place: TypeAlias = tuple[str, int, int, int]
"""`backward` or `forward`, source, target and delay."""


@dataclass(frozen=True, order=True, config=_CONFIG)
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
        return _dumped(dump(self), gain=None, through=None, join="add", read=SPIKES)

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


@dataclass(frozen=True, order=True, config=_CONFIG)
class BackwardConnection(Connection):
    """From a port to one that does not come after it, at least one step late (paper eq. 6)."""

    delay: Annotated[int, Field(ge=1, le=1_000)] = 1

    word: ClassVar[str] = "backward"


@dataclass(frozen=True, order=True, config=_CONFIG)
class ForwardConnection(Connection):
    """From a port to a later one: a temporal skip, or with a delay of 0 a plain one."""

    delay: Annotated[int, Field(ge=0, le=1_000)] = 1

    word: ClassVar[str] = "forward"


# --- Data, training, search: settings with the paper's values as defaults ---------------------------------


class DataSpec(Frozen):
    """Which data set, from where, and in which batches; `augment` says whether training changes samples at random.

    Some data sets have settings of their own: `download` fetches what is missing, `size` pools or pads images to that
    height and width (0: as they are), and `held_out` is the share of each class that is kept for the test where there
    is no test part. `train` and `test` are the numbers of samples that are kept of each part, evenly from all classes
    and the same for every seed (0: all). The others change training samples beyond what the data set itself does, and
    are off by default: `cutout` blanks a square with sides of that many pixels, `autoaugment` is a policy of
    torchvision, `events` one for event cameras. `span` is where a text names the data set, and takes no part in
    equality.
    """

    name: str = "digits"
    root: str = "data"
    batch: PositiveInt = 128
    augment: bool = True
    download: bool = False
    size: Count = 0
    held_out: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.2
    train: Count = 0
    test: Count = 0
    cutout: Count = 0
    autoaugment: Literal["none", "cifar10", "imagenet", "svhn", "rand", "trivial"] = "none"
    events: Literal["none", "nda", "drop"] = "none"
    span: Annotated[Span | None, Field(exclude=True)] = Field(default=None, exclude=True, repr=False)

    def _key(self) -> tuple[Any, ...]:
        return tuple(value for name, value in self.__dict__.items() if name != "span")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DataSpec) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    @model_serializer(mode="wrap")
    def _without_defaults(self, dump: SerializerFunctionWrapHandler):  # type: ignore[no-untyped-def]
        return _dumped(
            dump(self),
            download=False,
            size=0,
            held_out=0.2,
            train=0,
            test=0,
            cutout=0,
            autoaugment="none",
            events="none",
        )


class AdamW(Frozen):
    """AdamW with decoupled weight decay (paper 5.1)."""

    kind: Literal["adamw"] = "adamw"
    lr: Positive = 0.01
    weight_decay: NotNegative = 0.02


class SGD(Frozen):
    """Stochastic gradient descent with momentum."""

    kind: Literal["sgd"] = "sgd"
    lr: Positive = 0.1
    momentum: Probability = 0.9
    weight_decay: NotNegative = 5e-4
    nesterov: bool = False

    @model_validator(mode="after")
    def _momentum(self) -> SGD:
        if self.nesterov and not self.momentum:
            raise ValueError("`nesterov = true` needs a momentum above 0")
        return self


class Cosine(Frozen):
    """Cosine decay to zero over the whole training, after `warmup` epochs of linear increase."""

    kind: Literal["cosine"] = "cosine"
    warmup: Count = 0


class StepDecay(Frozen):
    """The learning rate times `gamma` every `every` epochs, after `warmup` epochs of linear increase."""

    kind: Literal["step"] = "step"
    every: PositiveInt = 30
    gamma: Annotated[float, Field(gt=0.0, le=1.0)] = 0.1
    warmup: Count = 0


class Constant(Frozen):
    """A constant learning rate, after `warmup` epochs of linear increase."""

    kind: Literal["constant"] = "constant"
    warmup: Count = 0


class TrainSpec(Frozen):
    """How a network is trained (paper 5.1), and below `schedule` what the paper does not do and is off by default.

    With `accumulate` each batch is computed in that many parts, one after the other, whose gradients add up to one
    update: less memory, and batch norm takes the statistics of each part. `clip` bounds the norm of the gradient, 0
    does not. `label_smoothing` mixes the labels with the uniform distribution. `ema` is the decay by update of a
    moving average of the weights, which is then what is evaluated and kept. `mean_squared` is the weight w of the
    second term of the TET loss, which is then (1-w) times the cross-entropies plus w times the mean squared distance
    of all outputs from the threshold. `mixup` is the a of Beta(a, a), from which each batch draws how much of each
    sample is mixed with another of the batch, labels alike (0: not). With a `teacher` (a run, a `.bcg` or `.onnx` file,
    or `torchvision:NAME`) the loss is (1-w) times the above plus w times the distance from the teacher's outputs, both
    softened by `temperature`; w is `distill`.
    """

    epochs: PositiveInt = 300
    loss: Literal["tet", "mean", "last"] = "tet"
    optimizer: Annotated[AdamW | SGD, Field(discriminator="kind")] = AdamW()
    schedule: Annotated[Cosine | StepDecay | Constant, Field(discriminator="kind")] = Cosine()
    accumulate: PositiveInt = 1
    clip: NotNegative = 0.0
    label_smoothing: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    ema: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    mean_squared: Probability = 0.0
    mixup: NotNegative = 0.0
    teacher: str = ""
    distill: Probability = 0.5
    temperature: Annotated[float, Field(ge=0.01, le=1000.0)] = 2.0

    @model_serializer(mode="wrap")
    def _without_defaults(self, dump: SerializerFunctionWrapHandler):  # type: ignore[no-untyped-def]
        return _dumped(dump(self), mixup=0.0, teacher="", distill=0.5, temperature=2.0)


# --- The specification ------------------------------------------------------------------------------------


# Connections that the one-line form of a specification names.
_SHOWN = 8


class NetworkSpec(Frozen):
    """A whole `.bcg` file: the network, and how it is fed, trained and searched.

    Two specs are equal when they describe the same thing: the order in which backward connections are written
    does not count. `uses` are the plugins that the file names, sorted.
    """

    name: str
    uses: tuple[str, ...] = ()
    input: InputSpec
    steps: Annotated[int, Field(ge=1, le=10_000)]
    readout: Literal["mean", "last"] = "mean"
    neuron: Neuron
    norm: Norm = Norm()
    feedback: Through = Projection()
    backbone: Backbone
    backward: tuple[BackwardConnection, ...] = ()
    forward: tuple[ForwardConnection, ...] = ()
    data: DataSpec = DataSpec()
    search: SearchSpec = SearchSpec()
    train: TrainSpec = TrainSpec()

    @model_validator(mode="before")
    @classmethod
    def _neuron_of_first_layer(cls, given: Any) -> Any:
        """A specification made by hand may leave the network's neuron out: it is that of the first layer then."""
        if isinstance(given, dict) and "neuron" not in given and isinstance(given.get("backbone"), Backbone):
            layers = (n for n in walk(given["backbone"].body) if isinstance(n, NeuronLayer))
            return {**given, "neuron": next(layers).neuron}
        return given

    @model_validator(mode="after")
    def _connections(self) -> NetworkSpec:
        self._check_connections()
        if self.train.mean_squared and self.neuron.threshold is None:
            raise SpecError(
                "E041",
                f"`mean_squared` compares outputs with the threshold, which `{self.neuron.name}` does not have",
                hint="leave `mean_squared` out",
            )
        return self

    def _check_connections(self) -> None:
        seen: set[Hashable] = set()
        ports = len(self.backbone.ports)
        for some in (self.backward, self.forward):
            for each in some:
                source, target, sole = each.source, each.target, self._sole(each)
                # What is right is told quickly: a search makes many specifications.
                right = source < ports and target < ports and (source < target) == (each.word == FORWARD)
                if not right or sole in seen or each.read != SPIKES:
                    error = (
                        connections.unknown_number(source, ports, each.span)
                        or connections.unknown_number(target, ports, each.span)
                        or connections.wrong_way(each.word, source, target, each.span)
                        or (connections.repeated(*each.place, each.span) if sole in seen else None)
                        or connections.unreadable(each.read, self.neuron_of(source), each.span)
                    )
                    if error is not None:
                        raise error
                seen.add(sole)

    def _sole(self, connection: Connection) -> Hashable:
        """What no two connections of the network may share."""
        return connection.place

    @model_serializer(mode="wrap")
    def _without_defaults(self, dump: SerializerFunctionWrapHandler):  # type: ignore[no-untyped-def]
        found = _dumped(dump(self), feedback=_plain(Projection()), forward=())
        return found if self.uses else {name: value for name, value in found.items() if name != "uses"}

    @property
    def ports(self) -> tuple[str, ...]:
        """The names of the layers of neurons in topological order; a port's number is its index."""
        return self.backbone.ports

    def with_backward(
        self, backward: Iterable[BackwardConnection | tuple[int, int] | tuple[int, int, int]]
    ) -> NetworkSpec:
        """The same network with exactly these backward connections.

        Each is a `BackwardConnection` or a tuple `(source, target)` or `(source, target, delay)`. Raises
        SpecError when one is not on the network, does not run backward, or repeats another.
        """
        return self._connected(backward=tuple(_connection(each, BackwardConnection) for each in backward))

    def with_connections(
        self,
        backward: Iterable[BackwardConnection | tuple[int, int] | tuple[int, int, int]] = (),
        forward: Iterable[ForwardConnection | tuple[int, int] | tuple[int, int, int]] = (),
    ) -> NetworkSpec:
        """The same network with exactly these backward and forward connections, given as in `with_backward`."""
        return self._connected(
            backward=tuple(_connection(each, BackwardConnection) for each in backward),
            forward=tuple(_connection(each, ForwardConnection) for each in forward),
        )

    def _connected(self, **some: tuple[Connection, ...]) -> NetworkSpec:
        """The network with other connections, which are checked; all else has been."""
        made = self.model_copy(update=some)
        made._check_connections()
        return made

    @property
    def connections(self) -> tuple[Connection, ...]:
        """All connections: the backward ones and then the forward ones, in the order in which they are given."""
        return (*self.backward, *self.forward)

    def neuron_of(self, port: int) -> Neuron:
        """The neuron of a port."""
        return [layer for layer in walk(self.backbone.body) if isinstance(layer, NeuronLayer)][port].neuron

    @property
    def in_order(self) -> tuple[Connection, ...]:
        """All connections in their one order: the backward ones and then the forward ones, each sorted."""
        return tuple(sorted(self.connections, key=lambda each: each.place))

    def through(self, connection: Connection) -> Through:
        """What a connection runs through: its own projection, or the one that the network gives to all."""
        return self.feedback if connection.through is None else connection.through

    def gain(self, connection: Connection) -> float | None:
        """The first scale of a connection's last norm; None where its projection has no norm."""
        return self.through(connection).gain if connection.gain is None else connection.gain

    def prefixes(self) -> dict[Connection, str]:
        """For each connection the beginning of its parameters' names: `backward.4_0`.

        Of several connections between the same ports all but the one of the shortest delay have it in their name.
        """
        found: dict[Connection, str] = {}
        taken: set[tuple[str, int, int]] = set()
        for each in self.in_order:
            word, source, target, delay = each.place
            further = (word, source, target) in taken
            found[each] = projection(source, target, word=word, delay=delay if further else None)
            taken.add((word, source, target))
        return found

    @property
    def gains(self) -> tuple[tuple[int, int, float], ...]:
        """Source, target and gain of each backward connection that does not start with the paper's 1."""
        found = ((bc.source, bc.target, self.gain(bc)) for bc in self.in_order if bc.word == BACKWARD)
        return tuple((source, target, gain) for source, target, gain in found if gain is not None and gain != 1.0)

    def fingerprint(self) -> str:
        """A digest of the network alone (not of data, search or training): weights fit when it is equal.

        The gains of connections are not part of it: they are where weights start, not what they fit.
        """
        content = {
            "input": _plain(self.input),
            "steps": self.steps,
            "readout": self.readout,
            "norm": _plain(self.norm),
            "neuron": _plain(self.neuron),
            "backbone": self.backbone.digest,
            "backward": sorted(bc.key for bc in self.backward),
        }
        # What came later is left out where it is not used, so that older weights go on fitting.
        wired = [(*each.place, *_wiring(self, each)) for each in self.connections]
        if more := sorted(each for each in wired if each[0] != "backward" or each[4:] != _PLAIN):
            content["connections"] = more
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def __repr__(self) -> str:
        """One line: `bcgraph.format(spec)` has everything."""
        image = self.input
        shape = f"{image.kind}({', '.join(map(str, image.shape))})"
        shown = [str(bc) for bc in self.backward[:_SHOWN]]
        more = len(self.backward) - len(shown)
        backward = ", ".join([*shown, *([f"{more} more"] if more else [])]) or "none"
        forward = f", {len(self.forward)} forward" if self.forward else ""
        return (
            f"<NetworkSpec {self.name}: {shape}, T = {self.steps}, {self.backbone.call}, {len(self.ports)} ports, "
            f"backward: {backward}{forward}>"
        )

    __str__ = __repr__

    def _repr_svg_(self) -> str | None:
        """The picture that a notebook shows, as `bcgraph.draw` draws it."""
        import bcgraph

        return bcgraph.draw(self)

    def _key(self) -> tuple[Any, ...]:
        # A connection means the same whether the gain is its own or the network's.
        wired = {
            name: tuple(sorted((each.key, _wiring(self, each), self.gain(each)) for each in some))
            for name, some in (("backward", self.backward), ("forward", self.forward))
        }
        return tuple(wired.get(name, value) for name, value in self.__dict__.items())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, NetworkSpec) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())


_Kind = TypeVar("_Kind", bound=Connection)


def _connection(given: _Kind | tuple[int, ...], kind: type[_Kind]) -> _Kind:
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


def with_gain(body: Body, gain: float) -> Body:
    """A body whose last norm starts with that gain."""
    last = last_norm(body)
    if last is None:
        return body
    quiet = dataclasses.replace(last, norm=dataclasses.replace(last.norm, gain=gain))
    return changed(body, lambda layer: quiet if layer is last else layer)


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


_PLAIN = ("add", SPIKES, "")
"""How a connection is wired that has nothing but the paper's."""


def _wiring(spec: NetworkSpec, connection: Connection) -> tuple[str, str, str]:
    """Join, what is read, and a digest of the projection, whose gain does not count; empty for the paper's."""
    through = spec.through(connection)
    if isinstance(through, Projection):
        digest = "" if through.kernel == 1 else f"project(kernel={through.kernel})"
    else:
        digest = through.digest
    return connection.join, connection.read, digest


@cache
def _body() -> TypeAdapter[Body]:
    return TypeAdapter(Body)


def body_digest(body: Body) -> str:
    """A digest of an expanded backbone: names, layers and their settings, and nothing else."""
    return hashlib.sha256(_body().dump_json(body)).hexdigest()


def _dumped(data: dict[str, Any], **defaults: Any) -> dict[str, Any]:
    """`data` without what is at its default: settings that came later change no digest of what lacks them.

    The serializers that call this have no return type, which pydantic would take for the JSON schema.
    """
    return {name: value for name, value in data.items() if name not in defaults or value != defaults[name]}


def _plain(value: Any) -> Any:
    return TypeAdapter(type(value)).dump_python(value, mode="json")

"""The specification: what a `.bcg` file means, as frozen values.

`NetworkSpec` is the one value that travels: the language elaborates a text to it, search operators map it to
another one, the compiler lowers it. It is hashable and equal by content; where a value came from (its `span`)
takes no part in that. Nothing here imports torch.

A backbone's `body` is a tree: layers in the order of the data, with `Sum` and `Concat` nodes that hold
branches. Names in it are complete (`layer1.0.conv1`), since blocks are already expanded.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import field
from typing import Annotated, Any, Literal, TypeAlias

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
from bcgraph.equations.neuron import Equations
from bcgraph.equations.simplify import ONE
from bcgraph.errors import Span, SpecError
from bcgraph.names import DEFAULT_NEURON
from bcgraph.schema_search import EvolveSpec as EvolveSpec
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

_CONFIG = ConfigDict(extra="forbid", strict=True)

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

    A branch of fewer channels, or of one place, holds for all that it stands for: C/c channels each, and all places.
    """

    kind: Literal["mul"] = "mul"
    branches: tuple[tuple[LayerNode, ...], ...]


Join: TypeAlias = Sum | Concat | Product
"""What has branches."""

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
    """What a connection's projection is: nearest resize, 1x1 convolution, batch norm (paper eq. 6).

    `gain` is the first value of the norm's scale: with 1, as in the paper, the feedback is as loud as the forward
    current from the first step on; with 0.1 or 0 it starts quietly and the scale is learned.
    """

    gain: Gain = 1.0


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


@dataclass(frozen=True, order=True, config=_CONFIG)
class BackwardConnection:
    """The spikes of port `source` reach the current of port `target` after `delay` steps (paper eq. 6).

    `gain` is that of its projection, None for what the network says (`feedback`).
    """

    source: Annotated[int, Field(ge=0)]
    target: Annotated[int, Field(ge=0)]
    delay: Annotated[int, Field(ge=1, le=1_000)] = 1
    gain: Gain | None = None
    span: Annotated[Span | None, Field(exclude=True)] = field(default=None, repr=False, compare=False)

    @model_serializer(mode="wrap")
    def _without_defaults(self, dump: SerializerFunctionWrapHandler):  # type: ignore[no-untyped-def]
        return _dumped(dump(self), gain=None)

    def __str__(self) -> str:
        """By port number, as a file has it."""
        return f"@{self.source} -> @{self.target}{self.settings}"

    @property
    def settings(self) -> str:
        """The settings that follow in a file, ` { delay = 2; gain = 0.1 }`; empty where they are the defaults."""
        found = [f"delay = {self.delay}"] if self.delay > 1 else []
        found += [f"gain = {self.gain!r}"] if self.gain is not None else []
        return f" {{ {'; '.join(found)} }}" if found else ""


# --- Data and training: settings with the paper's values as defaults ---------------------------------


class DataSpec(Frozen):
    """Which data set, from where, and in which batches; `augment` says whether training changes samples at random."""

    name: str = "digits"
    root: str = "data"
    batch: PositiveInt = 128
    augment: bool = True


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
    of all outputs from the threshold.
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
    feedback: Projection = Projection()
    backbone: Backbone
    backward: tuple[BackwardConnection, ...] = ()
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
        seen: set[tuple[int, int]] = set()
        ports = len(self.backbone.ports)
        for bc in self.backward:
            pair = bc.source, bc.target
            error = (
                connections.unknown_number(bc.source, ports, bc.span)
                or connections.unknown_number(bc.target, ports, bc.span)
                or connections.runs_forward(*pair, bc.span)
                or (connections.repeated(*pair, bc.span) if pair in seen else None)
            )
            if error is not None:
                raise error
            seen.add(pair)
        if self.train.mean_squared and self.neuron.threshold is None:
            raise SpecError(
                "E041",
                f"`mean_squared` compares outputs with the threshold, which `{self.neuron.name}` does not have",
                hint="leave `mean_squared` out",
            )
        return self

    @model_serializer(mode="wrap")
    def _without_defaults(self, dump: SerializerFunctionWrapHandler):  # type: ignore[no-untyped-def]
        found = _dumped(dump(self), feedback=_plain(Projection()))
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
        fields = dict(self.__dict__)
        fields["backward"] = tuple(bc if isinstance(bc, BackwardConnection) else _connection(bc) for bc in backward)
        return NetworkSpec(**fields)

    def gain(self, connection: BackwardConnection) -> float:
        """The first scale of a connection's norm: its own, or the one that the network gives to all."""
        return self.feedback.gain if connection.gain is None else connection.gain

    @property
    def gains(self) -> tuple[tuple[int, int, float], ...]:
        """Source, target and gain of each connection that does not start with the paper's 1."""
        found = ((bc.source, bc.target, self.gain(bc)) for bc in sorted(self.backward))
        return tuple(each for each in found if each[2] != 1.0)

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
            "backward": sorted((bc.source, bc.target, bc.delay) for bc in self.backward),
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def __repr__(self) -> str:
        """One line: `bcgraph.format(spec)` has everything."""
        image = self.input
        shape = f"{image.kind}({', '.join(map(str, image.shape))})"
        shown = [str(bc) for bc in self.backward[:_SHOWN]]
        more = len(self.backward) - len(shown)
        backward = ", ".join([*shown, *([f"{more} more"] if more else [])]) or "none"
        return (
            f"<NetworkSpec {self.name}: {shape}, T = {self.steps}, {self.backbone.call}, {len(self.ports)} ports, "
            f"backward: {backward}>"
        )

    __str__ = __repr__

    def _repr_svg_(self) -> str | None:
        """The picture that a notebook shows, as `bcgraph.draw` draws it."""
        import bcgraph

        return bcgraph.draw(self)

    def _key(self) -> tuple[Any, ...]:
        # A connection means the same whether the gain is its own or the network's.
        wired = tuple(sorted((bc.source, bc.target, bc.delay, self.gain(bc)) for bc in self.backward))
        return tuple(wired if name == "backward" else value for name, value in self.__dict__.items())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, NetworkSpec) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())


def _connection(numbers: tuple[int, ...]) -> BackwardConnection:
    if len(numbers) not in (2, 3) or not all(type(n) is int for n in numbers):
        raise SpecError("E040", f"{numbers!r} is not (source, target) or (source, target, delay)")
    if min(numbers[:2]) < 0:
        raise SpecError("E060", f"there is no port @{min(numbers[:2])}", hint="ports count from 0")
    if len(numbers) == 3 and not 1 <= numbers[2] <= 1_000:
        raise SpecError("E063", f"a delay of {numbers[2]} steps is not possible", hint="allowed: 1 to 1000")
    source, target, delay = (*numbers, 1)[:3]
    return BackwardConnection(source, target, delay)


_BODY: TypeAdapter[Body] = TypeAdapter(Body)


def body_digest(body: Body) -> str:
    """A digest of an expanded backbone: names, layers and their settings, and nothing else."""
    return hashlib.sha256(_BODY.dump_json(body)).hexdigest()


def _dumped(data: dict[str, Any], **defaults: Any) -> dict[str, Any]:
    """`data` without what is at its default: settings that came later change no digest of what lacks them.

    The serializers that call this have no return type, which pydantic would take for the JSON schema.
    """
    return {name: value for name, value in data.items() if name not in defaults or value != defaults[name]}


def _plain(value: Any) -> Any:
    return TypeAdapter(type(value)).dump_python(value, mode="json")

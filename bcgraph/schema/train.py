"""How a network is trained: the section `train` of a file, with the paper's values as defaults."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from bcgraph.schema.values import Count, Frozen, NotNegative, Positive, PositiveInt, Probability, without_defaults


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
        return without_defaults(dump(self), mixup=0.0, teacher="", distill=0.5, temperature=2.0)

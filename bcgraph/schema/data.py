"""Which data a network is fed with: the line `data` of a file."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from bcgraph.errors import Span
from bcgraph.schema.values import Count, Frozen, PositiveInt, without_defaults


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
        return without_defaults(
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

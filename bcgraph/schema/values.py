"""The types of values that settings take, with their ranges, and marks on settings that the language reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, TypeAlias

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, WithJsonSchema
from pydantic.fields import FieldInfo

from bcgraph import plugins

PositiveInt: TypeAlias = Annotated[int, Field(ge=1, le=1_000_000)]
Count: TypeAlias = Annotated[int, Field(ge=0, le=1_000_000)]
Finite: TypeAlias = Annotated[float, Field(allow_inf_nan=False)]
Probability: TypeAlias = Annotated[float, Field(ge=0.0, le=1.0)]
# Far inside of float32, so that neither a square nor an inverse of it is zero or infinite there.
Positive: TypeAlias = Annotated[float, Field(ge=1e-12, le=1e12)]
NotNegative: TypeAlias = Annotated[float, Field(ge=0.0, le=1e12)]
Gain: TypeAlias = Annotated[float, Field(ge=0.0, le=100.0)]
Scalar: TypeAlias = bool | int | float | str
Sizes: TypeAlias = PositiveInt | tuple[PositiveInt, PositiveInt]
"""One size for rows and columns, or one for each."""
Counts: TypeAlias = Count | tuple[Count, Count]
"""As `Sizes`, from 0."""


@dataclass(frozen=True, slots=True)
class Own:
    """Marks a field that is no setting itself, but holds those of what another setting names."""


@dataclass(frozen=True, slots=True)
class Named:
    """Marks a word that is one of the language's `own`, or the name of something registered."""

    kind: plugins.Kind
    own: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Statements:
    """Marks a setting that is written as `name { ... }` with statements of its own."""


def has_statements(field: FieldInfo) -> bool:
    """Whether a setting has the mark `Statements`."""
    return any(isinstance(mark, Statements) for mark in field.metadata)


def name_of(kind: plugins.Kind, *own: str) -> Any:
    """The type of a word that is one of `own`, or the name of something registered of that kind."""

    def known(name: str) -> str:
        if name not in own and plugins.find(kind, name) is None:
            raise ValueError(f"there is no {kind} `{name}`")
        return name

    registered = {"type": "string", "description": f"a registered {kind}"}
    shown = {"anyOf": [{"enum": list(own), "type": "string"}, registered]}
    return Annotated[str, Named(kind, own), AfterValidator(known), WithJsonSchema(shown)]


class Frozen(BaseModel):
    """A group of settings: frozen, and with no field that it does not declare."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, defer_build=True)


CONFIG = ConfigDict(extra="forbid", strict=True, defer_build=True)
"""How the values that are not settings are checked."""


def without_defaults(data: dict[str, Any], **defaults: Any) -> dict[str, Any]:
    """`data` without what is at its default: settings that came later change no digest of what lacks them.

    The serializers that call this have no return type, which pydantic would take for the JSON schema.
    """
    return {name: value for name, value in data.items() if name not in defaults or value != defaults[name]}

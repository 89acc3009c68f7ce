"""The kinds of values that settings and arguments take, read off the schema, so that ranges stand in one place."""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Literal, TypeAlias, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from bcgraph import plugins, schema
from bcgraph.dsl.wording import one_of
from bcgraph.schema.values import Named, Own


@dataclass(frozen=True, slots=True)
class Integer:
    """A whole number in a closed range."""

    low: int | None = None
    high: int | None = None


@dataclass(frozen=True, slots=True)
class Real:
    """A number in a range that may be open at either end."""

    low: float | None = None
    high: float | None = None
    low_open: bool = False
    high_open: bool = False


@dataclass(frozen=True, slots=True)
class Flag:
    """`true` or `false`."""


@dataclass(frozen=True, slots=True)
class Text:
    """A string in double quotes."""


@dataclass(frozen=True, slots=True)
class Word:
    """One of several words, or the name of something `registered` of that kind."""

    options: tuple[str, ...]
    registered: plugins.Kind | None = None


@dataclass(frozen=True, slots=True)
class Words:
    """A list of different words, or of names of something `registered` of that kind."""

    options: tuple[str, ...]
    registered: plugins.Kind | None = None


@dataclass(frozen=True, slots=True)
class Either:
    """A number, or one of several words."""

    number: Integer
    word: Word


@dataclass(frozen=True, slots=True)
class Sizes:
    """A number for rows and columns, or a list of one for each."""

    number: Integer


@dataclass(frozen=True, slots=True)
class Called:
    """A call of one of several names, each with settings of its own."""

    options: tuple[tuple[str, type], ...]


Kind: TypeAlias = Integer | Real | Flag | Text | Word | Words | Either | Sizes | Called

# How a call names these; the others are named by their `kind`.
_CALL_NAMES: Mapping[type, str] = {schema.Norm: "bn", schema.Projection: "project"}

# The fields of a class that are set by something else than an argument.
_NOT_WRITTEN = frozenset({"kind", "name", "span", "norm", "neuron"})


def fields(model: type) -> dict[str, FieldInfo]:
    """The fields of a pydantic model or dataclass that are settings."""
    if issubclass(model, BaseModel):
        marked = (Own,)
        return {n: f for n, f in model.model_fields.items() if not any(isinstance(m, marked) for m in f.metadata)}
    found: dict[str, FieldInfo] = model.__pydantic_fields__  # type: ignore[attr-defined]
    return dict(found)


@cache
def arguments(model: type) -> tuple[tuple[str, Kind, bool], ...]:
    """Name, kind and whether it is required, of what a call that makes a `model` takes, in the order of position."""
    return tuple(
        (name, kind_of(field), field.is_required()) for name, field in fields(model).items() if name not in _NOT_WRITTEN
    )


def kind_of(field: FieldInfo) -> Kind:
    """The kind of a field's values."""
    return _kind(field.annotation, field.metadata)


def call_name(model: type) -> str:
    """The name under which a call makes a `model`."""
    return _CALL_NAMES.get(model) or str(fields(model)["kind"].default)


def _kind(annotation: Any, metadata: list[Any]) -> Kind:
    origin = get_origin(annotation)
    if origin is Annotated:
        inner, *more = get_args(annotation)
        return _kind(inner, [m for item in more for m in (item.metadata if isinstance(item, FieldInfo) else [item])])
    if origin is Literal:
        return Word(get_args(annotation))
    if origin is tuple:
        entry = _kind(get_args(annotation)[0], [])
        assert isinstance(entry, Word)
        return Words(entry.options, entry.registered)
    if origin in (Union, types.UnionType):
        # None stands for a setting that is not given.
        options = tuple(option for option in get_args(annotation) if option is not types.NoneType)
        if len(options) == 1:
            return _kind(options[0], [])
        # What a block of the user's describes is called by the block's own name.
        options = tuple(option for option in options if option is not schema.OwnProjection)
        if all(isinstance(option, type) for option in options):
            return Called(tuple((call_name(option), option) for option in options))
        if get_origin(options[1]) is tuple:
            size = _kind(options[0], [])
            assert isinstance(size, Integer)
            return Sizes(size)
        number, word = (_kind(option, []) for option in options)
        assert isinstance(number, Integer)
        assert isinstance(word, Word)
        return Either(number, word)
    if annotation is bool:
        return Flag()
    if annotation is str:
        mark = next((each for each in metadata if isinstance(each, Named)), None)
        return Text() if mark is None else Word(mark.own, mark.kind)
    if annotation in (int, float):
        return _number(annotation, metadata)
    return Called(((call_name(annotation), annotation),))


def _number(annotation: type, metadata: list[Any]) -> Kind:
    low: Any = None
    high: Any = None
    low_open = high_open = False
    for limit in metadata:
        match limit:
            case Ge():
                low = limit.ge
            case Gt():
                low, low_open = limit.gt, True
            case Le():
                high = limit.le
            case Lt():
                high, high_open = limit.lt, True
            case _:
                pass  # That a number is finite, which every number in a text is.
    if annotation is int:
        return Integer(low, high)
    return Real(low, high, low_open, high_open)


def describe(kind: Kind) -> str:
    """What a kind takes, in plain words: `a whole number from 1 to 1000`."""
    match kind:
        case Integer():
            return f"a whole number{_prefixed(_range(kind.low, kind.high))}"
        case Real():
            return f"a number{_prefixed(allowed_range(kind))}"
        case Flag():
            return "`true` or `false`"
        case Text():
            return "a string in double quotes"
        case Word():
            return one_of(kind.options)
        case Words():
            return f"a list of any of {', '.join(f'`{o}`' for o in kind.options)}"
        case Either():
            return f"{describe(kind.number)}, or {describe(kind.word)}"
        case Sizes():
            return f"{describe(kind.number)}, or a list of two"
        case Called():
            return one_of(tuple(f"{name}(...)" for name, _ in kind.options))


def allowed_range(kind: Integer | Real) -> str:
    """The range of a number in plain words: `1 to 1000`, `more than 0`."""
    if isinstance(kind, Integer):
        return _range(kind.low, kind.high)
    if not kind.low_open and not kind.high_open:
        return _range(kind.low, kind.high)
    parts = []
    if kind.low is not None:
        parts.append(f"{'more than' if kind.low_open else 'at least'} {_plain(kind.low)}")
    if kind.high is not None:
        parts.append(f"{'less than' if kind.high_open else 'at most'} {_plain(kind.high)}")
    return " and ".join(parts)


def _range(low: float | None, high: float | None) -> str:
    if low is None and high is None:
        return ""
    if high is None:
        return f"at least {_plain(low)}"
    return f"at most {_plain(high)}" if low is None else f"{_plain(low)} to {_plain(high)}"


def _plain(value: float | None) -> str:
    if isinstance(value, float) and value >= 1e9:
        return f"{value:g}".replace("e+", "e")
    return str(int(value)) if value is not None and float(value).is_integer() else str(value)


def _prefixed(text: str) -> str:
    if not text:
        return ""
    return f" from {text}" if text[0].isdigit() else f", {text}"


def section(annotation: Any) -> type[BaseModel] | None:
    """The settings of a type that is written as `name { ... }`, also where it may be left out; else None."""
    if get_origin(annotation) in (Union, types.UnionType):
        options = [option for option in get_args(annotation) if option is not types.NoneType]
        return section(options[0]) if len(options) == 1 else None
    group = isinstance(annotation, type) and issubclass(annotation, BaseModel) and "kind" not in annotation.model_fields
    return annotation if group else None

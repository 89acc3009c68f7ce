"""What a data set declares of itself, so that a network can be checked against it before anything is read.

Nothing here imports numpy or torch: `bcgraph check` asks it.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from bcgraph import shapes
from bcgraph.errors import DataError
from bcgraph.plugins import standard
from bcgraph.schema import DataSpec, InputSpec, NetworkSpec

Kind: TypeAlias = Literal["image", "sequence", "signal", "vector"]

# What the sizes of an input are called where a data set feeds any.
_LETTERS = {1: ("F",), 2: ("C", "L"), 3: ("C", "H", "W")}


@dataclass(frozen=True, slots=True)
class Form:
    """An input that a data set feeds: the word of the language, its sizes and the steps, None where any will do."""

    kind: Kind
    sizes: tuple[int | None, ...]
    steps: int | None = None

    def takes(self, form: InputSpec) -> bool:
        """Whether a network with this input can be fed, whatever its steps."""
        return (
            form.kind == self.kind
            and len(form.shape) == len(self.sizes)
            and all(mine is None or mine == its for mine, its in zip(self.sizes, form.shape, strict=True))
        )

    def told(self, form: InputSpec | None = None) -> str:
        """As the language writes it, with the sizes of `form` where any will do and it has as many."""
        like = form.shape if form is not None and len(form.shape) == len(self.sizes) else _LETTERS[len(self.sizes)]
        sizes = (str(its if mine is None else mine) for mine, its in zip(self.sizes, like, strict=True))
        return f"{self.kind}({', '.join(sizes)})"


def image(channels: int | None, height: int | None = None, width: int | None = None) -> Form:
    """Still images; of any size unless one is given."""
    return Form("image", (channels, height, width))


def sequence(*sizes: int | None, steps: int | None = None) -> Form:
    """Sequences of frames `(C, H, W)`, `(C, L)` or `(F,)`, as many as `steps`."""
    return Form("sequence", sizes, steps)


@dataclass(frozen=True, slots=True)
class Declaration:
    """A data set of bcgraph itself.

    `about` says in a line what it is, `found` what lies in `root`. `load` is the path of the function that reads it,
    `module:name`, called with a `Request`. `forms` are the inputs that it feeds, or a function that says so of the
    settings; empty where the files say. `classes`, `train` and `test` are the published numbers. Of the settings that
    only some data sets have, `settings` are those that this one has; `sizes` are the values
    of `size`. `changes` names what training does to samples.
    """

    about: str
    load: str
    forms: tuple[Form, ...] | Callable[[DataSpec], tuple[Form, ...]] = ()
    found: str = "nothing"
    classes: int | None = None
    train: int | None = None
    test: int | None = None
    settings: tuple[str, ...] = ()
    sizes: tuple[int, ...] = ()
    changes: str = "none"

    def forms_of(self, data: DataSpec) -> tuple[Form, ...]:
        """The inputs that it feeds with these settings."""
        return self.forms(data) if callable(self.forms) else self.forms

    @property
    def loader(self) -> Callable[..., object]:
        """The function that reads it; importing it may import numpy and torch."""
        module, _, name = self.load.partition(":")
        found: Callable[..., object] = getattr(importlib.import_module(module), name)
        return found


OPTIONAL: Mapping[str, object] = {
    name: DataSpec.model_fields[name].default for name in ("download", "size", "held_out")
}
"""The settings that only some data sets have, with their values where they are not given."""


def names() -> tuple[str, ...]:
    """The names of all data sets of bcgraph itself."""
    return standard.names("data")


def find(name: str) -> Declaration | None:
    """The declaration of a data set of bcgraph itself; None for any other name."""
    if name not in names():
        return None
    found: Declaration = standard.module("data", name).DATA_SET
    return found


def check(data: DataSpec, form: InputSpec, steps: int, classes: int | None = None) -> None:
    """Raise DataError (E081) unless a network with this input, these steps and outputs can be fed.

    A data set that is not declared is not checked. E035 is a setting that the data set does not have.
    """
    check_changes(data, form)
    declared = find(data.name)
    if declared is None:
        return
    for name, default in OPTIONAL.items():
        if name not in declared.settings and getattr(data, name) != default:
            has = ", ".join(f"`{each}`" for each in declared.settings)
            raise DataError(
                "E035",
                f"`{name}` is not a setting of the data set `{data.name}`",
                span=data.span,
                hint=f"beside those of all data sets it has {has}" if has else "leave it out",
            )
    if data.size and data.size not in declared.sizes:
        raise DataError(
            "E041",
            f"the data set `{data.name}` cannot have a `size` of {data.size}",
            span=data.span,
            hint=f"it has {', '.join(map(str, declared.sizes))}",
        )
    forms = declared.forms_of(data)
    fitting = [each for each in forms if each.takes(form)]
    if forms and not fitting:
        wanted = " or ".join(each.told(form) for each in forms)
        given = f"{form.kind}({', '.join(map(str, form.shape))})"
        raise DataError(
            "E081",
            f"the data set `{data.name}` is {wanted}, but the network takes {given}",
            span=data.span,
            hint=f"write `input = {forms[0].told(form)}`",
        )
    needed = [each.steps for each in fitting]
    if needed and None not in needed and steps not in needed:
        raise DataError(
            "E081",
            f"the data set `{data.name}` has {needed[0]} frames, but the network takes {steps} steps",
            span=data.span,
            hint=f"write `steps = {needed[0]}`",
        )
    if classes is not None and declared.classes is not None and classes != declared.classes:
        raise too_many_or_few(data, declared.classes, classes)


def check_changes(data: DataSpec, form: InputSpec) -> None:
    """Raise DataError (E041) for changes of training samples that this input cannot have."""
    shape, kind = form.shape, form.kind
    changes = (
        ("cutout", data.cutout, len(shape) == 3, "images and frames"),
        (
            "autoaugment",
            data.autoaugment != "none",
            kind == "image" and shape[0] in (1, 3),
            "images of 1 or 3 channels",
        ),
        ("events", data.events != "none", kind == "sequence" and len(shape) == 3, "sequences of frames"),
    )
    for name, asked, fits, what in changes:
        if asked and not fits:
            raise DataError(
                "E041",
                f"`{name}` changes {what}, but the network takes {kind}({', '.join(map(str, shape))})",
                span=data.span,
                hint=f"leave `{name}` out",
            )


def check_network(spec: NetworkSpec) -> None:
    """Raise DataError (E035, E081) unless the data set that a file names feeds the network that it describes."""
    if spec.data.span is not None:
        check(spec.data, spec.input, spec.steps, shapes.outputs(spec))


def too_many_or_few(data: DataSpec, classes: int, outputs: int) -> DataError:
    """The error (E081) of a network that has not one output for each class."""
    return DataError(
        "E081",
        f"the data set `{data.name}` has {classes} classes, but the network has {outputs} outputs",
        span=data.span,
        hint=f"write `classes = {classes}`",
    )

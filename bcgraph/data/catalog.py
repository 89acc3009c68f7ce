"""Loading a data set by its name: one of `bcgraph.data.sets`, or a registered one."""

from __future__ import annotations

import importlib
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from bcgraph import plugins
from bcgraph.data.sources import DataSet, Floats, Integers, Loader, Request
from bcgraph.errors import DataError, nearest
from bcgraph.lazy import modules
from bcgraph.schema import DataSpec, ImageInput, InputSpec, SequenceInput, SignalInput, VectorInput

if TYPE_CHECKING:
    from bcgraph.data.split import Splits


@dataclass(frozen=True, eq=False)
class Arrays:
    """One part of a data set as numpy: `inputs` `[N, C, H, W]` or `[T, N, C, H, W]`, normalized, and `labels` `[N]`."""

    inputs: Floats
    labels: Integers
    classes: tuple[str, ...]


def names() -> tuple[str, ...]:
    """The names of all data sets of bcgraph itself."""
    return modules("bcgraph", "data/sets")


def _form(name: str) -> tuple[InputSpec, int] | None:
    """The input and the steps of a network for a data set that has one form only."""
    found: tuple[InputSpec, int] | None = getattr(_own(name), "FORM", None) if name in names() else None
    return found


def _own(name: str) -> Any:
    return importlib.import_module(f"bcgraph.data.sets.{name}")


def read(data: DataSpec, form: InputSpec, steps: int) -> DataSet:
    """The data set that `data` names, for a network with this input and these steps, without torch.

    A registered one may need torch. Raises DataError: E080 for an unknown name, E081 when it is missing, damaged or
    does not fit the network; PluginError (E095) when what was registered fails.
    """
    loader = _loader(data.name)
    shape = form.shape
    root = _expanded(data.root)
    try:
        return loader(Request(root, shape, isinstance(form, SequenceInput), steps))
    except OSError as error:
        raise DataError(
            "E081",
            f"the data set `{data.name}` cannot be read: {(error.strerror or str(error)).lower()}",
            notes=(f"looked in `{error.filename or root.absolute()}`",),
            hint="check that you may read it, and that the disk is in order",
        ) from error


def _loader(name: str) -> Loader:
    if name in names():
        return cast("Loader", _own(name).load)
    entry = plugins.find("data", name)
    if entry is None:
        known = (*names(), *(e.name for e in plugins.REGISTRY.entries() if e.kind == "data"))
        raise DataError(
            "E080",
            f"there is no data set `{name}`",
            hint=nearest(name, known) or f"the data sets are {', '.join(known)}",
        )
    return partial(_registered, entry)


def _registered(entry: plugins.Entry, request: Request) -> DataSet:
    """What was registered as a data set, for a network."""
    source: Any = entry.value.source
    with plugins.calling(entry):
        found = source(request) if entry.value.takes_request else source
        if isinstance(found, DataSet):
            return found
        if not hasattr(found, "__getitem__") or not hasattr(found, "__len__"):
            raise DataError(
                "E081",
                f"{entry.title} is neither a `DataSet` nor a torch Dataset, but {type(found).__name__}",
                notes=(f"it is registered by {entry.origin}",),
            )
        from bcgraph.data.torch_dataset import from_torch

        static = {1: VectorInput, 2: SignalInput, 3: ImageInput}[len(request.shape)]
        kind = SequenceInput if request.sequence else static
        return replace(from_torch(found, None, kind(*request.shape), request.steps, None)[0], name=entry.name)


def _expanded(root: str) -> Path:
    """The path of a root, with `~` as the shell reads it."""
    try:
        return Path(root).expanduser()
    except RuntimeError:  # there is no such user, or no home
        return Path(root)


def load(data: DataSpec, form: InputSpec, steps: int) -> Splits:
    """The training and the test part as torch tensors, for a network with this input and these steps.

    Raises DataError: E080 for an unknown name, E081 when it is missing, damaged or does not fit the network.
    """
    from bcgraph.data.split import Splits

    return Splits.of(read(data, form, steps), augment=data.augment)


def arrays(
    name: str,
    *,
    root: str = "data",
    form: InputSpec | None = None,
    steps: int | None = None,
    part: str = "test",
) -> Arrays:
    """The test (or "train") part of a data set as numpy arrays, normalized as for training; imports no torch.

    `form` and `steps` are those of the network; `digits` and `digits_rows` have a form of their own and need none.
    Raises DataError (E080, E081).
    """
    own = _form(name)
    if own is None and name in names() and (form is None or steps is None):
        raise DataError("E081", f"the data set `{name}` is read for a network: its input and steps are needed")
    known_form, known_steps = own or (ImageInput(1, 1, 1), 1)
    found = read(DataSpec(name=name, root=root), form or known_form, known_steps if steps is None else steps)
    chosen = {"train": found.train, "test": found.test}[part]
    inputs = found.prepare(chosen.samples.take(np.arange(len(chosen.labels))))
    if inputs.ndim == 5:
        inputs = np.ascontiguousarray(inputs.swapaxes(0, 1))
    return Arrays(inputs, chosen.labels, found.classes)

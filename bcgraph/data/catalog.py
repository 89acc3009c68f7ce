"""Loading a data set by its name: one of `bcgraph.data.sets`, or a registered one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from bcgraph import files, keys, plugins
from bcgraph.data import declaration
from bcgraph.data.declaration import names as names
from bcgraph.data.sources import DataSet, Floats, Integers, Loader, Request
from bcgraph.errors import DataError, nearest
from bcgraph.schema import DataSpec, ImageInput, InputSpec, SequenceInput, SignalInput, VectorInput

if TYPE_CHECKING:
    from bcgraph.data.split import Splits


@dataclass(frozen=True, eq=False)
class Arrays:
    """One part of a data set as numpy: `inputs` `[N, C, H, W]` or `[T, N, C, H, W]`, normalized, and `labels` `[N]`."""

    inputs: Floats
    labels: Integers
    classes: tuple[str, ...]


def read(data: DataSpec, form: InputSpec, steps: int) -> DataSet:
    """The data set that `data` names, for a network with this input and these steps, without torch.

    A registered one may need torch. Raises DataError: E080 for an unknown name, E081 when it is missing, damaged or
    does not fit the network; PluginError (E095) when what was registered fails.
    """
    loader = _loader(data.name)
    declaration.check(data, form, steps)
    root = files.expanded(data.root)
    try:
        found = loader(Request(root, form.shape, isinstance(form, SequenceInput), steps, data))
    except OSError as error:
        raise DataError(
            "E081",
            f"the data set `{data.name}` cannot be read: {(error.strerror or str(error)).lower()}",
            notes=(f"looked in `{error.filename or root.absolute()}`",),
            hint="check that you may read it, and that the disk is in order",
        ) from error
    _check_parts(found)
    # They may be names of folders, and are written into files.
    return replace(found, form=form, classes=tuple(map(files.escaped, found.classes)))


def _check_parts(found: DataSet) -> None:
    """Raise DataError (E081) for a part without samples, and for labels that are not those of a class."""
    for what, part in (("training", found.train), ("test", found.test)):
        labels = np.asarray(part.labels)
        if not len(labels):
            problem = f"its {what} part has no samples"
        elif labels.ndim != 1 or labels.dtype.kind not in "iu":
            problem = f"its {what} part has labels of the shape {list(labels.shape)} and type {labels.dtype}"
        elif labels.min() < 0 or labels.max() >= len(found.classes):
            wrong = labels.min() if labels.min() < 0 else labels.max()
            problem = f"its {what} part has the label {wrong}, but there are {len(found.classes)} classes"
        else:
            continue
        raise DataError("E081", f"the data set `{found.name}`: {problem}", hint="get it again, or mend what reads it")


def _loader(name: str) -> Loader:
    declared = declaration.find(name)
    if declared is not None:
        return cast("Loader", declared.loader)
    entry = plugins.find("data", name)
    if entry is None:
        known = (*declaration.names(), *(e.name for e in plugins.REGISTRY.entries() if e.kind == "data"))
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


def load(data: DataSpec, form: InputSpec, steps: int) -> Splits:
    """The training and the test part as torch tensors, for a network with this input and these steps.

    Raises DataError: E080 for an unknown name, E081 when it is missing, damaged or does not fit the network.
    """
    from bcgraph.data.policies import changes
    from bcgraph.data.split import Splits

    source = read(data, form, steps)
    found = Splits.of(replace(source, augment=changes(data, source)))
    train, test = (
        part.few(number, keys.derive(0, "some of a part", name)) if number else part
        for name, part, number in (("train", found.train, data.train), ("test", found.test, data.test))
    )
    return replace(found, train=train, test=test)


def arrays(
    name: str,
    *,
    root: str = "data",
    form: InputSpec | None = None,
    steps: int | None = None,
    part: str = "test",
) -> Arrays:
    """The test (or "train") part of a data set as numpy arrays, normalized as for training; imports no torch.

    `form` and `steps` are those of the network; data sets with one form, such as `digits`, need none.
    Raises DataError (E080, E081).
    """
    form, steps = _asked(name, form, steps)
    found = read(DataSpec(name=name, root=root), form, steps)
    chosen = {"train": found.train, "test": found.test}[part]
    inputs = found.batch(chosen.samples.take(np.arange(len(chosen.labels))))
    return Arrays(inputs, chosen.labels, found.classes)


def _asked(name: str, form: InputSpec | None, steps: int | None) -> tuple[InputSpec, int]:
    """The input and the steps that were given, or those of a data set that has one form only."""
    declared = declaration.find(name)
    if form is not None and steps is not None:
        return form, steps
    only = declared.forms_of(DataSpec(name=name)) if declared is not None else ()
    if len(only) == 1 and None not in only[0].sizes and (only[0].steps or only[0].kind != "sequence"):
        kinds: dict[str, type[Any]] = {"image": ImageInput, "sequence": SequenceInput}
        return form or kinds[only[0].kind](*only[0].sizes), steps or only[0].steps or 1
    if declared is not None:
        raise DataError("E081", f"the data set `{name}` is read for a network: its input and steps are needed")
    return form or ImageInput(1, 1, 1), steps or 1

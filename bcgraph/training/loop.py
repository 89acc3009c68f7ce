"""Train a network: epochs over keyed batches, a checkpoint after each, resumable to the bit.

An update follows from the specification, the seed, the epoch and the step alone. A run that is stopped, by Ctrl-C or a
kill, resumes after its last whole epoch and ends with the weights that it would have had.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from contextlib import ExitStack
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bcgraph import data, files
from bcgraph import weights as weight_files
from bcgraph.compiler import compile as compile_network
from bcgraph.data import Splits
from bcgraph.data.torch_dataset import Given, MapDataset, identified
from bcgraph.errors import BcgraphWarning, DataError
from bcgraph.nn.defaults import ordinary_defaults
from bcgraph.nn.determinism import generators_kept
from bcgraph.schema import NetworkSpec
from bcgraph.training import checks, tensorboard_log
from bcgraph.training.distributed.devices import one_at_a_time, process_group
from bcgraph.training.distributed.process_group import destroyed_on_error, on_rank_zero
from bcgraph.training.distributed.sync_batch_norm import synchronize
from bcgraph.training.ema import EMA
from bcgraph.training.events import Progress, TrainResult
from bcgraph.training.losses.teacher import Teacher, of_module
from bcgraph.training.losses.teacher import load as load_teacher
from bcgraph.training.options import Options
from bcgraph.training.session import TrainingRun

PUBLISHED = "torchvision:"

# Settings of the data that a checkpoint has under other names, or that do not change what is trained on.
_NAMED = frozenset(("name", "root", "batch", "augment", "download"))


def train(
    spec: NetworkSpec,
    dataset: Given | None = None,
    test: MapDataset | None = None,
    *,
    out: str | PathLike[str],
    seed: int = 0,
    epochs: int | None = None,
    schedule: str | None = None,
    weights: str | PathLike[str] | Mapping[str, Tensor] | None = None,
    partial: bool = False,
    progress: Progress | None = None,
    resume: bool = True,
    device: str = "cpu",
    options: Options | None = None,
    splits: Splits | None = None,
    tensorboard: bool = False,
    teacher: nn.Module | None = None,
) -> TrainResult:
    """Train the network of `spec` as it says and keep the run in the directory `out`.

    The data are those that `spec` names, or `dataset`: any map-style torch `Dataset`, or a pair (train, test). Its
    items are (x, y): x `[C, H, W]`, for a sequence `[T, C, H, W]`, a tensor or numpy array of floats, taken as they
    are, or of uint8, scaled to [0, 1]; y an int below the number of outputs. Without `test`, a fixed 20 % of each
    class are held out for the test, the same for every seed. Every item is read once and checked before anything is
    written, then again in each epoch; random transforms follow from the seed, the epoch and the item. `splits` are a
    data set of `bcgraph.data`.

    The run consists of `spec.bcg`, `state.safetensors` (to resume from), `last.safetensors`, `best.safetensors` (best
    test accuracy), `log.csv`, and with `tensorboard` a folder of that name. A run that `out` holds already is resumed,
    or with `resume=False` begun anew. `weights` are the first ones: a file, a state dict, or `torchvision:NAME` for
    published ones, of which those that do not fit are left out with a BcgraphWarning that lists them; with `partial`
    so are those of any file, as of an ANN that is fine-tuned. `epochs` overrides that of `spec`. Without a `schedule`
    the fastest is chosen. `progress` is called with a `Step` after each update and an `Epoch` after each epoch.
    `teacher` is a module that maps samples, as the network takes them, to outputs `[N, classes]`, in place of the one
    that `spec.train` names; it moves to the device.

    Raises CompileError (E072) for a schedule that cannot be trained with, DataError (E080, E081), WeightsError (E082,
    E083), RunError: E041 when a batch is too small for its parts, E074 when the machine has no such devices, or
    several are asked for beside the main thread, E084 when a file cannot be written, E085 when `out` holds another run,
    E086 when it is in use, E088 when the loss is not finite, E092 when TensorBoard is not installed. KeyboardInterrupt
    passes, with the last whole epoch kept.
    """
    options = options or Options(accelerator=device)
    with ordinary_defaults(), one_at_a_time(options):
        if schedule is not None:
            checks.schedule(schedule)
        checks.directory(Path(out))
        if tensorboard:
            tensorboard_log.check()
        spec = spec if epochs is None else _with_epochs(spec, epochs)
        splits, identity = _data(spec, dataset, test, splits)
        checks.classes(spec, splits.classes)
        given = _given(weights)
        checks.batch(spec, options.devices)
        checks.samples(splits.train, spec.data.batch, options.devices)
        # A projection that no step reads has parameters without a gradient.
        unread = any(c.delay >= spec.steps for c in spec.connections)
        group = process_group(options, captured=options.graphs == "on", find_unused_parameters=unread)
        model = compile_network(spec, schedule=schedule, dtype=options.dtype, device=group.device, seed=seed)
        if given is not None:
            fit = weight_files.apply(model, given, partial=partial or _is_published(weights))
            if not fit:
                warnings.warn(BcgraphWarning("\n".join((f"not all of {weights} fits", *fit.lines()))), stacklevel=2)
        taught = _teacher(spec, splits, teacher, group.device, options.dtype)
        if group.world_size > 1:
            synchronize(model)
        with destroyed_on_error(group), ExitStack() as held, generators_kept():
            # Of several processes one writes, so one holds the directory.
            on_rank_zero(group, lambda: held.enter_context(files.locked(out)))
            run = TrainingRun(
                spec,
                Path(out),
                seed,
                {
                    **_identity(spec, seed, model.meta["schedule"], options, given),
                    **identity,
                    **({} if taught is None else {"teacher": taught.digest}),
                },
                splits,
                options,
                group,
                model,
                progress or _ignore,
                EMA(model, spec.train.ema),
                tensorboard,
                taught,
            )
            return run.run(resume=resume)


def _data(
    spec: NetworkSpec, dataset: Given | None, test: MapDataset | None, splits: Splits | None
) -> tuple[Splits, dict[str, str]]:
    """The data to train with, and what a checkpoint keeps of data that `spec` does not name."""
    if dataset is None:
        if test is not None:
            raise DataError("E081", "a test dataset needs a dataset to train with", hint="train(spec, dataset, test)")
        found = splits or data.load(spec.data, spec.input, spec.steps)
        return found, {} if found.held_out == "test" else {"held_out": found.held_out}
    if splits is not None:
        raise DataError("E081", "both a dataset and `splits` are given", hint="give one of them")
    return identified(spec, dataset, test)


def _teacher(
    spec: NetworkSpec, splits: Splits, module: nn.Module | None, device: torch.device, dtype: torch.dtype
) -> Teacher | None:
    if module is not None:
        return of_module(module, device, dtype)
    return load_teacher(spec, device, dtype, splits.train.source.normalization())


def _is_published(weights: object) -> bool:
    return isinstance(weights, str | PathLike) and str(weights).startswith(PUBLISHED)


def _given(weights: str | PathLike[str] | Mapping[str, Tensor] | None) -> Mapping[str, Tensor] | None:
    if not isinstance(weights, str | PathLike):
        return weights
    if _is_published(weights):
        return weight_files.published(str(weights).removeprefix(PUBLISHED))
    return weight_files.load(weights)


def _identity(
    spec: NetworkSpec, seed: int, schedule: str, options: Options, given: Mapping[str, Tensor] | None
) -> dict[str, Any]:
    """What two runs must have in common for one to resume from the checkpoint of the other."""
    described = weight_files.describe(spec)
    initial = None if given is None else weight_files.fingerprint(given)
    return {
        **described,
        **{f"train.{key}": value for key, value in spec.train.model_dump(mode="json").items()},
        "data": spec.data.name,
        "batch": spec.data.batch,
        "augment": spec.data.augment,
        **{f"data.{key}": value for key, value in spec.data.model_dump(mode="json").items() if key not in _NAMED},
        "seed": seed,
        "schedule": schedule,
        **_precision(options),
        "weights": initial,
        # Left out where all scales start at 1, as in checkpoints from before there was a choice.
        **({"gains": ", ".join(f"{j}->{i}: {gain!r}" for j, i, gain in spec.gains)} if spec.gains else {}),
    }


def _precision(options: Options) -> dict[str, Any]:
    """What changes the numbers. A captured step has those of a plain one, and a checkpoint resumes with either."""
    found = {"devices": options.devices, "precision": options.precision}
    # Left out where convolutions may use TF32, as in checkpoints from before there was a choice.
    return found if options.tf32 else {**found, "tf32": False}


def _with_epochs(spec: NetworkSpec, epochs: int) -> NetworkSpec:
    fields = dict(spec.__dict__)
    fields["train"] = type(spec.train)(**{**spec.train.__dict__, "epochs": epochs})
    return NetworkSpec(**fields)


def _ignore(_: object) -> None:
    pass

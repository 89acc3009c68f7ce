"""The devices that a training runs on, through Lightning Fabric."""

from __future__ import annotations

import warnings
from typing import Any

from lightning.fabric import Fabric
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.strategies.ddp import DDPStrategy
from lightning.fabric.utilities.exceptions import MisconfigurationException

from bcgraph.errors import RunError
from bcgraph.training.options import FABRIC, Options


def fabric_of(options: Options, *, started: bool = False, **ddp: Any) -> Fabric:
    """Lightning Fabric for `options`. With several devices the processes that share the work are running after this.

    Fabric starts them by running this program's command line again; `torchrun` and cluster launchers work too. Where
    they are `started` already (by `bcgraph.training.distributed.launcher`) no launcher is looked for. `ddp` are
    settings of torch's DistributedDataParallel. Raises RunError (E074) when this machine has no such devices, or not so
    many, or they cannot compute in that precision.
    """
    fabric = _fabric(options, DDPStrategy(**ddp) if options.devices > 1 else "auto", started)
    # Where a device lacks a precision, Fabric takes another one and goes on.
    if fabric.strategy.precision.precision != FABRIC[options.precision]:
        raise RunError(
            "E074",
            f"the precision `{options.precision}` cannot be computed on `{fabric.device.type}`",
            hint="half precision needs a GPU; `bf16-mixed` runs everywhere",
        )
    if options.devices > 1:
        fabric.launch()
    return fabric


def kind(options: Options) -> str:
    """What the devices are, `cpu`, `cuda` or `mps`, where `auto` leaves it open; nothing is started.

    Raises RunError (E074) when this machine has no such devices, or not so many.
    """
    # Some strategy has to be named, and the one of Fabric's choice is allowed in a notebook too.
    return _fabric(options, "auto", started=True).device.type


def _fabric(options: Options, strategy: str | DDPStrategy, started: bool) -> Fabric:
    try:
        with warnings.catch_warnings(action="ignore"):
            return Fabric(
                accelerator=options.accelerator,
                devices=options.devices,
                strategy=strategy,
                precision=FABRIC[options.precision],  # type: ignore[arg-type]
                plugins=LightningEnvironment() if started else None,
            )
    except (ValueError, RuntimeError, MisconfigurationException) as error:
        wanted = f"{options.devices} devices" if options.devices > 1 else "a device"
        raise RunError(
            "E074",
            f"{wanted} of the kind `{options.accelerator}` cannot be had on this machine",
            notes=(str(error).strip().splitlines()[0],),
            hint="`--accelerator auto` takes what there is",
        ) from error

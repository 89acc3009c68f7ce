"""The devices that a training runs on, through Lightning Fabric."""

from __future__ import annotations

import warnings

from lightning.fabric import Fabric
from lightning.fabric.strategies.ddp import DDPStrategy
from lightning.fabric.utilities.exceptions import MisconfigurationException

from bcgraph.errors import RunError
from bcgraph.schema import NetworkSpec
from bcgraph.training.options import FABRIC, Options


def fabric_of(spec: NetworkSpec, options: Options) -> Fabric:
    """Lightning Fabric for `options`. With several devices the processes that share the work are running after this.

    Fabric starts them by running this program's command line again; `torchrun` and cluster launchers work too. Raises
    RunError (E074) when this machine has no such devices, or not so many, or they cannot compute in that precision.
    """
    fabric = _fabric(spec, options)
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


def _fabric(spec: NetworkSpec, options: Options) -> Fabric:
    strategy: str | DDPStrategy = "auto"
    if options.devices > 1:
        # A projection that no step reads has parameters without a gradient.
        strategy = DDPStrategy(find_unused_parameters=any(bc.delay >= spec.steps for bc in spec.backward))
    try:
        with warnings.catch_warnings(action="ignore"):
            return Fabric(
                accelerator=options.accelerator,
                devices=options.devices,
                strategy=strategy,
                precision=FABRIC[options.precision],  # type: ignore[arg-type]
            )
    except (ValueError, RuntimeError, MisconfigurationException) as error:
        wanted = f"{options.devices} devices" if options.devices > 1 else "a device"
        raise RunError(
            "E074",
            f"{wanted} of the kind `{options.accelerator}` cannot be had on this machine",
            notes=(str(error).strip().splitlines()[0],),
            hint="`--accelerator auto` takes what there is",
        ) from error

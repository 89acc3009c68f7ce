"""Process groups, devices and mixed precision by Lightning Fabric."""

from __future__ import annotations

import atexit
import gc
import os
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch.distributed as dist
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning_fabric.strategies.ddp import DDPStrategy
from lightning_fabric.utilities.exceptions import MisconfigurationException
from torch import nn

from bcgraph.errors import RunError
from bcgraph.process import ignored
from bcgraph.training.distributed import local, slurm
from bcgraph.training.distributed.exchange import average, broadcast
from bcgraph.training.options import Options, Precision

SLURM_JOB = "SLURM_NTASKS"
"""By this variable Fabric takes a process for a task of Slurm."""

# Fabric's names. It need not know of 64: the model itself is compiled in float64.
PRECISIONS: dict[Precision, Any] = {
    "32": "32-true",
    "64": "32-true",
    "bf16-mixed": "bf16-mixed",
    "16-mixed": "16-mixed",
}


class _Tasks(SLURMEnvironment):
    """The tasks of a Slurm step, as many as there are devices (see `bcgraph.training.distributed.slurm`).

    Lightning's own takes every process in a job for one of `SLURM_NTASKS`, and refuses `--ntasks` in a batch script.
    """

    def __init__(self) -> None:
        # Nothing is validated, and no signal is taken: the same command resumes a run.
        ClusterEnvironment.__init__(self)
        self.auto_requeue, self.requeue_signal = False, None

    def world_size(self) -> int:
        """The number of tasks of the step, not of the job."""
        return int(os.environ[slurm.TASKS])

    def validate_settings(self, num_devices: int, num_nodes: int) -> None:
        """The number of tasks has been compared with that of devices."""


class _OwnProcesses(DDPStrategy):
    """DDP among processes of this machine that find each other by a file, and listen on the loopback interface alone.

    Torch's own meeting point would listen on all interfaces. Where the environment names another (`MASTER_ADDR`), as
    torchrun and the launchers of clusters do, that one is used.
    """

    def setup_environment(self) -> None:
        """Set up the process group before Fabric would."""
        path = os.environ.get(local.STORE)
        if path is not None and not dist.is_initialized():
            device = self.root_device
            assert self.cluster_environment is not None
            local.wait_for_all(path, self.cluster_environment.local_rank(), self.num_processes)
            dist.init_process_group(
                "nccl" if device.type == "cuda" else "gloo",
                store=dist.FileStore(path, self.num_processes),  # type: ignore[attr-defined]
                rank=self.cluster_environment.local_rank(),
                world_size=self.num_processes,
                device_id=device if device.type == "cuda" else None,
            )
        super().setup_environment()
        # However they met: Fabric leaves by itself only groups of GPUs.
        atexit.register(_leave)


class _Unwrapped(_OwnProcesses):
    """As `_OwnProcesses`, for modules without torch's DistributedDataParallel (see `exchange`)."""

    def setup_environment(self) -> None:
        """See `_OwnProcesses`."""
        # While it captures, NCCL would register memory with the other processes, and wait for one whose capture fails.
        os.environ.setdefault("NCCL_GRAPH_REGISTER", "0")
        super().setup_environment()

    def setup_module(self, module: nn.Module) -> Any:
        """The module itself, with the weights of the first process."""
        broadcast(module)
        return module


def _leave() -> None:
    """Leave the process group: a process whose threads are still in it may be aborted at its end.

    The threads end with the last reference to the group, which cycles of modules may hold.
    """
    gc.collect()
    if dist.is_initialized():
        dist.destroy_process_group()


class FabricGroup(Fabric):
    """Lightning Fabric as a `ProcessGroup`."""

    def precision_state(self) -> dict[str, Any]:
        """The state of the gradient scaler, empty without one."""
        return dict(self.strategy.precision.state_dict())

    def average_gradients(self, optimizer: Any, /) -> None:
        """Nothing to average: torch's DistributedDataParallel does that in the backward pass."""

    def load_precision_state(self, state: Mapping[str, Any]) -> None:
        """Restore what `precision_state` returned."""
        self.strategy.precision.load_state_dict(dict(state))


class ExchangeGroup(FabricGroup):
    """A group whose exchange of gradients can be captured: after the backward pass, by plain collectives."""

    def no_backward_sync(self, module: Any, enabled: bool = True) -> AbstractContextManager[None]:
        """Nothing to leave out: no gradient is exchanged in a backward pass."""
        return nullcontext()

    def average_gradients(self, optimizer: Any, /) -> None:
        """See `ProcessGroup`."""
        average(p.grad for each in optimizer.param_groups for p in each["params"] if p.grad is not None)

    def all_reduce(self, data: Any, group: Any = None, reduce_op: Any = "mean") -> Any:
        """As Fabric's, which first waits for all processes, and a capture must not wait."""
        dist.all_reduce(data, group=group)
        return data.div_(self.world_size) if reduce_op == "mean" else data


def process_group(
    options: Options, *, started: bool = False, apart: bool = False, captured: bool = False, **ddp: Any
) -> FabricGroup:
    """See `bcgraph.training.distributed.devices.process_group`.

    Fabric starts further processes by running this program's command line again; `torchrun` and cluster launchers work
    too. Where the processes are `started`, Fabric looks for no launcher.
    """
    several = options.devices > 1
    strategy = (_Unwrapped() if captured else _OwnProcesses(**ddp)) if several else "auto"
    kind = ExchangeGroup if several and captured else FabricGroup
    group = _fabric(options, strategy, started, options.devices if apart else 1, kind)
    # Where a device lacks a precision, Fabric silently takes another one.
    if group.strategy.precision.precision != PRECISIONS[options.precision]:
        raise RunError(
            "E074",
            f"the precision `{options.precision}` cannot be computed on `{group.device.type}`",
            hint="half precision needs a GPU; `bf16-mixed` runs everywhere",
        )
    if several:
        if isinstance(getattr(group.strategy, "cluster_environment", None), LightningEnvironment):
            local.meet()
        group.launch()
    return group


def device_type(options: Options) -> str:
    """See `bcgraph.training.distributed.devices.device_type`."""
    # Fabric wants a strategy, and `auto` is the one that it allows in a notebook too.
    return _fabric(options, "auto", started=True).device.type


def _fabric(
    options: Options,
    strategy: str | DDPStrategy,
    started: bool,
    machines: int = 1,
    kind: type[FabricGroup] = FabricGroup,
) -> FabricGroup:
    tasks = not started and slurm.shares(options.devices)
    machines = slurm.nodes() if tasks else machines
    # Without one, Fabric would look for a cluster by itself, and take every job of Slurm for a run of several tasks.
    alone = started or (not tasks and SLURM_JOB in os.environ and not TorchElasticEnvironment.detect())
    environment = _Tasks() if tasks else LightningEnvironment() if alone else None
    try:
        with ignored(Warning):
            return kind(
                accelerator=options.accelerator,
                devices=options.devices // machines,
                num_nodes=machines,
                strategy=strategy,
                precision=PRECISIONS[options.precision],
                plugins=environment,
            )
    except (ValueError, RuntimeError, MisconfigurationException) as error:
        wanted = f"{options.devices} devices" if options.devices > 1 else "a device"
        raise RunError(
            "E074",
            f"this machine does not have {wanted} of the kind `{options.accelerator}`",
            notes=(str(error).strip().splitlines()[0],),
            hint="`--accelerator auto` takes what there is",
        ) from error

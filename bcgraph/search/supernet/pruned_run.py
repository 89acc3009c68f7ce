"""The training run of `strategy = gains`: all connections at once, the weakest pruned while the weights stay.

The run is that of `bcgraph train` on the training part of the search: same weights, same batches, same updates. What is
added is a penalty on the scales of the connections until the last pruning. A pruned connection is no longer computed;
weights and optimizer state of everything else stay as they are. A checkpoint after each epoch holds the whole run, so
one that is stopped resumes after its last whole epoch and ends with the same weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field, TypeAdapter
from torch import Tensor, nn

from bcgraph import files, foreign, projections, pruning, spaces, weights
from bcgraph.compiler import pipelines
from bcgraph.data.split import Split
from bcgraph.errors import RunError, WeightsError
from bcgraph.nn.defaults import ordinary_defaults
from bcgraph.nn.determinism import reproducible
from bcgraph.nn.graphs.graphed import Graphs
from bcgraph.nn.graphs.module import captured
from bcgraph.nn.graphs.recordings import Recordings, cuda
from bcgraph.schema import Connection, NetworkSpec
from bcgraph.search.records.evaluations import Evaluation
from bcgraph.search.space.candidate import Candidate
from bcgraph.search.supernet.lowered import Lowered
from bcgraph.search.supernet.shared_weights import SharedWeights
from bcgraph.training import checks
from bcgraph.training.accuracy import evaluate
from bcgraph.training.checkpoint import MODEL, collect, restore, under
from bcgraph.training.distributed.process_group import ProcessGroup, SingleProcess
from bcgraph.training.ema import EMA, PREFIX
from bcgraph.training.epoch import EpochLoop
from bcgraph.training.graphed_step import GraphedStep, captures
from bcgraph.training.losses.teacher import Teacher
from bcgraph.training.losses.teacher import load as load_teacher
from bcgraph.training.optimizers import optimizer
from bcgraph.training.options import Options, Precision
from bcgraph.training.train_step import TrainStep

STATE = "pruned-state.safetensors"

SCHEDULE = "unrolled"


@dataclass(frozen=True)
class _Described:
    """The metadata of a checkpoint."""

    epochs: Annotated[int, Field(strict=True)]
    precision: dict[str, Any]


_SHAPE = TypeAdapter(_Described)


@dataclass(eq=False)
class PrunedRun:
    """The run of `spec` in the folder `out`, on `train`, with accuracies on `validation`.

    `spec.train` says how it trains, `spec.search.evolve` how it prunes. `progress` is called with the number of epochs
    done after each of them. The weights have the standard names (`backward.J_I.conv.weight`). On a GPU steps and
    evaluations are captured as `graphs` says; anywhere by given `recordings`. `precision` is that of the `group`.
    """

    spec: NetworkSpec
    seed: int
    train: Split
    validation: Split
    out: Path
    progress: Callable[[int], None]
    group: ProcessGroup = field(default_factory=SingleProcess)
    dtype: torch.dtype = torch.float32
    graphs: Graphs = "auto"
    recordings: Recordings | None = None
    precision: Precision = "32"

    def __post_init__(self) -> None:
        checks.batch(self.everything, 1)
        checks.samples(self.train, self.spec.data.batch, 1)
        self.weights = SharedWeights(self.seed, dtype=self.dtype, device=self.group.device)
        self.full = self.weights.root(self.everything)
        if self.recordings is None and captures(
            Options(precision=self.precision, graphs=self.graphs), self.group.device
        ):
            self.recordings = cuda()
        self.optimizer = optimizer(self.full, self.spec.train.optimizer, captured=self.recordings is not None)
        self.ema = EMA(self.full, self.spec.train.ema)
        self.stages = pruning.stages(self.spec)
        self.done = self._restored()

    @cached_property
    def teacher(self) -> Teacher | None:
        """The network that `train` names to learn from."""
        return load_teacher(self.spec, self.group.device, self.dtype, self.train.source.normalization())

    @cached_property
    def everything(self) -> NetworkSpec:
        """The network with all connections of the space, each at the gain of the search."""
        return _everything(self.spec)

    def __call__(self, stage: int, candidate: Candidate) -> Evaluation:
        """Train to the end of a stage with the connections of `candidate`; its validation accuracy and its scales.

        Raises RunError: E088 when the loss is not finite, E084 when the checkpoint cannot be written, E085 when it is
        of a later stage.
        """
        if self.done > self.stages[stage].end:
            raise RunError(
                "E085",
                f"`{self.out / STATE}` is at epoch {self.done}, but the log lacks stage {stage}, which ended before it",
                hint="the end of the log was lost; take it from a copy, or start in a new directory",
            )
        model = self.weights.compiled(Lowered.of(candidate.spec), SCHEDULE, pipelines.TRAINING)
        found = {pruning.key_of(each, self.spec): self._scale(each) for each in candidate.spec.connections}
        scales = [found[key] for key in candidate.architecture]
        always = pruning.fixed(self.spec)
        penalized = [found[key] for key in candidate.architecture if key not in always]
        with ordinary_defaults(), torch.random.fork_rng(), reproducible():
            if self.done < self.stages[stage].end:
                self._train(model, self.stages[stage].end, penalized if stage + 1 < len(self.stages) else [])
            with self.ema.applied():
                call = captured(model, self.graphs, self.group.device)
                accuracy = evaluate(model, self.validation, readout=self.spec.readout, call=call)
        return Evaluation(accuracy=accuracy, scales=tuple(float(scale.abs().mean()) for scale in scales))

    def _train(self, model: nn.Module, end: int, penalized: list[Tensor]) -> None:
        network, wrapped = self.group.setup(model, self.optimizer)
        plain = TrainStep(self.spec, self.spec.train, self.group, network, wrapped, self.dtype, teacher=self.teacher)
        step: TrainStep | GraphedStep = plain
        if self.recordings is not None:
            # What shrinks scales comes between the update and the average, so that is no part of the step.
            step = GraphedStep(plain, self.full, self.optimizer, None, self.recordings, self.graphs)
        loop = EpochLoop(self.spec, self.seed, self.train, self.group, self.ema, self.out, lambda _: None)
        strength = pruning.of(self.spec).penalty
        for epoch in range(self.done, end):
            loop(epoch, step, partial(_shrink, penalized, strength) if penalized and strength else None)
            self.done = epoch + 1
            self._keep()
            self.progress(self.done)

    def _scale(self, connection: Connection) -> Tensor:
        """The scale of a connection's last norm, `[channels]`."""
        name = projections.scale_of(self.everything, connection, self._prefixes[connection])
        assert name is not None, "the rules of pruning ask for a norm"
        # By name: attribute access would find the method `forward` in place of the projections of that word.
        return dict(self.full.named_parameters())[name].detach()

    @cached_property
    def _prefixes(self) -> dict[Connection, str]:
        return self.everything.prefixes()

    def _keep(self) -> None:
        tensors = {**collect(self.full, self.optimizer), **self.ema.tensors()}
        described = {
            "identity": self._identity(),
            "epochs": self.done,
            "precision": dict(self.group.precision_state()),
        }
        files.write_bytes(self.out / STATE, weights.pack(tensors, described))

    def _restored(self) -> int:
        """Restore the run from its checkpoint; returns the epochs done."""
        path = self.out / STATE
        if not path.exists():
            return 0
        tensors, described = weights.unpack(path)
        if described.get("identity") != self._identity():
            raise _other(path)
        try:
            found = foreign.checked(described, _SHAPE)
        except foreign.UnreadableError as error:
            raise WeightsError("E082", f"`{path}` is not a checkpoint of this version", notes=(str(error),)) from error
        if not 1 <= found.epochs <= self.spec.train.epochs:
            raise WeightsError("E082", f"`{path}` is damaged: it is at epoch {found.epochs}")
        restore(tensors, self.full, self.optimizer)
        self.ema.restore(tensors)
        self.group.load_precision_state(found.precision)
        return found.epochs

    def _identity(self) -> dict[str, Any]:
        # Left out at its default, as in checkpoints from before there was a choice.
        precise = {} if self.precision == "32" else {"precision": self.precision}
        return {**_identity(self.spec, self.seed, self.everything), "dtype": str(self.dtype), **precise}


_MACHINE = frozenset(("dtype", "precision"))


def _identity(spec: NetworkSpec, seed: int, everything: NetworkSpec) -> dict[str, Any]:
    """What the search and its seed say of the run; `everything` is the network with all connections."""
    return {
        "fingerprint": everything.fingerprint(),
        "seed": seed,
        "train": spec.train.model_dump(mode="json"),
        "evolve": spec.search.evolve.model_dump(mode="json"),
        "batch": spec.data.batch,
    }


def _other(path: Path) -> RunError:
    return RunError("E085", f"`{path}` holds the run of something else", hint="start in a new directory")


@torch.no_grad()
def _shrink(scales: list[Tensor], strength: float, lr: float) -> None:
    """Take `lr * strength` off the root mean square of each scale: the proximal step of the group lasso.

    It stands apart from the gradient, as the weight decay of AdamW does, so the strength means the same under every
    optimizer and loss. A scale that would fall below zero is zero, and grows again where the gradient says so.
    """
    if not lr * strength:
        return
    for scale in scales:
        size = torch.linalg.vector_norm(scale)
        scale.mul_((1 - lr * strength * math.sqrt(scale.numel()) / size).clamp_min(0))


def _everything(spec: NetworkSpec) -> NetworkSpec:
    return pruning.together(spec, pruning.every(spec))


def trained(path: Path, spec: NetworkSpec, seed: int, best: NetworkSpec) -> dict[str, Tensor]:
    """The weights of the network `best` at the end of the run of `spec` in `path`, by their standard names.

    With `ema` they are the averaged ones. Raises WeightsError (E082) when there is no such run, RunError (E085) when it
    is another.
    """
    tensors, described = weights.unpack(path / STATE)
    kept = described.get("identity")
    own = _identity(spec, seed, _everything(spec))
    if not isinstance(kept, dict) or {name: value for name, value in kept.items() if name not in _MACHINE} != own:
        raise _other(path / STATE)
    prefix = PREFIX if best.train.ema else MODEL
    return spaces.inherited(under(tensors, prefix), best)

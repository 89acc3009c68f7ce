"""The artifacts of a finished search beside `best.bcg`: the weights of the chosen network, and an ONNX file."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from torch import Tensor

from bcgraph import data, keys, origins, run_files, weights
from bcgraph.compiler.driver import compile as compile_spec
from bcgraph.compiler.export import provenance
from bcgraph.compiler.export.provenance import Provenance
from bcgraph.compiler.targets.export import export
from bcgraph.errors import BcgraphWarning, CompileError, DataError
from bcgraph.search.finish import training as finish
from bcgraph.search.records import directory, objectives
from bcgraph.search.records.trained import Finish, Outcome
from bcgraph.search.result import SearchResult
from bcgraph.search.supernet import pruned_run
from bcgraph.search.supernet.checkpoint import inherited
from bcgraph.search.supernet.shared_weights import SharedWeights

if TYPE_CHECKING:
    from bcgraph.compiler.export.request import ExportReport

# Training samples that the exported file is proved on. A search never touches the test set.
SAMPLES = 64

Origin: TypeAlias = str
"""One of those of `bcgraph.origins`."""


@dataclass(frozen=True, slots=True)
class Artifacts:
    """The written files: the origin of the weights, and the export with its proof (None where there is no file)."""

    origin: Origin
    weights: Path
    exported: ExportReport | None


def write(result: SearchResult) -> Artifacts:
    """Write `best.safetensors` and `best.onnx` into the directory of a search.

    With a last stage the weights are those of the training run with the best validation accuracy of the best network.
    With `strategy = gains` they are the trained ones of the run. After any other search by one-shot accuracy the
    chosen network inherits those of the supernet. A search by a score trains nothing, and the weights are the initial
    ones that step one scores with. For a network that ONNX cannot express there is a warning instead of a file. Raises
    RunError (E084).
    """
    origin = objectives.weights(result.spec.search.model_dump(mode="json"))
    state = _STATES[origin](result)
    path = result.path / run_files.BEST
    weights.save(path, state, spec=result.best, metadata={"origin": origin, **_metadata(result, origin)})
    known = provenance.of_weights(path)
    return Artifacts(origin, path, _export(result, state, known, inherited=origin == origins.SUPERNET))


def _metadata(result: SearchResult, origin: Origin) -> dict[str, str]:
    """Of which search they are, and the accuracy of the weights where one training run of the last stage has it."""
    found = {"seed": str(result.seed), "data": directory.data_name(result.path, result.best)[0]}
    run = run_files.run_of(result.path)
    found |= {} if run is None else {run_files.DIGEST: run.digest}
    if origin == origins.TRAINING and result.finish is not None:
        found |= {"validation_accuracy": repr(_best(result.finish).accuracy), "chosen_on": "validation"}
    return found


def initial(result: SearchResult) -> dict[str, Tensor]:
    """The weights of the chosen network in the first initialization of step one."""
    seed = keys.derive(result.seed, "init", "weights", 0)
    if result.best.search.space is not None:
        return dict(SharedWeights(seed).root(result.best).state_dict())
    return dict(compile_spec(result.best, seed=seed).state_dict())


def _trained(result: SearchResult) -> dict[str, Tensor]:
    """The weights of the best training run of the last stage; without one, those of the one training run."""
    if result.finish is None and objectives.trains_candidates(result.spec.search.evolve.strategy):
        return finish.short_trained(result.path, result.seed, result.best)
    if result.finish is None:
        return pruned_run.trained(result.path, result.spec, result.seed, result.best)
    best = result.finish.best
    assert best is not None, "the last stage is done"
    return finish.trained(result.path, best.name, _best(result.finish).seed, result.best)


def _best(stage: Finish) -> Outcome:
    """The training run of the best network with the best validation accuracy."""
    assert stage.best is not None, "the last stage is done"
    return max(stage.best.runs, key=lambda run: (run.accuracy, -run.seed))


_STATES: dict[Origin, Callable[[SearchResult], dict[str, Tensor]]] = {
    origins.TRAINING: _trained,
    origins.SUPERNET: lambda result: inherited(result.path, result.spec, result.seed, result.best),
    origins.INITIALIZATION: initial,
}


def _export(
    result: SearchResult, state: dict[str, Tensor], known: Provenance, *, inherited: bool
) -> ExportReport | None:
    spec = result.best
    samples: Tensor | None = None
    classes: tuple[str, ...] = ()
    try:
        named = directory.data_name(result.path, spec)[1]
        splits = data.load(spec.data, spec.input, spec.steps) if named else None
    except DataError:
        splits = None
    # Where the data set of a finished search is not at hand, the proof draws its inputs.
    if splits is not None:
        samples, _ = splits.train.plain().take(range(min(SAMPLES, len(splits.train))))
        classes = splits.classes
    try:
        return export(
            spec,
            result.path / run_files.ONNX,
            state_dict=state,
            inputs=samples,
            classes=classes,
            inherited=inherited,
            provenance=known,
        )
    except CompileError as error:
        (result.path / run_files.ONNX).unlink(missing_ok=True)
        warnings.warn(f"{run_files.ONNX} is not written: {error.diagnostics[0].message}", BcgraphWarning, stacklevel=2)
        return None

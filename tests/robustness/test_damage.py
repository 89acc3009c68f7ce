"""A campaign: random damage to every kind of file that bcgraph writes and reads. None is silent, none a traceback.

`BCGRAPH_DAMAGE=1000` has each file damaged so many times; without it 161 times, in all more than 1,000.
"""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import bcgraph
from bcgraph import artifacts, dsl, runtime, scales, search, training, weights
from bcgraph.compiler.targets.nir.file import load as load_nir
from bcgraph.errors import BcgraphError, BcgraphWarning
from bcgraph.search.records.history import history
from bcgraph.search.scores.audit import Audit, Finding
from bcgraph.search.supernet.pruned_run import PrunedRun
from bcgraph.search.supernet.supernet import Supernet
from bcgraph.training import checkpoint
from tests.robustness.damage import damaged

CASES = int(os.environ.get("BCGRAPH_DAMAGE", "161"))

TEXT = """bcg 1
network net { input = image(1, 8, 8); steps = 2; backbone = tiny(width=4, classes=10); backward @4 -> @3 }
data = digits(batch=64)
train { epochs = 1; ema = 0.9 }
search {
  max_backward = 1
  same_resolution = true
  init { pool = 4; keep = 2; batch = 20 }
  supernet { epochs = 1 }
  evolve { iterations = 1; top = 2; population = 2; offspring = 1 }
}
"""

GAINS = """bcg 1
network net { input = image(1, 8, 8); steps = 2; backbone = tiny(width=2, classes=10); backward @4 -> @3 }
data = digits(batch=256)
train { epochs = 2; ema = 0.9 }
search {
  space { backward any -> @4 { delay = [1, 2] }; at_most = 1 }
  evolve { strategy = gains; stages = 1 }
  finish { top = 1; seeds = 1 }
}
"""

Read = Callable[[Path], Any]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One of each kind of file."""
    folder = tmp_path_factory.mktemp("made")
    spec = dsl.parse(TEXT)
    result = search.run(spec, folder / "search", hooks=(lambda result: (artifacts.write(result), None)[1],))
    Audit(20, (Finding("n", "reproducibility", "float64", 0.75),)).write(folder / "search")
    search.run(dsl.parse(GAINS), folder / "gains")
    trained = training.train(result.spec, out=folder / "run")
    state = weights.load(trained.path)
    for name, form in (("net.onnx", "unrolled"), ("step.onnx", "step"), ("net.nir", "unrolled")):
        bcgraph.export(spec, folder / name, state_dict=state, form=form)
    return folder


def tensors(path: Path) -> dict[str, Any]:
    return {name: value.numpy().tobytes() for name, value in weights.load(path, spec=None).items()}


def state(path: Path) -> Any:
    identity = PLAIN["identity"]
    found = checkpoint.load(path, identity)
    return found.history, {k: v.numpy().tobytes() for k, v in found.tensors.items()}


PLAIN: dict[str, Any] = {}


def supernet(path: Path) -> Any:
    spec = dsl.parse(TEXT)
    net = Supernet(spec, 0, PLAIN["split"])
    return net.take(path.parent), {k: v.numpy().tobytes() for k, v in net.full.state_dict().items()}


def pruned(path: Path) -> Any:
    run = PrunedRun(dsl.parse(GAINS), 0, *PLAIN["gains"], path.parent, lambda _: None)
    return run.done, {k: v.numpy().tobytes() for k, v in run.full.state_dict().items()}


def outputs(path: Path) -> Any:
    network = load_nir(path) if path.suffix == ".nir" else runtime.Network(path)
    x = np.linspace(-1, 1, 3 * 64, dtype=np.float32).reshape(3, 1, 8, 8)
    return network(x).tobytes(), network.signature


def told(path: Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BcgraphWarning)
        return history(path.parent)


READERS: dict[str, Read] = {
    "run/state.safetensors": state,
    "run/last.safetensors": tensors,
    "run/best.safetensors": lambda path: (
        tensors(path),
        scales.learned_scales(path, dsl.load(path.with_name("spec.bcg"))),
    ),
    "search/supernet-state.safetensors": supernet,
    "search/supernet.safetensors": supernet,
    "search/best.safetensors": tensors,
    "search/log.jsonl": told,
    "search/run.json": told,
    "search/audit.json": told,
    "search/beside.json": told,
    "gains/log.jsonl": told,
    "gains/finish.json": told,
    "gains/pruned-state.safetensors": pruned,
    "net.onnx": outputs,
    "step.onnx": outputs,
    "net.nir": outputs,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", READERS)
def test_no_damage_is_silent(made: Path, tmp_path: Path, name: str) -> None:
    from bcgraph.search.supernet.devices import divided

    PLAIN["identity"] = weights.unpack(made / "run/state.safetensors")[1]["identity"]
    PLAIN["split"] = PLAIN.get("split") or divided(dsl.parse(TEXT), 0)[0]
    PLAIN["gains"] = PLAIN.get("gains") or divided(dsl.parse(GAINS), 0)
    source = made / name
    folder = Path(
        shutil.copytree(source.parent, tmp_path / "copy", ignore=shutil.ignore_patterns("run", "search", "gains"))
    )
    path, content = folder / source.name, source.read_bytes()
    expected = READERS[name](path)
    noticed = 0
    for seed in range(CASES):
        path.write_bytes(damaged(content, seed))
        try:
            found = READERS[name](path)
        # The warning that a file was written by a tool is an error here.
        except (BcgraphError, BcgraphWarning):
            noticed += 1
            continue
        assert harmless(name, found, expected), f"{name}, seed {seed}"
        noticed += found != expected and name in LEFT_OUT
    assert noticed > 0.6 * CASES


# Files that are made again where they are damaged, and what a history says without them.
LEFT_OUT: dict[str, Callable[[dict[str, Any]], Any]] = {
    "search/audit.json": lambda told: told | {"audit": None},
    "search/beside.json": lambda told: {k: v for k, v in told.items() if k != "beside"},
    # What the last stage has chosen is not known then, so that the search does not count as finished.
    "gains/finish.json": lambda told: {
        **{k: v for k, v in told.items() if k != "finish"},
        "chosen": told["evaluations"][-1],
        "finished": False,
    },
}


def harmless(name: str, found: Any, expected: Any) -> bool:
    """Whether what was read is what was written, or says that a part of it is missing."""
    if found == expected:
        return True
    if name in LEFT_OUT:
        return found == LEFT_OUT[name](expected)
    if name.endswith("log.jsonl"):
        # Cut off where a kill might have: whole lines are missing at the end, and a resumed run repeats them.
        kept = len(found["evaluations"])
        return bool(found["evaluations"] == expected["evaluations"][:kept])
    return False


EDITS: dict[str, Callable[[dict[str, torch.Tensor]], None]] = {
    "nan": lambda t: t["model.fc.bias"].fill_(float("nan")),
    "negative variance": lambda t: t["model.bn1.running_var"].fill_(-1.0),
    "another type": lambda t: t.update({"model.fc.bias": t["model.fc.bias"].to(torch.int32)}),
    "no optimizer": lambda t: [t.pop(n) for n in list(t) if n.startswith("optimizer.")],
    "half an optimizer": lambda t: t.pop("optimizer.exp_avg.fc.bias"),
    "an optimizer of another type": lambda t: t.update(
        {"optimizer.exp_avg.fc.bias": t["optimizer.exp_avg.fc.bias"].double()}
    ),
    "a negative square": lambda t: t["optimizer.exp_avg_sq.fc.bias"].fill_(-1.0),
    "no steps": lambda t: t["optimizer.step.fc.bias"].fill_(0.0),
    "no average": lambda t: t.pop("average.fc.bias"),
    "an average that is no number": lambda t: t["average.fc.bias"].fill_(float("inf")),
}


@pytest.mark.slow
@pytest.mark.parametrize("edit", EDITS)
def test_a_checkpoint_that_cannot_be_is_refused(made: Path, tmp_path: Path, edit: str) -> None:
    """Also where its seal is right, as in one that somebody else has written."""
    folder = Path(shutil.copytree(made / "run", tmp_path / "run"))
    found, described = weights.unpack(folder / "state.safetensors")
    EDITS[edit](found)
    (folder / "state.safetensors").write_bytes(weights.pack(found, described))
    with pytest.raises(BcgraphError) as caught:
        training.train(dsl.load(folder / "spec.bcg"), out=folder)
    assert caught.value.code == "E083"


@pytest.mark.slow
@pytest.mark.parametrize("history", [[], [1, 2], [2], [1, 1], "x", [{"epoch": "one"}]])
def test_epochs_that_cannot_be_are_refused(made: Path, tmp_path: Path, history: Any) -> None:
    folder = Path(shutil.copytree(made / "run", tmp_path / "run"))
    found, described = weights.unpack(folder / "state.safetensors")
    (one,) = described["history"]  # type: ignore[misc]
    numbers = history if isinstance(history, list) else []
    epochs = [one | {"epoch": n} if isinstance(n, int) else n for n in numbers]
    kept = described | {"history": epochs if isinstance(history, list) else history}
    (folder / "state.safetensors").write_bytes(weights.pack(found, kept))
    with pytest.raises(BcgraphError) as caught:
        training.train(dsl.load(folder / "spec.bcg"), out=folder)
    assert caught.value.code == "E082"


@pytest.mark.slow
def test_files_of_an_earlier_version_are_read(made: Path, tmp_path: Path) -> None:
    """They have no seal."""
    folder = Path(shutil.copytree(made / "run", tmp_path / "run"))
    for name in ("state.safetensors", "last.safetensors"):
        found, described = weights.unpack(folder / name)
        (folder / name).write_bytes(weights.serialized(found, described))
    again = training.train(dsl.load(folder / "spec.bcg"), out=folder)
    assert len(again.history) == 1
    assert tensors(folder / "last.safetensors") == tensors(made / "run/last.safetensors")


@pytest.mark.slow
def test_a_damaged_supernet_is_written_again_from_its_checkpoint(made: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(made / "search", tmp_path / "search"))
    path = folder / "supernet.safetensors"
    whole = path.read_bytes()
    path.write_bytes(damaged(whole, 0))
    Supernet(dsl.parse(TEXT), 0, PLAIN["split"]).train(folder, lambda _: None)
    assert path.read_bytes() == whole

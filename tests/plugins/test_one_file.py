"""A layer, a pass, a target, a data set, a score, a strategy and a predictor of bcgraph itself are one file or folder
each: nothing lists them by name."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

NEW = {
    "layers/standard/halves.py": """
from bcgraph.layers.declaration import Standard

def _shape(given, times: int = 1):
    return given

LAYERS = {
    "halve": Standard(
        _shape,
        lambda x, weight, given, times: x * 0.5**times,
        emitters={"onnx": lambda build, x, given, times: build.op("Mul", x, 0.5**times)},
    )
}
""",
    "search/scores/standard/fires.py": """
from bcgraph.plugins.values import OfSpikes, Score

SCORE = Score(OfSpikes(lambda codes: float(codes.sum()), sum), "firing", "how many spikes there are")
""",
    "search/strategies/standard/first.py": """
from pydantic import Field
from typing import Annotated
from bcgraph.plugins.values import Strategy
from bcgraph.schema.values import Frozen

class Own(Frozen):
    most: Annotated[int, Field(ge=1, le=2)] = 2

def first(population, rng, most):
    yield from ([(port, 0)] for port in range(5))

STRATEGY = Strategy("connections into the first port", first, settings=Own)
""",
    "search/predictors/standard/least.py": """
from bcgraph.plugins.values import Predictor

PREDICTOR = Predictor(lambda architectures, measures: [-len(a) for a in architectures], "few connections")
""",
    "compiler/passes/nothing.py": """
from dataclasses import dataclass
from typing import ClassVar
from bcgraph.compiler.ir import TemporalGraph

@dataclass(frozen=True)
class Nothing:
    name: ClassVar[str] = "nothing"
    inference_only: ClassVar[bool] = False

    def run(self, graph: TemporalGraph) -> TemporalGraph:
        return graph
""",
    "compiler/targets/txt/__init__.py": 'ENDING = ".txt"\n',
    "compiler/targets/txt/file.py": """
from bcgraph.compiler.export.request import ExportReport
from bcgraph import files

def write(request):
    files.write_text(request.path, request.spec.name)
    return ExportReport(request.path, request.form, None, 0, None, "nothing")
""",
    "data/sets/noise.py": """
import numpy as np
from bcgraph.data.declaration import Declaration
from bcgraph.data.sources import DataSet, Held, Part

DATA_SET = Declaration("noise", "bcgraph.data.sets.noise:load")

def load(request):
    part = Part(Held(np.zeros((4, 1, 8, 8), dtype=np.uint8)), np.arange(4))
    return DataSet("noise", part, part, ("a", "b", "c", "d"), (0.0,), (1.0,))
""",
}

TEXT = """bcg 1
block body() { conv1 = conv(4); bn1 = bn(); halve(times=2); lif1 = lif(); flatten(); fc = linear(10) }
network net { input = image(1, 8, 8); steps = 2; backbone = body() }
search {
  init   { pool = 2; keep = 1; scores = [n, fires]; batch = 8 }
  evolve { strategy = first; most = 1; score = fires; iterations = 1; top = 1; population = 1; offspring = 1
           choose = least }
}
"""

PROGRAM = """
import sys
import bcgraph
assert bcgraph.load("all.bcg").search.evolve.own.most == 1
assert "most = 1" in bcgraph.format(bcgraph.load("all.bcg"))
assert "torch" not in sys.modules, "a text is checked without it"
from bcgraph.search.records.evaluations import name_of
assert name_of("fires") == "firing"
from bcgraph.dsl.elaboration.reference import declared
assert "few connections" in declared("predictor")
assert "how many spikes" in declared("score") and "`most`" in declared("strategy")
from pathlib import Path
found = bcgraph.search.run(bcgraph.load("all.bcg"), Path("out"))
assert {"first"} <= {r.origin for r in found.records}, {r.origin for r in found.records}
assert all(r.evaluation.measured("fires") > 0 for r in found.records)
assert len(found.chosen.architecture) == min(len(r.architecture) for r in found.records if r.stage == "evolve")
bcgraph.export(found.best, "found.onnx")
from bcgraph import data
from bcgraph.compiler.passes import PASSES
spec = bcgraph.parse('''bcg 1
network net { input = image(1, 8, 8); steps = 1; backbone = tiny(width=2, classes=4) }
data = noise()
''')
assert PASSES["nothing"].run(1) == 1
bcgraph.compile(spec, optimize=["nothing"])
assert len(data.load(spec.data, spec.input, spec.steps).train) == 4
bcgraph.export(spec, "net.txt")
assert open("net.txt").read() == "net"
"""


def test_one_file_is_enough(tmp_path: Path) -> None:
    copy = tmp_path / "bcgraph"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "bcgraph", copy, ignore=ignored)
    for folder in ("compiler", "specs"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=ignored)
    for place, text in NEW.items():
        (copy / place).parent.mkdir(exist_ok=True)
        (copy / place).write_text(text)
    (tmp_path / "all.bcg").write_text(TEXT)
    # PYTHONPATH comes before an editable install of the repository.
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    subprocess.run([sys.executable, "-c", PROGRAM], cwd=tmp_path, env=environment, check=True, timeout=120)

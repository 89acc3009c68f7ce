"""A pass, a target and a data set of bcgraph itself are one file or folder each: nothing lists them by name."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

NEW = {
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

PROGRAM = """
import bcgraph
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
    # PYTHONPATH comes before an editable install of the repository.
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    subprocess.run([sys.executable, "-c", PROGRAM], cwd=tmp_path, env=environment, check=True, timeout=120)

"""What `bcgraph.search` offers, and what it costs to import."""

from __future__ import annotations

import subprocess
import sys

import bcgraph.search


def test_public_names() -> None:
    assert sorted(bcgraph.search.__all__) == [
        "Event",
        "Options",
        "SearchResult",
        "crossover",
        "evolve",
        "history",
        "mutate",
        "run",
        "sample",
        "space",
        "space_size",
    ]
    for name in bcgraph.search.__all__:
        assert callable(getattr(bcgraph.search, name)), name


def test_operators_and_evolution_cost_neither_torch_nor_optuna() -> None:
    code = (
        "import sys, bcgraph.search as s; s.sample; s.evolve\n"
        "heavy = {'torch', 'optuna', 'matplotlib', 'numpy'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_history_does_not_need_torch() -> None:
    code = "import sys, bcgraph.search as s; s.history\nassert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

"""What a strategy that is one training run is given to train with."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from bcgraph.search.records.evaluations import Evaluation
from bcgraph.search.space.candidate import Candidate

TrainStage: TypeAlias = Callable[[int, Candidate], Evaluation]
"""Trains a stage, by its number, from where the run is to its end; measures accuracy and scales."""

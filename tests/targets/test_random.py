"""Random networks with every kind of layer through every target: written and proved, or refused with the reason."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

import bcgraph
from bcgraph import schema
from bcgraph.errors import CompileError
from tests.equivalence.test_random import cases
from tests.targets.test_onnx import inputs, lively

# What a target may refuse: ONNX cannot say windows of different sizes, one step no statistics for each step, NIR less.
REFUSED = {"E072", "E073"}


@pytest.mark.parametrize(
    ("ending", "form"),
    [(".py", "unrolled"), (".onnx", "unrolled"), (".onnx", "step"), (".onnx", "scan"), (".nir", "unrolled")],
)
@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(case=cases())
def test_random_networks(ending: str, form: str, case: tuple[schema.NetworkSpec, bool]) -> None:
    spec, _ = case
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"net{ending}"
        try:
            report = bcgraph.export(spec, path, state_dict=lively(spec), form=form, inputs=inputs(spec, 4))
        except CompileError as refused:
            if refused.code not in REFUSED:
                raise
            assert not path.exists()
            return
        assert report.proof.samples == 4
        assert path.stat().st_size == report.size


@pytest.mark.slow
@settings(max_examples=2, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(case=cases())
def test_random_networks_as_pt2(case: tuple[schema.NetworkSpec, bool]) -> None:
    spec, _ = case
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.pt2"
        report = bcgraph.export(spec, path, state_dict=lively(spec), inputs=inputs(spec, 4))
        assert path.stat().st_size == report.size

"""Losses, readouts, optimizers and schedules against their definitions."""

from __future__ import annotations

import math
from typing import get_args

import pytest
import torch
import torch.nn.functional as F

from bcgraph import schema
from bcgraph.readout import READOUTS, predict
from bcgraph.training.losses import LOSSES
from bcgraph.training.optimizers import OPTIMIZERS, SCHEDULES, factor, optimizer


@pytest.fixture
def outputs() -> torch.Tensor:
    return torch.randn(4, 5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


LABELS = torch.tensor([0, 2, 1, 1, 0])


def test_losses_are_their_definitions(outputs: torch.Tensor) -> None:
    each = [F.cross_entropy(o, LABELS) for o in outputs]
    assert LOSSES["tet"](outputs, LABELS, 0.0).item() == pytest.approx(sum(each).item() / 4, abs=1e-12)  # type: ignore[union-attr]
    assert torch.equal(LOSSES["mean"](outputs, LABELS, 0.0), F.cross_entropy(outputs.mean(0), LABELS))
    assert torch.equal(LOSSES["last"](outputs, LABELS, 0.0), each[-1])


def test_label_smoothing(outputs: torch.Tensor) -> None:
    target = F.one_hot(LABELS, 3).double() * 0.7 + 0.1
    expected = -(target * outputs[-1].log_softmax(1)).sum(1).mean()
    assert LOSSES["last"](outputs, LABELS, 0.3).item() == pytest.approx(expected.item(), abs=1e-12)


def test_predictions() -> None:
    outputs = torch.tensor([[[9.0, 0.0]], [[0.0, 1.0]]])
    assert predict(outputs, "mean").tolist() == [0]
    assert predict(outputs, "last").tolist() == [1]


def test_tables_are_complete() -> None:
    fields = schema.TrainSpec.model_fields
    assert set(LOSSES) == set(get_args(fields["loss"].annotation))
    assert set(READOUTS) == set(get_args(schema.NetworkSpec.model_fields["readout"].annotation))
    assert set(OPTIMIZERS) == set(get_args(fields["optimizer"].annotation))
    assert set(SCHEDULES) == set(get_args(fields["schedule"].annotation))


def test_optimizers_take_their_settings() -> None:
    model = torch.nn.Linear(2, 2)
    adamw = optimizer(model, schema.AdamW(lr=0.3, weight_decay=0.2)).param_groups[0]
    assert (adamw["lr"], adamw["weight_decay"]) == (0.3, 0.2)
    sgd = optimizer(model, schema.SGD(lr=0.3, momentum=0.5, weight_decay=0.2, nesterov=True)).param_groups[0]
    assert (sgd["lr"], sgd["momentum"], sgd["weight_decay"], sgd["nesterov"]) == (0.3, 0.5, 0.2, True)


def rates(settings: schema.Cosine | schema.StepDecay | schema.Constant, steps: int, epochs: int) -> list[float]:
    return [factor(settings, step, steps, epochs) for step in range(steps * epochs)]


def test_cosine_equals_torch() -> None:
    parameter = torch.nn.Parameter(torch.zeros(1))
    plain = torch.optim.SGD([parameter], lr=1.0)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(plain, 20)
    expected = []
    for _ in range(20):
        expected.append(plain.param_groups[0]["lr"])
        plain.step()
        scheduler.step()
    assert rates(schema.Cosine(), 5, 4) == pytest.approx(expected, abs=1e-12)


def test_step_decay() -> None:
    assert rates(schema.StepDecay(every=2, gamma=0.5), 2, 5) == [1, 1, 1, 1, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25]


def test_warmup_rises_to_one_and_the_rest_follows() -> None:
    assert rates(schema.Constant(warmup=2), 2, 3) == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    cosine = rates(schema.Cosine(warmup=1), 2, 3)
    assert cosine[:3] == [0.5, 1.0, 1.0]
    assert cosine[4] == pytest.approx(0.5 * (1 + math.cos(math.pi / 2)))
    assert rates(schema.StepDecay(every=1, gamma=0.5, warmup=1), 1, 4) == [1.0, 1.0, 0.5, 0.25]
    assert rates(schema.Cosine(warmup=9), 1, 2) == [0.5, 1.0]

"""A compiled network in the training loops that people have: a Lightning module, and a plain loop; the same weights."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

import bcgraph
from bcgraph.schema import NetworkSpec

LR = 0.05


def spec() -> NetworkSpec:
    return bcgraph.load("specs/tiny_digits_rows.bcg").with_backward([(4, 0), (3, 3)])


def batches() -> DataLoader[tuple[Tensor, ...]]:
    g = torch.Generator().manual_seed(0)
    x = torch.randn((24, 8, 1, 1, 8), generator=g, dtype=torch.float64)
    return DataLoader(TensorDataset(x, torch.randint(10, (24,), generator=g)), batch_size=8)


def loss_of(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    outputs = model(x.transpose(0, 1))
    return F.cross_entropy(outputs.flatten(0, 1), y.repeat(len(outputs)))


def plain(model: nn.Module) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=LR, momentum=0.9)
    model.train()
    for x, y in batches():
        optimizer.zero_grad()
        loss_of(model, x, y).backward()  # type: ignore[no-untyped-call]
        optimizer.step()


@pytest.mark.slow
@pytest.mark.parametrize("schedule", ["unrolled", "folded"])
@pytest.mark.filterwarnings("ignore")
def test_a_lightning_module_trains_as_a_plain_loop(schedule: str) -> None:
    lightning = pytest.importorskip("pytorch_lightning")

    class Classifier(lightning.LightningModule):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.network = bcgraph.compile(spec(), schedule, dtype=torch.float64, seed=1)

        def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
            return loss_of(self.network, *batch)

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=LR, momentum=0.9)

    module = Classifier()
    trainer = lightning.Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, batches())
    own = bcgraph.compile(spec(), schedule, dtype=torch.float64, seed=1)
    plain(own)
    for name, value in own.state_dict().items():
        torch.testing.assert_close(module.network.state_dict()[name], value, rtol=1e-9, atol=1e-12)


def test_a_plain_loop_learns() -> None:
    model = bcgraph.compile(spec(), dtype=torch.float64, seed=1)
    x, y = next(iter(batches()))
    before = loss_of(model, x, y)
    for _ in range(5):
        plain(model)
    assert loss_of(model, x, y) < before - 0.1

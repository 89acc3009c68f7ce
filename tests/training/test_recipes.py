"""The recipes: settings of the paper, networks that train at full size, and a page that says what they are."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from bcgraph import dsl, schema
from bcgraph.compiler import compile as compile_network
from bcgraph.data.augment import Flip, Roll, images
from bcgraph.data.sources import DataSet, Held, Part
from bcgraph.data.split import Split, Splits
from bcgraph.profile import profile
from bcgraph.training import Options
from bcgraph.training.batches import Batch
from bcgraph.training.distributed.devices import process_group
from bcgraph.training.optimizers import factor, optimizer
from bcgraph.training.train_step import TrainStep
from benchmarks import recipes

FOUND = recipes.load()
SHAPES = {"cifar10": (3, 32, 32), "cifar100": (3, 32, 32), "tiny_imagenet": (3, 64, 64), "cifar10dvs": (2, 48, 48)}
PARAMETERS = {"resnet18": 11_173_962, "plain18": 11_046_308, "resnet19": 12_697_994}


def test_each_row_of_the_paper_has_its_recipe() -> None:
    assert FOUND.keys() == recipes.PAPER.keys()
    for name, spec in FOUND.items():
        data, network, steps = name.rsplit("_", 2)
        assert (spec.name, spec.data.name, f"t{spec.steps}") == (name, data, steps)
        assert spec.backbone.call.name == network.replace("plain", "resnet")
        assert spec.input.shape == SHAPES[data]
        assert spec.input.kind == ("sequence" if data == "cifar10dvs" else "image")
        assert dict(spec.backbone.call.arguments)["residual"] is (network != "plain18")
        assert spec.readout == "mean"
        assert spec.backward == ()


@pytest.mark.parametrize("name", FOUND)
def test_settings_are_those_of_the_paper(name: str) -> None:
    epochs = 200 if name.startswith("tiny_imagenet") else 300
    assert FOUND[name].train == schema.TrainSpec(epochs=epochs)
    assert FOUND[name].search == schema.SearchSpec()
    text = (recipes.FOLDER / f"{name}.bcg").read_text()
    assert dsl.format_text(text) == text


def test_the_page_is_up_to_date() -> None:
    page = (Path(__file__).parents[2] / "docs" / "recipes.md").read_text(encoding="utf-8")
    assert page == recipes.page()
    assert "None of them has been run at scale" in page


def test_hours_by_hand() -> None:
    spec = FOUND["cifar10_resnet18_t4"]
    forward = 2 * 4 * 555_422_720
    assert recipes.training_operations(spec) == forward * 300 * (3 * 50_000 + 10_000)
    # 100 epochs on 40,000 images; 20 + 20*20 evaluations on 10,000; 2,000 scores of 64 images, forward and backward.
    assert recipes.search_operations(spec) == pytest.approx(
        forward * (100 * 3 * 40_000 + 420 * 10_000 + 2_000 * 64 * 2), rel=1e-12
    )


@pytest.mark.parametrize("name", FOUND)
def test_connections_cost_little(name: str) -> None:
    spec = FOUND[name]
    ports = range(len(spec.ports))
    every = profile(spec.with_backward([(j, i) for j in ports for i in range(j + 1)]))
    costs = sorted(layer.operations for layer in every.layers if layer.kind == "backward")
    assert costs[-2] + costs[-1] < 0.02 * profile(spec).operations


@pytest.mark.parametrize("call", ["resnet18(width=16)", "resnet18(width=16, residual=false)", "resnet19(width=16)"])
def test_memory_is_what_a_step_keeps(call: str) -> None:
    spec = dsl.parse(
        f"bcg 1\nnetwork n {{ input = image(3, 32, 32); steps = 4; backbone = {call} }}\ndata = cifar10(batch=8)\n"
    )
    model = compile_network(spec).train()
    own = {tensor.untyped_storage().data_ptr() for tensor in model.state_dict().values()}
    saved: dict[int, int] = {}
    alive = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            saved[storage.data_ptr()] = storage.nbytes()
            alive.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        outputs = model(torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(0)))
    assert outputs.shape == (4, 8, 10)
    assert sum(saved.values()) == pytest.approx(recipes.kept(spec), rel=0.05)


def noise(spec: schema.NetworkSpec, classes: int) -> Split:
    """Four random samples as the recipe's data set would give them, bytes or frames, with its augmentation."""
    form = spec.input
    shape = (spec.steps,) * (form.kind == "sequence") + form.shape
    pixels = np.random.default_rng(0).integers(0, 256, (4, *shape)).astype(np.uint8)
    labels = np.array([0, classes - 1] * 2)
    change = (Flip(), Roll(5)) if form.kind == "sequence" else images(form.height)
    middle = (0.5,) * form.channels
    part = Part(Held(pixels, 1 / 255), labels)
    names = tuple(str(number) for number in range(classes))
    return Splits.of(DataSet(spec.data.name, part, part, names, middle, middle, change)).train


@pytest.mark.slow
@pytest.mark.parametrize("name", FOUND)
def test_steps_of_training_at_full_size(name: str) -> None:
    spec = FOUND[name].with_backward([(16, 0), (8, 2)])
    kind = name.rsplit("_", 2)[1]
    model = compile_network(spec).train()
    classes = dict(spec.backbone.call.arguments)["classes"]
    assert isinstance(classes, int)
    features, width = (256, 128) if kind == "resnet19" else (512, 64)
    expected = PARAMETERS[kind] + (features + 1) * (classes - (100 if kind == "plain18" else 10))
    expected += (spec.input.channels - 3) * width * 9
    own = [parameter for key, parameter in model.named_parameters() if not key.startswith("backward.")]
    assert sum(parameter.numel() for parameter in own) == expected
    options = Options()
    group = process_group(options)
    wrapped = group.setup(model, optimizer(model, spec.train.optimizer))
    train_step = TrainStep(spec, spec.train, group, *wrapped, options.dtype)
    before = {key: value.detach().clone() for key, value in model.named_parameters()}
    losses = []
    for step, (x, y) in enumerate(noise(spec, classes).batches(2, key=1)):
        assert x.shape[-3:] == spec.input.shape
        lr = spec.train.optimizer.lr * factor(spec.train.schedule, step, 2, 1)
        losses.append(float(train_step(Batch(x, y, 2), lr).loss))
    assert len(losses) == 2
    assert all(math.isfinite(loss) for loss in losses)
    for parameter in ("conv1.weight", "backward.16_0.conv.weight", "backward.8_2.bn.weight"):
        assert not torch.equal(model.get_parameter(parameter), before[parameter])

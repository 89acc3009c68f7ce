"""What is refused before a training begins: devices that are not there, and what batch norm cannot be trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from bcgraph import data, dsl, schema
from bcgraph.errors import BcgraphError
from bcgraph.schema import DataSpec, TrainSpec
from bcgraph.training import Options, train
from tests.training.nets import plain


def refused(folder: Path, code: str, says: str, **settings: Any) -> None:
    with pytest.raises(BcgraphError) as caught:
        train(**{"spec": plain(train=TrainSpec(epochs=1)), "out": folder / "run", **settings})
    assert caught.value.code == code
    assert says in str(caught.value)
    assert not (folder / "run").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_devices_that_are_not_there(tmp_path: Path) -> None:
    refused(tmp_path, "E074", "this machine does not have a device of the kind `cuda`", device="cuda")
    refused(tmp_path, "E074", "3 devices of the kind `cuda`", options=Options("cuda", devices=3))


def test_a_precision_is_never_replaced_by_another(tmp_path: Path) -> None:
    refused(tmp_path, "E074", "`16-mixed` cannot be computed on `cpu`", options=Options(precision="16-mixed"))


@pytest.mark.parametrize(("name", "hint"), [("step", "unrolled, folded"), ("fold", "did you mean `folded`")])
def test_schedules_that_train_nothing(tmp_path: Path, name: str, hint: str) -> None:
    refused(tmp_path, "E072", f"no schedule `{name}` to train with", schedule=name)
    refused(tmp_path, "E072", hint, schedule=name)


def single(backbone: str, backward: str = "") -> schema.NetworkSpec:
    text = f"network n {{ input = image(1, 8, 8); steps = 2; backbone = {backbone}; {backward} }}"
    return dsl.parse(f"bcg 1\n{text}\ndata = digits(batch=1)\ntrain {{ epochs = 1 }}")


def test_a_batch_of_one_where_a_batch_norm_sees_one_place(tmp_path: Path) -> None:
    refused(tmp_path, "E041", "`layer4.0.bn1`", spec=single("resnet18(width=2)"))
    # ResNet-19's last port stands between linear layers, which have no batch norm; a connection brings one.
    refused(tmp_path, "E041", "`backward.17_17.bn`", spec=single("resnet19(width=2)", "backward @17 -> @17"))


@pytest.mark.parametrize(("backbone", "backward"), [("tiny(width=2)", "backward @4 -> @4"), ("resnet19(width=2)", "")])
def test_a_batch_of_one_elsewhere(tmp_path: Path, backbone: str, backward: str) -> None:
    spec = single(backbone, backward)
    splits = data.load(spec.data, spec.input, spec.steps)
    few = data.Splits(splits.train.subset(range(3)), splits.test.subset(range(3)), splits.classes, (0.0,), (1.0,))
    assert len(train(spec, out=tmp_path, splits=few).history) == 1


def test_too_few_samples(tmp_path: Path) -> None:
    spec = plain(train=TrainSpec(epochs=1), data=DataSpec(name="digits", batch=4))
    splits = data.load(spec.data, spec.input, spec.steps)
    one = data.Splits(splits.train.subset([0]), splits.test, splits.classes, splits.mean, splits.std)
    refused(tmp_path, "E081", "has 1 sample", spec=spec, splits=one)

"""Other targets and inputs of `bcgraph compile` and `bcgraph run`: int8, NIR, folders of images."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

from bcgraph import data, runtime
from bcgraph.compiler.targets.onnx import int8_comparison as int8
from tests.cli.conftest import TINY, Command
from tests.test_public import imported


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Thirty test samples of the digits as image files, five in each of the folders `0` to `5`."""
    part = data.arrays("digits")
    folder = tmp_path / "pictures"
    for label in range(6):
        (folder / str(label)).mkdir(parents=True)
        for number in np.flatnonzero(part.labels == label)[:5]:
            # Digits are counts from 0 to 16, normalized with mean 0 and deviation 1.
            pixels = np.round(part.inputs[number, 0] * 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / str(label) / f"{number}.png")
    return folder


def test_a_folder_of_images(bcgraph: Command, trained: Path, pictures: Path, tmp_path: Path) -> None:
    for form, options in (("unrolled", ()), ("step", ("--normalize",)), ("scan", ())):
        assert bcgraph("compile", "run", "-o", "net.onnx", "--form", form, *options).code == 0
        done = bcgraph("run", "net.onnx", "--images", "pictures")
        assert done.code == 0, done.err
        lines = [line.split("\t") for line in done.out.splitlines()]
        assert [name for name, _ in lines] == [
            str(p.relative_to(pictures)) for p in sorted(pictures.rglob("*.png"), key=lambda p: (p.parent, p.name))
        ]
        # As it says of the same samples where they come from the data set.
        network = runtime.Network(tmp_path / "net.onnx")
        values = data.arrays("digits").inputs[[int(Path(name).stem) for name, _ in lines]]
        same = np.mean([str(c) == said for c, (_, said) in zip(network.predict(values), lines, strict=True)])
        assert same >= 0.9
        right = np.mean([Path(name).parent.name == said for name, said in lines])
        assert f"accuracy {right:.4f} on 30 images" in done.err
        assert re.search(r"ms a sample in batches of 256; one sample alone \d+\.\d+ ms", done.err)


def test_images_as_data_and_in_batches(bcgraph: Command, trained: Path, pictures: Path) -> None:
    assert bcgraph("compile", "run", "-o", "net.onnx").code == 0
    whole, parts = (
        json.loads(bcgraph("run", "net.onnx", "--images", "pictures", "--json", "--batch", n).out) for n in ("64", "7")
    )
    assert [i["class"] for i in whole["images"]] == [i["class"] for i in parts["images"]]
    assert whole["accuracy"] == parts["accuracy"]
    assert whole["latency_ms"]["median"] > 0
    # One folder that is no class, and there is no accuracy to tell.
    (pictures / "5").rename(pictures / "five")
    assert json.loads(bcgraph("run", "net.onnx", "--images", "pictures", "--json").out)["accuracy"] is None


def test_images_that_cannot_be_used(bcgraph: Command, tiny: Path, pictures: Path, tmp_path: Path) -> None:
    assert bcgraph("compile", tiny, "-o", "net.onnx").code == 0
    assert "there is no folder" in bcgraph("run", "net.onnx", "--images", "nowhere").fault("E081")
    (tmp_path / "empty").mkdir()
    assert "holds no images" in bcgraph("run", "net.onnx", "--images", "empty").fault("E081")
    (pictures / "0" / "broken.png").write_bytes(b"no image")
    assert "broken.png" in bcgraph("run", "net.onnx", "--images", "pictures").fault("E081")
    assert bcgraph("run", "net.onnx", "--images", "pictures", "--stream").code == 2
    text = tiny.read_text().replace("image(1, 8, 8)", "sequence(1, 1, 8)").replace("digits", "digits_rows")
    (tmp_path / "rows.bcg").write_text(text.replace("steps    = 2", "steps    = 8"))
    assert bcgraph("compile", "rows.bcg", "-o", "rows.onnx").code == 0
    assert "not images" in bcgraph("run", "rows.onnx", "--images", "pictures").fault("E090")


def test_images_load_no_torch(bcgraph: Command, tiny: Path, pictures: Path, tmp_path: Path) -> None:
    assert bcgraph("compile", tiny, "-o", "net.onnx").code == 0
    code = f"""
import sys
from bcgraph.cli.main import main
sys.argv = ["bcgraph", "run", {str(tmp_path / "net.onnx")!r}, "--images", {str(pictures)!r}]
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
"""
    assert not imported(code) & {"torch", "onnx", "matplotlib", "lark", "sklearn", "nir"}


@pytest.mark.parametrize("form", ["unrolled", "step"])
def test_int8(bcgraph: Command, trained: Path, tmp_path: Path, form: str) -> None:
    found = json.loads(bcgraph("compile", "run", "-o", "net.onnx", "--int8", "--form", form, "--json").out)["int8"]
    before, after = found["rows"]
    assert (before["file"], after["file"]) == ("float32", "int8")
    assert found["samples"] == 597
    assert found["calibration"] == 128
    assert after["accuracy"] > before["accuracy"] - int8.LIMIT
    assert 0 < found["spikes"] < 0.2
    assert after["size"] == (tmp_path / "net.onnx").stat().st_size
    ran = json.loads(bcgraph("run", "net.onnx", "--data", "digits", "--json").out)
    assert ran["accuracy"] == pytest.approx(after["accuracy"])
    assert ran["form"] == form
    table = bcgraph("compile", "run", "-o", "again.onnx", "--int8", "--form", form).out
    assert re.search(r"float32 +0\.\d{4}", table)
    assert re.search(r"int8 +0\.\d{4} +\d+\.\d\d% +\d+\.\d\d%", table)


def test_what_is_in_an_int8_file(bcgraph: Command, trained: Path, tmp_path: Path) -> None:
    assert bcgraph("compile", "run", "-o", "net.onnx", "--int8").code == 0
    model = onnx.load(tmp_path / "net.onnx")
    facts = {p.key: p.value for p in model.metadata_props}
    assert facts["bcgraph.precision"] == "int8"
    assert all(key.startswith("bcgraph.") for key in facts)
    assert {o.domain: o.version for o in model.opset_import}[""] == 18
    stored = {i.name: onnx.numpy_helper.to_array(i) for i in model.graph.initializer}
    weights = {name: value for name, value in stored.items() if name.endswith(".weight_quantized")}
    assert len(weights) == 8
    assert all(value.dtype == np.int8 for value in weights.values())
    # One scale for each channel.
    for name, value in weights.items():
        assert stored[name.replace("_quantized", "_scale")].shape == value.shape[:1]
    # Spikes are exact: they go into the integers with the scale 1.
    spikes = [n.output[0] for n in model.graph.node if n.op_type.startswith("Lif")]
    scales = [n.input[1] for n in model.graph.node if n.op_type == "QuantizeLinear" and n.input[0] in spikes]
    assert len(scales) > 4
    assert {float(stored[name]) for name in scales} == {1.0}


def test_int8_that_loses_too_much(
    bcgraph: Command, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(int8, "LIMIT", -1.0)
    assert "in int8 the accuracy falls" in bcgraph("compile", "run", "-o", "net.onnx", "--int8").fault("E075")
    assert not (tmp_path / "net.onnx").exists()


def test_where_there_is_no_int8(bcgraph: Command, tiny: Path, tmp_path: Path) -> None:
    assert "--int8" in bcgraph("compile", tiny, "-o", "net.nir", "--int8").fault("E072")
    assert "--int8" in bcgraph("compile", tiny, "-o", "net.onnx", "--int8", "--form", "scan").fault("E072")
    tiny.write_text(tiny.read_text().replace("digits(batch=64)", 'folder(root="nowhere")'))
    bcgraph("compile", tiny, "-o", "net.onnx", "--int8").fault("E081")
    assert not list(tmp_path.glob("net.*x"))


def test_nir(bcgraph: Command, trained: Path, tmp_path: Path) -> None:
    refused = bcgraph("compile", "run", "-o", "net.nir").fault("E073")
    assert "@4 -> @1 (`layer2.0.lif2` -> `layer1.0.lif1`): it changes the resolution from 4x4 to 8x8" in refused
    assert "hint:" in refused
    assert not (tmp_path / "net.nir").exists()
    done = bcgraph("compile", "run", "-o", "net.nir", "--allow-loss")
    assert done.code == 0
    assert "lost: @4 -> @1" in done.err
    assert "without what is lost" in done.out
    (tmp_path / "plain.bcg").write_text(TINY.replace("backward @4", "backward @1"))
    assert bcgraph("compile", "plain.bcg", "-o", "plain.nir").code == 0
    assert bcgraph("compile", "plain.bcg", "-o", "plain.onnx").code == 0
    onnxruntime, nir = (
        json.loads(bcgraph("run", name, "--data", "digits", "--json").out) for name in ("plain.onnx", "plain.nir")
    )
    assert nir["form"] == "nir"
    assert nir["accuracy"] == pytest.approx(onnxruntime["accuracy"], abs=0.01)
    (tmp_path / "text.nir").write_text("this is no network")
    assert "text.nir" in bcgraph("run", "text.nir", "--data", "digits").fault("E087")
    (tmp_path / "net.nir").rename(tmp_path / "net.onnx")
    assert "no ONNX file" in bcgraph("run", "net.onnx", "--data", "digits").fault("E087")


def test_a_search_at_one_resolution_ends_in_nir(bcgraph: Command, tmp_path: Path) -> None:
    search = """search {
  same_resolution = true
  init { pool = 6; keep = 3; scores = [e]; batch = 20 }
  evolve { score = e; iterations = 1; top = 2; population = 3; offspring = 2 }
}
"""
    (tmp_path / "net.bcg").write_text(TINY.replace("  backward @4 -> @1\n", "") + search)
    assert bcgraph("search", "net.bcg", "--out", "found").code == 0
    history = json.loads(bcgraph("report", "found", "--json").out)
    sizes = [8, 8, 8, 4, 4]
    tried = [tuple(pair) for e in history["evaluations"] for pair in e["backward"]]
    assert len(set(tried)) > 3
    assert all(sizes[source] == sizes[target] for source, target in tried)
    assert bcgraph("compile", "found", "-o", "best.nir").code == 0
    assert bcgraph("run", "best.nir", "--data", "digits").code == 0

"""Every runtime loads what was exported for it, says what is wrong otherwise, and imports no other one."""

import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest

from centermask_keras.config import load_config
from centermask_keras.errors import CenterMaskError
from centermask_keras.inference import find_runtime, load
from centermask_keras.objects import Category
from centermask_keras.runtimes.description import FILE, Description, parse_description
from centermask_keras.runtimes.onnx import ONNXPredictor
from centermask_keras.runtimes.saved_model import SavedModelPredictor
from centermask_keras.runtimes.tflite import TFLitePredictor

ROOT = Path(__file__).resolve().parents[2]


def test_the_description_survives_its_journey():
    categories = [Category(3, "a"), Category(9, "ä")]
    description = Description(load_config(ROOT / "configs" / "demo.json"), categories)
    assert parse_description(json.dumps(description.to_json()), "x") == description


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"categories": [], "config": {}}'])
def test_another_description_is_refused(text):
    with pytest.raises(CenterMaskError, match="x"):
        parse_description(text, "x")


@pytest.mark.parametrize("name", ["model.tflite", "model.onnx"])
def test_files_that_are_not_there_or_not_ours(tmp_path, name):
    path = tmp_path / name
    with pytest.raises(CenterMaskError, match="expected a file, received none"):
        load(path)
    path.write_bytes(b"something else")
    with pytest.raises(CenterMaskError, match=name):
        load(path)
    if name == "model.tflite":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("labels.txt", "a")
    else:
        identity = onnx.helper.make_node("Identity", ["a"], ["b"])
        ends = [onnx.helper.make_tensor_value_info(end, onnx.TensorProto.FLOAT, [1]) for end in "ab"]
        graph = onnx.helper.make_graph([identity], "g", ends[:1], ends[1:])
        onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9), path)
    with pytest.raises(CenterMaskError, match=re.escape(FILE)):
        load(path)


def test_a_foreign_saved_model_is_refused(tmp_path):
    (tmp_path / "saved_model.pb").touch()
    assert find_runtime(tmp_path) == "saved_model"
    with pytest.raises(CenterMaskError, match=re.escape(FILE)):
        load(tmp_path)


def test_the_newest_version_is_loaded(tmp_path):
    for version in ("2", "10", "x"):
        (tmp_path / version).mkdir()
        (tmp_path / version / "saved_model.pb").touch()
    with pytest.raises(CenterMaskError, match=re.escape(str(tmp_path / "10"))):
        load(tmp_path)


def test_exported_models_cannot_be_changed(tmp_path):
    (tmp_path / "m.onnx").touch()
    with pytest.raises(CenterMaskError, match="expected no changes"):
        load(tmp_path / "m.onnx", ["eval.mask_threshold=0.5"])


def test_every_runtime_is_a_predictor():
    assert {c.__name__ for c in SavedModelPredictor.__mro__[1].__subclasses__()} >= {
        TFLitePredictor.__name__,
        ONNXPredictor.__name__,
        SavedModelPredictor.__name__,
    }


EDGE = """
import sys
for name in ("tensorflow", "keras", "jax", "torch", "tf2onnx", "onnx", "faster_coco_eval", sys.argv[1]):
    sys.modules[name] = None
from centermask_keras.cli import main
main(sys.argv[2:])
"""


@pytest.mark.slow
@pytest.mark.parametrize(("suffix", "other"), [("_fp32.tflite", "onnxruntime"), (".onnx", "ai_edge_litert")])
def test_predict_runs_where_neither_tensorflow_nor_keras_can_be_imported(nuclei_files, tmp_path, suffix, other):
    samples = ROOT / "saved_models" / "nuclei" / "samples"
    model = nuclei_files / f"{nuclei_files.name}{suffix}"
    arguments = ["predict", "--model", str(model), str(samples), "--out", str(tmp_path)]
    done = subprocess.run([sys.executable, "-c", EDGE, other, *arguments], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    rows = json.loads((tmp_path / "predictions.json").read_text())["images"]
    for row in rows:
        expected = load(ROOT / "saved_models" / "nuclei", ["model.dtype_policy=float32"]).predict(row["file_name"])[0]
        assert len(row["objects"]) == len(expected) >= 20
        np.testing.assert_allclose([r["score"] for r in row["objects"]], expected.scores, atol=1e-3)
    assert len(rows) == 2 and (tmp_path / "fluorescence.png").is_file()


@pytest.fixture(scope="module")
def nuclei_files(tmp_path_factory):
    """The shipped model as float .tflite and .onnx."""
    from centermask_keras.export.export import export_run

    folder = tmp_path_factory.mktemp("files") / "nuclei"
    samples = sorted((ROOT / "saved_models" / "nuclei" / "samples").iterdir())
    export_run(ROOT / "saved_models" / "nuclei", folder, ("tflite", "onnx"), samples)
    return folder


def test_the_edge_needs_what_the_requirements_name():
    lines = (ROOT / "requirements-edge.txt").read_text().splitlines()
    names = {re.match(r"[\w-]+", line).group() for line in lines if line and not line.startswith("#")}
    assert {"numpy", "ai-edge-litert", "onnxruntime"} <= names
    assert not names & {"tensorflow", "keras"}

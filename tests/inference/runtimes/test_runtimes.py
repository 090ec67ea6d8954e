"""Every runtime loads what was exported for it, says what is wrong otherwise, and imports no other one."""

import json
import re
import subprocess
import sys
import zipfile
from importlib.metadata import PackageNotFoundError, distributions, packages_distributions, requires
from pathlib import Path

import numpy as np
import onnx
import pytest
from project_files import files_in

from centermask_keras.config import load_config
from centermask_keras.errors import CenterMaskError
from centermask_keras.inference.load import find_runtime, load
from centermask_keras.inference.objects import Category
from centermask_keras.inference.runtimes.description import FILE, Description, parse_description
from centermask_keras.inference.runtimes.saved_model import SavedModelPredictor
from centermask_keras.inference_config import to_inference_config

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize(
    ("name", "resize", "sides"),
    [
        ("configs/demo", "letterbox", "128, 128, 3]"),
        ("configs/fcos_resnet101", "turned", "height, width, 3], 800 x 1344 or 1344 x 800"),
        ("saved_models/nuclei/config", "keep", "height, width, 3], height and width multiples of 32"),
    ],
)
def test_the_description_survives_its_journey(name, resize, sides):
    categories = [Category(3, "a"), Category(9, "ä")]
    config = to_inference_config(load_config(ROOT / f"{name}.json", ["model.num_classes=2"]))
    description = Description(config, categories)
    assert parse_description(description.text(), "x") == description
    assert description.config.eval.resize == resize
    assert description.to_json()["input"].startswith(f"uint8 [batch, {sides}, RGB")
    assert description.labels() == "a\nä\n"
    assert Description(config, [Category(1, "cell\nwall"), Category(2, "b")]).labels() == "cell\\nwall\nb\n"


@pytest.fixture
def values():
    config = to_inference_config(load_config(ROOT / "saved_models" / "nuclei" / "config.json"))
    return Description(config, [Category(1, "nucleus")]).to_json()


def test_keys_of_later_versions_are_passed_over(values):
    expected = parse_description(json.dumps(values), "x")
    values["config"]["eval"]["sharpen"] = values["config"]["more"] = values["also"] = 3
    assert parse_description(json.dumps(values), "x") == expected


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", b"\xff", '{"categories": [], "config": {}}', "[" * 100000])
def test_another_description_is_refused(text):
    with pytest.raises(CenterMaskError, match="^x: expected the description of an exported model, received"):
        parse_description(text, "x")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, "expected a description of format 1, received 2. Update"),
        ({"categories": []}, "expected 1 categories, received 0"),
        ({"categories": [{"id": float("inf"), "name": "a"}]}, "received OverflowError"),
        ({"categories": [{"name": "a"}]}, "received KeyError"),
        ({"config": None}, "received config: Input should be an object"),
        ({"config": {"model": {}}}, "received config.model.num_classes: Field required"),
        ({"config": float("nan")}, "received config: "),
    ],
)
def test_what_is_wrong_with_a_description_is_said(values, change, message):
    with pytest.raises(CenterMaskError, match=re.escape(message)):
        parse_description(json.dumps(values | change), "x")


@pytest.mark.parametrize("name", ["model.tflite", "model.onnx"])
def test_files_that_are_not_there_or_not_ours(tmp_path, name):
    path = tmp_path / name
    with pytest.raises(CenterMaskError, match="expected a run folder or an exported model, received none"):
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
    for open_model in (load, SavedModelPredictor):
        with pytest.raises(CenterMaskError, match=re.escape(FILE)):
            open_model(tmp_path)


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


def test_a_damaged_graph_with_a_sound_archive_is_refused(tmp_path, values):
    path = tmp_path / "model.tflite"
    path.write_bytes(b"TFL3" + bytes(200))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(FILE, json.dumps(values))
    with pytest.raises(CenterMaskError, match="model.tflite: expected a TFLite model, received"):
        load(path)


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
    samples = files_in("saved_models/nuclei/samples")
    export_run(ROOT / "saved_models" / "nuclei", folder, ("tflite", "onnx"), samples)
    return folder


IMPORTED = """
import sys
before = set(sys.modules)
import centermask_keras.cli, centermask_keras.inference.runtimes.onnx, centermask_keras.inference.runtimes.tflite
print(*sorted({name.partition(".")[0] for name in set(sys.modules) - before}))
"""


def test_the_edge_imports_what_the_requirements_name_and_no_more():
    """Every package that comes with `predict` is a requirement, or one that a requirement brings along."""
    lines = (ROOT / "requirements-edge.txt").read_text().splitlines()
    required = {re.match(r"[\w-]+", line).group() for line in lines if line and not line.startswith("#")}
    required = {installed_name(name) for name in required}
    done = subprocess.run([sys.executable, "-c", IMPORTED], cwd=ROOT, capture_output=True, text=True, check=True)
    owners = packages_distributions()
    imported = {plain(owners[name][0]) for name in done.stdout.split() if name in owners} - {"centermask-keras"}
    assert {"numpy", "ai-edge-litert", "onnxruntime", "pillow", "pydantic"} <= imported
    assert imported <= with_dependencies(required), imported - with_dependencies(required)
    assert required <= imported, required - imported


def plain(name: str) -> str:
    """Write the name of a package as registries do."""
    return name.lower().replace("_", "-")


def installed_name(name: str) -> str:
    """OpenCV without windows is the same module by another name; the tests run with either."""
    installed = {plain(row.name) for row in distributions()}
    return name.removesuffix("-headless") if name not in installed else name


def with_dependencies(names: set[str]) -> set[str]:
    """Add what the installed packages need, their extras left out."""
    found, rest = set(), set(names)
    while rest:
        name = rest.pop()
        found.add(name)
        try:
            needed = requires(name) or []
        except PackageNotFoundError:
            continue  # of another platform
        rest |= {plain(re.match(r"[\w.-]+", row).group()) for row in needed if "extra ==" not in row} - found
    return found

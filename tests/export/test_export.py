"""Every exported file gives what Keras gives, on real images of every awkward shape."""

import dataclasses
import hashlib
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from centermask_keras.cli import main
from centermask_keras.config import load_config
from centermask_keras.errors import CenterMaskError
from centermask_keras.export import export
from centermask_keras.export.export import export_run, spread
from centermask_keras.export.formats import FORMATS, check_name, import_exporter
from centermask_keras.export.parity import TOLERANCES, compare
from centermask_keras.export.record import RECORD, signatures, size_of, table_header, table_row, write_record
from centermask_keras.inference.load import load
from centermask_keras.inference.runtimes.description import Description, parse_description
from centermask_keras.inference_config import to_inference_config
from centermask_keras.shipped import find_model

MODELS = ["demo", *(pytest.param(name, marks=pytest.mark.slow) for name in ("nuclei", "coco", "fcos"))]
FILES = ["SavedModel fp32", "TFLite fp32", "ONNX fp32", "TFLite fp16", "TFLite dynamic", "TFLite int8"]


@pytest.fixture(params=MODELS)
def model(request):
    return request.getfixturevalue(request.param)


@pytest.mark.parametrize("title", FILES)
def test_exported_files_agree_with_keras(model, title):
    exported = model.files[title]
    parity = compare(model.reference, load(exported.path), model.canvases)
    assert not parity.faults(model.tolerances[exported.precision])
    assert not exported.parity.faults(model.tolerances[exported.precision])


def test_there_is_something_to_compare(model):
    for name, path in model.images.items():
        (result,) = model.predictor.predict(path)
        if name == "nothing":
            assert len(result) == 0
        elif name != "one_pixel_high":
            assert len(result) >= 20, name
            areas = np.prod(result.boxes[:, 2:] - result.boxes[:, :2], axis=1)
            filled = result.masks.dense().sum((1, 2)) / np.maximum(areas, 1)
            assert (filled > 0).mean() > 0.9 and (filled < 0.9).mean() > 0.25, name


def test_classes_are_several(demo):
    found = {name for path in demo.images.values() for name in demo.predictor.predict(path)[0].class_names}
    assert len(found) >= 4


def test_the_record_says_what_was_exported(demo):
    record = json.loads((demo.folder / RECORD).read_text())
    weights = (demo.folder.parent / "run" / "model.weights.h5").read_bytes()
    assert record["weights_sha256"] == hashlib.sha256(weights).hexdigest()
    assert record["class_names"] == [category.name for category in demo.predictor.categories]
    assert record["versions"]["tensorflow"] and record["most_pixels"] == 8192 * 8192
    assert set(record["signatures"]) == set(FORMATS)
    assert record["signatures"]["tflite"]["serving_default"]["in"]["images"].startswith("uint8 [1, 128, 128, 3]")
    assert record["signatures"]["onnx"]["in"]["images"].startswith("uint8 [B, 128, 128, 3]")
    assert "train" not in json.dumps(record["config"])
    for row in record["files"]:
        path = demo.folder / row["path"]
        assert row["bytes"] == size_of(path) > 0 and row["objects"] > 0


def test_the_table_has_a_row_per_file(demo):
    rows = [table_row(exported) for exported in demo.files.values()]
    assert len(rows) == len(FILES) and {len(row) for row in rows} == {len(table_header())}


def test_spread_takes_both_ends():
    assert spread(list(range(10)), 3) == [0, 4, 9] and spread([1, 2], 5) == [1, 2] and spread([], 3) == []


def test_the_record_says_what_the_sides_are_multiples_of(nuclei_config):
    assert "height and width multiples of 32" in signatures("onnx", nuclei_config)["in"]["images"]
    assert set(signatures("saved_model", nuclei_config)) == {"serving_default", "id_map", "tensor", "describe"}


@pytest.fixture(scope="module")
def nuclei_config():
    return to_inference_config(load_config(find_model("nuclei") / "config.json"))


def test_packages_that_are_not_installed_have_no_version(demo, tmp_path, monkeypatch):
    monkeypatch.setattr("centermask_keras.export.record.VERSIONS_OF", ("numpy", "no_such_module"))
    description = Description(to_inference_config(demo.predictor.config), demo.predictor.categories)
    write_record(tmp_path, demo.folder.parent / "run", description, [])
    assert set(json.loads((tmp_path / RECORD).read_text())["versions"]) == {"centermask-keras", "python", "numpy"}


def test_a_file_without_any_object_has_a_row_and_a_record(demo, tmp_path):
    empty, path = np.zeros(0), tmp_path / "x.onnx"
    row = dataclasses.replace(demo.files["ONNX fp32"], path=path)
    path.touch()
    parity = dataclasses.replace(row.parity, boxes=empty, scores=empty, mask_iou=empty, lost=173)
    row = dataclasses.replace(row, parity=parity)
    assert "nan" in table_row(row)
    description = Description(to_inference_config(demo.predictor.config), demo.predictor.categories)
    write_record(tmp_path, demo.folder.parent / "run", description, [row])
    assert json.loads((tmp_path / RECORD).read_text())["files"][0]["boxes_px"] == {"mean": None, "worst": None}


@pytest.fixture
def strict(monkeypatch):
    """Tolerances that nothing fulfils."""
    for precision, tolerance in list(TOLERANCES.items()):
        monkeypatch.setitem(TOLERANCES, precision, dataclasses.replace(tolerance, boxes=-1.0))


@pytest.fixture
def onnx_only(demo, monkeypatch):
    """Have the file of the fixture written instead of converting once more."""

    def copy(detector, description, folder, canvases):
        path = folder / f"{folder.name}.onnx"
        shutil.copy(demo.files["ONNX fp32"].path, path)
        return {"fp32": path}

    monkeypatch.setattr(export, "import_exporter", lambda name: copy)


def test_an_export_out_of_tolerance_raises_after_it_is_written(demo, tmp_path, onnx_only, strict):
    run = demo.folder.parent / "run"
    with pytest.raises(CenterMaskError, match=r"bad\.onnx: boxes: expected within -1.0 px"):
        export_run(run, tmp_path / "bad", ["onnx"], [demo.images["portrait"]])
    assert json.loads((tmp_path / "bad" / RECORD).read_text())["files"][0]["path"] == "bad.onnx"


def test_the_command_fails_with_it(demo, tmp_path, onnx_only, strict, capsys):
    run = demo.folder.parent / "run"
    arguments = ["export", "--run", str(run), "--format", "onnx", "--to", str(tmp_path / "bad")]
    with pytest.raises(SystemExit) as stop:
        main([*arguments, "--images", str(demo.images["portrait"])])
    printed = capsys.readouterr()
    assert stop.value.code == 1 and printed.err.startswith("error: ") and "expected within -1.0 px" in printed.err
    assert "ONNX fp32" in printed.out and "all within tolerance" not in printed.out


def test_a_model_that_finds_nothing_is_exported_with_a_warning(demo, tmp_path, monkeypatch, capsys):
    """Float32 is compared by its best rows; of lower precisions nothing is known, and that is said."""

    def copy(detector, description, folder, canvases):
        paths = {precision: folder / f"{folder.name}_{precision}.onnx" for precision in ("fp32", "int8")}
        for path in paths.values():
            shutil.copy(demo.files["ONNX fp32"].path, path)
        return paths

    monkeypatch.setattr(export, "import_exporter", lambda name: copy)
    monkeypatch.setattr("centermask_keras.export.parity.SCORE_THRESHOLD", 1.0)
    images, folder = demo.images["portrait"], tmp_path / "faint"
    arguments = ["--format", "onnx", "--to", str(folder), "--images", str(images)]
    with pytest.raises(SystemExit) as stop:
        main(["export", "--run", str(demo.folder.parent / "run"), *arguments])
    printed = capsys.readouterr().out
    assert stop.value.code == 0
    assert "NOT MEASURED" in printed and "these are: faint_int8.onnx" in printed and "the others within" in printed
    first, second = json.loads((folder / RECORD).read_text())["files"]
    assert first["objects"] > 0 and second["parity"] == "not measured" and "objects" not in second


def test_a_folder_is_named_wherever_it_is_seen_from(demo, tmp_path, onnx_only, monkeypatch):
    run, images = (demo.folder.parent / "run").resolve(), [demo.images["portrait"].resolve()]
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path / "mine")
    export_run(run, Path(), ["onnx"], images)
    assert (tmp_path / "mine" / "mine.onnx").is_file()
    assert json.loads((tmp_path / "mine" / RECORD).read_text())["name"] == "mine"


@pytest.mark.parametrize("name", ["my model", "zelle_\u00e4", "a:b"])
def test_a_name_to_serve_by_is_checked_before_anything_is_done(tmp_path, name):
    with pytest.raises(CenterMaskError, match="expected a name of letters"):
        export_run(tmp_path / "no run", tmp_path / name, ["saved_model"], [])
    assert not (tmp_path / name).exists()


def test_a_name_is_that_of_the_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert check_name(tmp_path / "a" / "..") == tmp_path.name


@pytest.mark.parametrize(("name", "package"), [("tflite", "ai_edge_quantizer"), ("onnx", "tf2onnx")])
def test_a_format_without_its_packages_says_what_to_install(name, package, monkeypatch, tmp_path):
    for module in [module for module in sys.modules if module.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.delitem(sys.modules, f"centermask_keras.export.{name}")
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(
        CenterMaskError, match=rf"the package {package}\S*, .* pip install {package.replace('_', '-')}$"
    ):
        export_run(tmp_path / "no run", tmp_path / "x", [name], [])


def test_formats_are_imported_one_by_one():
    assert [import_exporter(name).__name__ for name in FORMATS] == [f"export_{name}" for name in FORMATS]


def test_nothing_of_the_training_travels_with_the_files(demo):
    text = (demo.folder / "1" / "assets.extra" / "centermask.json").read_text()
    assert parse_description(text, "x").config == to_inference_config(demo.predictor.config)
    assert not {"annotations", "learning_rate", "train", "loss_weights"} & set(text.replace('"', " ").split())

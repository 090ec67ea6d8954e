"""Every exported file gives what Keras gives, on real images of every awkward shape."""

import hashlib
import json

import pytest

from centermask_keras.export.export import EXPORTERS, RECORD, make_canvas, size_of, spread, table_header, table_row
from centermask_keras.export.parity import TOLERANCES, compare
from centermask_keras.inference import load

MODELS = [
    "demo",
    pytest.param("nuclei", marks=pytest.mark.slow),
    pytest.param("coco", marks=pytest.mark.slow),
]
FORMATS = ["SavedModel fp32", "TFLite fp32", "ONNX fp32", "TFLite fp16", "TFLite dynamic", "TFLite int8"]


@pytest.fixture(params=MODELS)
def model(request):
    return request.getfixturevalue(request.param)


@pytest.mark.parametrize("title", FORMATS)
def test_exported_files_agree_with_keras(model, title):
    exported = model.files[title]
    canvases = [make_canvas(path, model.predictor) for path in model.images.values()]
    parity = compare(model.predictor, load(exported.path), canvases)
    assert not parity.faults(TOLERANCES[exported.precision])


def test_there_is_something_to_compare(model):
    for name, path in model.images.items():
        (result,) = model.predictor.predict(path)
        if name == "nothing":
            assert len(result) == 0
        elif name != "one_pixel_high":
            assert len(result) >= 20, name
            assert (result.masks.dense().sum((1, 2)) > 0).all()


def test_classes_are_several(demo):
    found = {name for path in demo.images.values() for name in demo.predictor.predict(path)[0].class_names}
    assert len(found) >= 4


def test_the_record_says_what_was_exported(demo):
    record = json.loads((demo.folder / RECORD).read_text())
    weights = (demo.folder.parent / "run" / "model.weights.h5").read_bytes()
    assert record["weights_sha256"] == hashlib.sha256(weights).hexdigest()
    assert record["class_names"] == [category.name for category in demo.predictor.categories]
    assert record["config"]["model"]["dtype_policy"] == "float32" and record["versions"]["tensorflow"]
    assert set(record["signatures"]) == set(EXPORTERS)
    for row in record["files"]:
        path = demo.folder / row["path"]
        assert row["bytes"] == size_of(path) > 0 and row["objects"] > 0


def test_the_table_has_a_row_per_file(demo):
    rows = [table_row(exported) for exported in demo.files.values()]
    assert len(rows) == len(FORMATS) and {len(row) for row in rows} == {len(table_header())}


def test_spread_takes_both_ends():
    assert spread(list(range(10)), 3) == [0, 4, 9] and spread([1, 2], 5) == [1, 2] and spread([], 3) == []

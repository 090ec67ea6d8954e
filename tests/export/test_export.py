"""Every exported file gives what Keras gives, on real images of every awkward shape."""

import pytest

from centermask_keras.export.export import make_canvas
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

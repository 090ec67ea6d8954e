"""The .tflite files: builtin operations, what travels in them, how much of them is int8."""

import json
import re
import zipfile

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from centermask_keras.config import load_config
from centermask_keras.detectors import build_detector
from centermask_keras.export import tflite
from centermask_keras.export.tflite import PRECISIONS, _widen, export_tflite, int8_layers, last_layers
from centermask_keras.inference.runtimes.description import FILE, LABELS, Description
from centermask_keras.inference.runtimes.tflite import TFLitePredictor
from centermask_keras.inference_config import to_inference_config

FILES = [*PRECISIONS, "int8"]


def operations(path) -> list[str]:
    interpreter = Interpreter(model_path=str(path))
    return [row["op_name"] for row in interpreter._get_ops_details()]


@pytest.mark.parametrize("precision", FILES)
def test_operations_are_builtin(demo, precision):
    names = operations(demo.files[f"TFLite {precision}"].path)
    assert len(names) > 100
    assert not [name for name in names if "FLEX" in name.upper() or "CUSTOM" in name.upper()]


def test_kernels_computed_from_weights_are_constants(demo):
    assert "REVERSE_V2" not in operations(demo.files["TFLite fp32"].path)


@pytest.mark.parametrize("precision", FILES)
def test_classes_and_configuration_travel_with_the_file(demo, precision):
    with zipfile.ZipFile(demo.files[f"TFLite {precision}"].path) as archive:
        names = archive.read(LABELS).decode().splitlines()
        description = json.loads(archive.read(FILE))
    assert names == [category.name for category in demo.predictor.categories]
    assert description["config"]["data"]["input_hw"] == [128, 128] and "normalised" in description["input"]


def test_precisions_differ_in_size(demo):
    sizes = {precision: demo.files[f"TFLite {precision}"].path.stat().st_size for precision in FILES}
    assert sizes["fp16"] < 0.7 * sizes["fp32"] and max(sizes["dynamic"], sizes["int8"]) < 0.6 * sizes["fp32"]


def test_int8_computes_the_network_and_nothing_else(demo):
    """The last layers are convolutions of float maps, with float kernels."""
    details = Interpreter(model_path=str(demo.files["TFLite int8"].path)).get_tensor_details()
    int8 = {row["name"] for row in details if row["dtype"] == np.int8}
    assert sum("/network" in name for name in int8) > 20
    # What the first convolution takes is the normalised image, brought to int8; the normalisation itself is not.
    computed = {name for name in int8 if not name.endswith("_quantized")}
    assert not [name for name in computed if "point_heads" in name or "normalization" in name]
    for head in ("heatmap", "saliency"):
        maps = [row for row in details if f"/{head}_2_1/" in row["name"] and len(row["shape"]) == 4]
        assert maps and all(row["dtype"] == np.float32 for row in maps)
        assert any(f"/{head}_0_1/" in name for name in int8)


@pytest.fixture(scope="module")
def mobile_network():
    overrides = ["model.num_classes=3", "model.head_channels=16", "data.input_hw=[64, 64]", "model.max_detections=20"]
    return build_detector(load_config("mobile", overrides).model).network


def test_the_last_layers_of_a_network_are_those_before_its_outputs(mobile_network):
    outputs = mobile_network.output
    assert last_layers([outputs["heatmap_logits"], outputs["saliency_logits"]]) == {"heatmap_2", "saliency_2"}


def test_the_last_layers_of_fcos_are_those_of_its_shared_heads():
    overrides = ["model.backbone=resnet_small", "model.head_channels=16", "model.tower_depth=1", "model.num_classes=3"]
    outputs = build_detector(load_config("fcos_resnet101", overrides).model).network.output
    names = {"class_logits", "distances", "centerness_logits", "saliency_2", *(f"scale_p{n}" for n in range(3, 8))}
    assert last_layers(keras.tree.flatten({**outputs, "features": []})) == names


def test_the_last_layers_are_found_through_models_and_what_has_no_kernel():
    inside = keras.Input((8, 8, 3))
    tower = keras.layers.Conv2D(4, 1, name="tower")(inside)
    heads = {name: keras.layers.Conv2D(2, 1, name=name)(tower) for name in ("a", "b")}
    inner = keras.Model(inside, heads, name="inner")
    images = keras.Input((8, 8, 3))
    found = inner(images)
    scaled = keras.layers.ReLU(name="scale")(found["b"])
    assert last_layers([found["a"]]) == {"a"} and last_layers([scaled]) == {"scale", "b"}


@pytest.mark.parametrize(
    ("name", "is_int8"),
    [
        ("centermask_1/network_1/x_1/conv", True),
        ("centermask/network/heatmap_0/conv", True),
        ("centermask/network/heatmap_2/conv", False),
        ("centermask_1/network_1/heatmap_2_1/BiasAdd;centermask_1/network_1/heatmap_2_1/conv", False),
        ("centermask_1/network_1/add_1/Add;centermask_1/network_1/saliency_2_1/BiasAdd", False),
        ("centermask/network/saliency_20/conv", True),
        ("centermask/network/normalization_1/mul", False),
        ("centermask/network/batch_normalization_1/mul", True),
        ("point_heads/size/conv", False),
    ],
)
def test_names_decide_what_is_int8(mobile_network, name, is_int8):
    assert bool(re.search(int8_layers(mobile_network), name)) == is_int8


def test_ranges_widen_and_tensors_without_one_are_passed_over():
    small, large = ({"min": np.array(-a), "max": np.array(a)} for a in (1.0, 2.0))
    assert _widen(None, small) == small and _widen(small, {}) == small and _widen({}, large) == large
    assert _widen(small, large) == large and _widen({}, {}) == {}


@pytest.mark.parametrize(("hw", "calibrated"), [((None, None), (64, 48)), ((128, 128), (128, 128))])
def test_only_graphs_of_any_size_are_calibrated_on_a_part(demo, tmp_path, monkeypatch, hw, calibrated):
    seen = []
    monkeypatch.setattr(tflite, "CALIBRATION_SIDE", 64)
    monkeypatch.setattr(tflite, "save_frozen", lambda *arguments: None)
    monkeypatch.setattr(tflite, "PRECISIONS", {"fp32": lambda source: b""})
    monkeypatch.setattr(tflite, "quantize", lambda model, layers, canvases: seen.extend(canvases) or b"")
    description = Description(to_inference_config(demo.predictor.config), demo.predictor.categories)
    monkeypatch.setattr(type(description.config), "network_hw", hw)
    export_tflite(demo.predictor.detector, description, tmp_path, [np.zeros((128, hw[1] or 48, 3), np.uint8)])
    assert [image.shape[:2] for image in seen] == [calibrated]


def test_a_batch_is_run_image_by_image(demo):
    predictor = TFLitePredictor(demo.files["TFLite fp32"].path, threads=1)
    images = np.random.default_rng(0).integers(0, 256, (2, 128, 128, 3), np.uint8)
    both, second = predictor.detect(images), predictor.detect(images[1:])
    np.testing.assert_array_equal(both["boxes"][1], second["boxes"][0])
    none = predictor.detect(images[:0])
    assert {name: (len(value), value.dtype, value.shape[1:]) for name, value in none.items()} == {
        name: (0, value.dtype, value.shape[1:]) for name, value in both.items()
    }


@pytest.mark.slow
def test_int8_computes_all_of_mobilenet(mobile):
    """Between the normalisation and the last layers nothing is left in float but the copies of the upsampling."""
    interpreter = Interpreter(model_path=str(mobile.files["TFLite int8"].path))
    tensors = {row["index"]: row for row in interpreter.get_tensor_details()}
    left = []
    for row in interpreter._get_ops_details():
        result = tensors[row["outputs"][0]]
        if result["dtype"] == np.float32 and "/mobilenet" in result["name"].lower():
            left.append((row["op_name"], result["name"]))
    assert not [row for row in left if row[0] not in ("DEQUANTIZE", "QUANTIZE", "TILE")], left
    assert sum(row["op_name"] == "HARD_SWISH" for row in interpreter._get_ops_details()) > 10


@pytest.mark.slow
def test_int8_computes_the_convolutions_of_fcos_but_for_the_last_of_each_head(fcos):
    """Of five levels those of classes, distances and centerness, and the one of the saliency, are in float."""
    interpreter = Interpreter(model_path=str(fcos.files["TFLite int8"].path))
    tensors = {row["index"]: row for row in interpreter.get_tensor_details()}
    results = [tensors[row["outputs"][0]] for row in interpreter._get_ops_details() if row["op_name"] == "CONV_2D"]
    is_head = re.compile("/(class_logits|distances|centerness_logits|saliency_2)_1/")
    found = [(bool(is_head.search(row["name"])), row["dtype"]) for row in results if "/network" in row["name"]]
    assert set(found) == {(True, np.float32), (False, np.int8)}
    assert found.count((True, np.float32)) == 3 * 5 + 1 and len(found) > 60

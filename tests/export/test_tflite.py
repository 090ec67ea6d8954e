"""The .tflite files: builtin operations, what travels in them, how much of them is int8."""

import json
import zipfile

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from centermask_keras.export.tflite import CALIBRATION_SIDE, INT8_OPERATIONS, PRECISIONS
from centermask_keras.runtimes.description import FILE, LABELS
from centermask_keras.runtimes.tflite import TFLitePredictor

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
    details = Interpreter(model_path=str(demo.files["TFLite int8"].path)).get_tensor_details()
    int8 = {row["name"] for row in details if row["dtype"] == np.int8}
    assert sum("/network" in name for name in int8) > 20
    assert not [name for name in int8 if "point_heads" in name or "normalization" in name]
    assert len(INT8_OPERATIONS) == 8 and CALIBRATION_SIDE == 512


def test_a_batch_is_run_image_by_image(demo):
    predictor = TFLitePredictor(demo.files["TFLite fp32"].path, threads=1)
    images = np.random.default_rng(0).integers(0, 256, (2, 128, 128, 3), np.uint8)
    both, second = predictor.detect(images), predictor.detect(images[1:])
    np.testing.assert_array_equal(both["boxes"][1], second["boxes"][0])

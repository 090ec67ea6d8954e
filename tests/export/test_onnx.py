"""The .onnx file: opset, named axes, no loop, what travels in it."""

import json

import numpy as np
import onnx
import pytest

from centermask_keras.export.onnx import OPSET, name_axes
from centermask_keras.inference.runtimes.description import FILE, LABELS
from centermask_keras.inference.runtimes.onnx import ONNXPredictor


@pytest.fixture(scope="module")
def graph(demo):
    return onnx.load(demo.files["ONNX fp32"].path)


def dims(value) -> list:
    return [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]


def test_the_model_is_valid_and_of_opset_18(graph):
    onnx.checker.check_model(graph)
    assert OPSET == 18 and {row.domain: row.version for row in graph.opset_import}[""] == 18


def test_there_is_no_loop(graph):
    assert not {node.op_type for node in graph.graph.node} & {"Loop", "Scan", "If"}


@pytest.mark.slow
def test_suppression_is_no_loop_either(fcos):
    graph = onnx.load(fcos.files["ONNX fp32"].path).graph
    assert not {node.op_type for node in graph.node} & {"Loop", "Scan", "If"}


def test_batch_is_named_and_free(graph):
    (images,) = graph.graph.input
    assert images.name == "images" and dims(images) == ["batch", 128, 128, 3]
    shapes = {output.name: dims(output) for output in graph.graph.output}
    assert set(shapes) == {"boxes", "scores", "classes", "valid", "masks"}
    assert all(shape[0] == "batch" for shape in shapes.values())


def test_axes_of_any_size_are_named():
    value = onnx.helper.make_tensor_value_info("images", onnx.TensorProto.UINT8, ["a", "b", "c", 3])
    model = onnx.helper.make_model(onnx.helper.make_graph([], "g", [value], []))
    name_axes(model)
    assert dims(model.graph.input[0]) == ["batch", "height", "width", 3]


def test_classes_and_configuration_travel_with_the_file(graph, demo):
    metadata = {row.key: row.value for row in graph.metadata_props}
    assert metadata[LABELS].splitlines() == [category.name for category in demo.predictor.categories]
    assert json.loads(metadata[FILE])["config"]["data"]["input_hw"] == [128, 128]


def test_batches_of_several_sizes(demo):
    predictor = ONNXPredictor(demo.files["ONNX fp32"].path, threads=1)
    images = np.random.default_rng(0).integers(0, 256, (3, 128, 128, 3), np.uint8)
    three, one = predictor.detect(images), predictor.detect(images[2:])
    np.testing.assert_allclose(three["scores"][2], one["scores"][0], atol=1e-5)

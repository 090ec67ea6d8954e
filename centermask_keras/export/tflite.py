"""TFLite: the inference graph in builtin operations, in four precisions."""

from __future__ import annotations

import contextlib
import io
import json
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf
from ai_edge_quantizer.qtyping import TFLOperationName as Operation
from ai_edge_quantizer.quantizer import Quantizer
from tf2onnx import tf_loader

from centermask_keras.detectors import CenterMask
from centermask_keras.export.saved_model import network_hw
from centermask_keras.runtimes.description import FILE, LABELS, Description

SIGNATURE = "serving_default"
INT8_LAYERS = r"/network(_\d+)?/(?!normalization)(?!.*(heatmap|saliency)_2)"
"""What int8 computes: the network but for the normalisation of colours and the last layers of its heads, whose 256
steps would make neighbours on the heatmap equal. Point heads, decoding and masks stay in float."""
INT8_OPERATIONS = (
    Operation.CONV_2D,
    Operation.DEPTHWISE_CONV_2D,
    Operation.ADD,
    Operation.CONCATENATION,
    Operation.MAX_POOL_2D,
    Operation.PAD,
    Operation.RESHAPE,
    Operation.TRANSPOSE,
)
CALIBRATION_SIDE = 512  # pixels; every map of an image is in memory at once


def export_tflite(
    detector: CenterMask, description: Description, folder: Path, canvases: Sequence[np.ndarray]
) -> dict[str, Path]:
    """Write `NAME_fp32.tflite`, `NAME_fp16.tflite`, `NAME_dynamic.tflite` and `NAME_int8.tflite`.

    Args:
        detector: the detector, float32.
        description: its configuration and classes; it travels in an archive at the end of each file.
        folder: where the files go; its name is theirs.
        canvases: prepared images uint8 [H, W, 3], real ones, to calibrate int8 with.

    Returns:
        Precision to file.
    """
    with tempfile.TemporaryDirectory() as source:
        save_frozen(detector, network_hw(description.config), source)
        contents = {precision: convert(source) for precision, convert in PRECISIONS.items()}
    contents["int8"] = quantize(contents["fp32"], canvases)
    paths = {}
    for precision, content in contents.items():
        paths[precision] = folder / f"{folder.name}_{precision}.tflite"
        paths[precision].write_bytes(content)
        describe(paths[precision], description)
    return paths


def save_frozen(detector: CenterMask, hw: tuple[int | None, int | None], folder: str) -> None:
    """Save the graph for one image with its weights, and everything computed from them alone, as constants."""
    images = tf.TensorSpec([1, *hw, 3], tf.uint8, name="images")
    traced = tf.function(lambda images: dict(detector.detect(images)), input_signature=[images], autograph=False)
    concrete = traced.get_concrete_function()
    names = sorted(concrete.structured_outputs)  # the order of a dictionary's outputs
    outputs = [tensor.name for tensor in concrete.outputs]
    # Kernels that are computed from weights, as those of the upsampling, can be quantised only as constants.
    graph = tf_loader.from_function(concrete, [images.name + ":0"], outputs)
    frozen = tf.compat.v1.wrap_function(lambda: tf.graph_util.import_graph_def(graph, name=""), [])
    pruned = frozen.prune(
        frozen.graph.get_tensor_by_name("images:0"), [frozen.graph.get_tensor_by_name(o) for o in outputs]
    )
    module = tf.Module()
    module.detect = tf.function(
        lambda images: dict(zip(names, pruned(images), strict=True)), input_signature=[images], autograph=False
    )
    tf.saved_model.save(module, folder, signatures=module.detect)


def _converter(source: str) -> tf.lite.TFLiteConverter:
    # Not from_concrete_functions: with the weights of a Keras model it gives a file without them, and says nothing.
    converter = tf.lite.TFLiteConverter.from_saved_model(source)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    return converter


def _convert_fp32(source: str) -> bytes:
    return _converter(source).convert()


def _convert_fp16(source: str) -> bytes:
    converter = _converter(source)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_types = [tf.float16]
    return converter.convert()


def _convert_dynamic(source: str) -> bytes:
    converter = _converter(source)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    return converter.convert()


PRECISIONS: dict[str, Callable[[str], bytes]] = {
    "fp32": _convert_fp32,
    "fp16": _convert_fp16,
    "dynamic": _convert_dynamic,
}


def quantize(model: bytes, canvases: Sequence[np.ndarray]) -> bytes:
    """Compute the network in int8, with ranges from real images, and the rest of the graph in float.

    Args:
        model: the content of a float .tflite file.
        canvases: prepared images uint8 [H, W, 3].
    """
    quantizer = Quantizer(model)
    for operation in INT8_OPERATIONS:
        quantizer.add_static_config(
            regex=INT8_LAYERS, operation_name=operation, activation_num_bits=8, weight_num_bits=8
        )
    ranges: dict[str, dict[str, np.ndarray]] = {}
    with contextlib.redirect_stderr(io.StringIO()):  # progress bars
        for canvas in canvases:
            # One at a time: over several the quantizer takes moving averages, which cut what the rare images need.
            images = _center(canvas, CALIBRATION_SIDE)[None]
            for name, found in quantizer.calibrate({SIGNATURE: [{"images": images}]}).items():
                ranges[name] = _widen(ranges.get(name), found)
        return quantizer.quantize(ranges, enable_progress_bar=False, enable_progress_report=False).quantized_model


def _center(canvas: np.ndarray, side: int) -> np.ndarray:
    """Cut the middle out of a canvas that is larger than `side`."""
    top, left = (max(0, length - side) // 2 for length in canvas.shape[:2])
    return canvas[top : top + side, left : left + side]


def _widen(before: dict[str, np.ndarray] | None, found: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    if not before:
        return found
    return {"min": np.minimum(before["min"], found["min"]), "max": np.maximum(before["max"], found["max"])}


def describe(path: Path, description: Description) -> None:
    """Append the description and the class names as an archive, which readers of the graph do not see."""
    names = "".join(f"{category.name}\n" for category in description.categories)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(FILE, json.dumps(description.to_json(), indent=2, ensure_ascii=False) + "\n")
        archive.writestr(LABELS, names)

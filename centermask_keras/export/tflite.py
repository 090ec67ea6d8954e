"""TFLite: the inference graph in builtin operations, in four precisions."""

from __future__ import annotations

import contextlib
import io
import re
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from ai_edge_quantizer.qtyping import TFLOperationName as Operation
from ai_edge_quantizer.quantizer import Quantizer
from tf2onnx import tf_loader

from centermask_keras.detectors import CenterMask
from centermask_keras.inference.runtimes.description import FILE, LABELS, Description
from centermask_keras.ops.image_normalization import ImageNormalization

SIGNATURE = "serving_default"
INT8_OPERATIONS = (
    Operation.CONV_2D,
    Operation.DEPTHWISE_CONV_2D,
    Operation.ADD,
    Operation.CONCATENATION,
    Operation.MAX_POOL_2D,
    Operation.PAD,
    Operation.RESHAPE,
    Operation.TRANSPOSE,
    Operation.MUL,
    Operation.MEAN,
    Operation.HARD_SWISH,
    Operation.RESIZE_NEAREST_NEIGHBOR,
)
"""What int8 computes where the network has it: the last four are those of MobileNetV3 and of a feature pyramid."""
FLOAT_LAYERS = (ImageNormalization, keras.layers.GroupNormalization)
"""Sums of squares over a whole image: 256 steps are too few for them."""
CALIBRATION_SIDE = 512
"""Pixels of a side that int8 is calibrated on where a graph takes any size: every map of an image is in memory at once.

A DLA-34 with deformable convolutions takes 7.4 GB for it. A graph of one size needs images of that size.
"""


def export_tflite(
    detector: CenterMask, description: Description, folder: Path, canvases: Sequence[np.ndarray]
) -> dict[str, Path]:
    """Write `NAME_fp32.tflite`, `NAME_fp16.tflite`, `NAME_dynamic.tflite` and `NAME_int8.tflite`.

    Args:
        detector: the detector, float32.
        description: it travels in an archive at the end of each file.
        folder: where the files go; its name is theirs.
        canvases: prepared images uint8 [H, W, 3], real ones, to calibrate int8 with.

    Returns:
        Precision to file.
    """
    with tempfile.TemporaryDirectory() as source:
        save_frozen(detector, description.config.network_hw, source)
        contents = {precision: convert(source) for precision, convert in PRECISIONS.items()}
    if None in description.config.network_hw:
        canvases = [_center(canvas, CALIBRATION_SIDE) for canvas in canvases]
    contents["int8"] = quantize(contents["fp32"], int8_layers(detector.network), canvases)
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


def int8_layers(network: keras.Model) -> str:
    """Return a pattern of the tensors that int8 computes, by the names that they have in a .tflite file.

    The network but for `FLOAT_LAYERS` and the last layers before its outputs: 256 steps would make neighbours on a
    heatmap equal, and each of the equals is a peak. Point heads, decoding and masks are no part of it.
    """
    outputs = {name: value for name, value in network.output.items() if name != "features"}
    names = last_layers(keras.tree.flatten(outputs))
    names |= {layer.name for layer in network._flatten_layers() if isinstance(layer, FLOAT_LAYERS)}
    names = "|".join(re.escape(name) for name in sorted(names))
    # Keras numbers the scopes of layers that are called again; fused operations join their names by semicolons.
    return rf"^(?!.*/(?:{names})(?:_\d+)?(?:[/;]|$)).*/network(?:_\d+)?/"


def last_layers(outputs: Sequence[keras.KerasTensor]) -> set[str]:
    """Name the layers that symbolic tensors come out of, back to the first one with a kernel, into models inside."""
    names: set[str] = set()
    for output in outputs:
        layer, node, index = output._keras_history
        if isinstance(layer, keras.Model):
            names |= last_layers([layer.outputs[index]])
            continue
        names.add(layer.name)
        if not hasattr(layer, "kernel"):
            names |= last_layers(layer._inbound_nodes[node].input_tensors)
    return names


def quantize(model: bytes, layers: str, canvases: Sequence[np.ndarray]) -> bytes:
    """Compute the network in int8, with ranges from real images, and the rest of the graph in float.

    Args:
        model: the content of a float .tflite file.
        layers: pattern of the tensors to compute in int8 (see `int8_layers`).
        canvases: images uint8 [H, W, 3] of sizes that the model takes.
    """
    quantizer = Quantizer(model)
    for operation in INT8_OPERATIONS:
        quantizer.add_static_config(regex=layers, operation_name=operation, activation_num_bits=8, weight_num_bits=8)
    ranges: dict[str, dict[str, np.ndarray]] = {}
    with contextlib.redirect_stderr(io.StringIO()):  # progress bars
        for canvas in canvases:
            # One at a time: over several the quantizer takes moving averages, which cut what the rare images need.
            for name, found in quantizer.calibrate({SIGNATURE: [{"images": canvas[None]}]}).items():
                ranges[name] = _widen(ranges.get(name), found)
        return quantizer.quantize(ranges, enable_progress_bar=False, enable_progress_report=False).quantized_model


def _center(canvas: np.ndarray, side: int) -> np.ndarray:
    """Cut the middle out of a canvas that is larger than `side`."""
    top, left = (max(0, length - side) // 2 for length in canvas.shape[:2])
    return canvas[top : top + side, left : left + side]


def _widen(before: dict[str, np.ndarray] | None, found: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    if not before or not found:  # of a tensor that is not calibrated
        return before or found
    return {"min": np.minimum(before["min"], found["min"]), "max": np.maximum(before["max"], found["max"])}


def describe(path: Path, description: Description) -> None:
    """Append the description and the class names as an archive, which readers of the graph do not see."""
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(FILE, description.text())
        archive.writestr(LABELS, description.labels())

"""ONNX: the inference graph for ONNX Runtime and every other runtime of that format."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import tensorflow as tf
import tf2onnx

from centermask_keras.detectors import CenterMask
from centermask_keras.inference.runtimes.description import FILE, LABELS, Description

OPSET = 18  # the highest that tf2onnx writes
AXES = ("batch", "height", "width")


def export_onnx(
    detector: CenterMask, description: Description, folder: Path, canvases: Sequence[np.ndarray]
) -> dict[str, Path]:
    """Write `NAME.onnx`: `images` uint8 [batch, H, W, 3] to the detections, opset 18.

    Args:
        detector: the detector, float32.
        description: it travels in the metadata of the file.
        folder: where the file goes; its name is the file's.
        canvases: not used.

    Returns:
        Precision to file.
    """
    images = tf.TensorSpec([None, *description.config.network_hw, 3], tf.uint8, name="images")
    traced = tf.function(lambda images: dict(detector.detect(images)), input_signature=[images], autograph=False)
    model, _ = tf2onnx.convert.from_function(traced, input_signature=[images], opset=OPSET)
    name_axes(model)
    onnx.helper.set_model_props(model, {FILE: description.text(), LABELS: description.labels()})
    path = folder / f"{folder.name}.onnx"
    onnx.save(model, path)
    return {"fp32": path}


def name_axes(model: onnx.ModelProto) -> None:
    """Name the axes of any length: `batch` everywhere, `height` and `width` of the images."""
    for value in [*model.graph.input, *model.graph.output]:
        for dim, name in zip(value.type.tensor_type.shape.dim, AXES, strict=False):
            if not dim.HasField("dim_value"):
                dim.dim_param = name

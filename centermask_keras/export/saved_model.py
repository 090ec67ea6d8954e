"""SavedModel: image files in, objects in original pixels out, for TensorFlow Serving and every TensorFlow program.

The graph holds TensorFlow operations and variables only: neither Keras nor this package is needed to load it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from centermask_keras.detectors import CenterMask
from centermask_keras.inference.runtimes.description import EXTRA, FILE, LABELS, Description
from centermask_keras.inference_config import SCORE_THRESHOLD, InferenceConfig
from centermask_keras.structures import Detections

VERSION = "1"  # TensorFlow Serving serves the folder with the highest number
MOST_PIXELS = 1 << 26
"""Of an image that is letterboxed, turned or not: 67 megapixels are 200 MB, decoded."""
MOST_KEPT_PIXELS = 1 << 24
"""Of the input of a network that takes images at their own size: the maps of 17 megapixels are several GB."""
PARALLEL_IMAGES = 4  # decoded or painted at once; each may take MOST_PIXELS
SIGNATURE_NAMES = ("serving_default", "id_map", "tensor", "describe")
FIELDS = ("boxes", "scores", "classes", "valid", "masks")


class ServedModel(tf.Module):
    """A detector with four signatures.

    Args:
        detector: the detector, float32.
        description: classes, and how images are brought to the network.
    """

    def __init__(self, detector: CenterMask, description: Description):
        super().__init__()
        self._config = config = description.config
        self._model = detector.config
        self._detector = detector.detect
        self._weights = [variable.value for variable in detector.variables]  # what a SavedModel keeps
        self._description = description.text()
        height, width = config.network_hw
        images = tf.TensorSpec([None, height, width, 3], tf.uint8, name="images")
        files = tf.TensorSpec([None], tf.string, name="image_bytes")
        # A function of its own: called by the others, it is in the file once.
        self.tensor = tf.function(self._tensor, input_signature=[images], autograph=False)
        self.serving_default = tf.function(self._serving_default, input_signature=[files], autograph=False)
        self.id_map = tf.function(self._id_map, input_signature=[files], autograph=False)
        query = tf.TensorSpec([None], tf.string, name="query")
        self.describe = tf.function(self._describe, input_signature=[query], autograph=False)

    def _describe(self, query: tf.Tensor) -> dict[str, tf.Tensor]:
        """Repeat the description of the model for each query: a server tells its clients nothing else of `EXTRA`."""
        return {"description": tf.fill(tf.shape(query), self._description)}

    def _tensor(self, images: tf.Tensor) -> Detections:
        """Run the inference graph on images uint8 [B, H, W, 3], B may be 0."""
        count = tf.shape(images)[0]
        # Convolutions fail on an empty batch: one black image keeps them busy.
        images = tf.pad(images, [[0, tf.maximum(1 - count, 0)], [0, 0], [0, 0], [0, 0]])
        return {name: value[:count] for name, value in self._detector(images).items()}

    def _serving_default(self, image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        found = self._find(image_bytes)
        return {**found, "masks": tf.cast(tf.round(found["masks"] * 255.0), tf.uint8)}

    def _id_map(self, image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        from centermask_keras.extra.in_graph.id_map import paint_id_map

        found = self._find(image_bytes)
        shown = found["valid"] & (found["scores"] >= SCORE_THRESHOLD)

        def paint(row: tuple[tf.Tensor, ...]) -> tf.Tensor:
            return tf.io.encode_png(paint_id_map(*row, threshold=self._config.eval.mask_threshold))

        image_hw = tf.maximum(found["image_hw"], 1)  # TensorFlow ends the process over a PNG of no pixels
        rows = (found["boxes"], found.pop("masks"), shown, image_hw)
        return {**found, "id_map_bytes": _map(paint, rows, tf.string)}

    def _find(self, image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        """Find the objects of image files: boxes in original pixels, zeros where a file is not readable."""
        from centermask_keras.extra.in_graph.canvas import to_original

        find = self._find_at_one_size if self._config.eval.resize == "letterbox" else self._find_one_by_one
        found = find(image_bytes)
        readable = tf.equal(found["error"], "")
        found["boxes"] = to_original(found["boxes"], found.pop("transform"))
        found["image_hw"] = tf.where(readable[:, None], found["image_hw"], 0)
        for field in FIELDS:
            rank = len(found[field].shape)
            kept = tf.reshape(readable, [-1] + [1] * (rank - 1))
            found[field] = tf.where(kept, found[field], tf.zeros([], found[field].dtype))
        return found

    def _find_at_one_size(self, image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        from centermask_keras.extra.in_graph.canvas import make_letterbox, warp
        from centermask_keras.extra.in_graph.image_files import read_image

        canvas_hw = self._config.data.input_hw

        def read(contents: tf.Tensor) -> dict[str, tf.Tensor]:
            image, error = read_image(contents, **image_limit(self._config))
            image_hw = tf.shape(image)[:2]
            transform = make_letterbox(image_hw, canvas_hw)
            canvas = tf.ensure_shape(warp(image, transform, canvas_hw), [*canvas_hw, 3])
            return {"canvas": canvas, "error": error, "transform": transform, "image_hw": image_hw}

        signature = {**_IMAGE, "canvas": tf.TensorSpec([*canvas_hw, 3], tf.uint8)}
        rows = _map(read, image_bytes, signature)
        return {**self.tensor(rows.pop("canvas")), **rows}

    def _find_one_by_one(self, image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        """Run each image at its own size; what an image gives does not depend on its neighbours."""
        from centermask_keras.extra.in_graph.canvas import make_keep, make_turned, warp
        from centermask_keras.extra.in_graph.image_files import read_image

        resize, multiple = self._config.eval.resize, self._config.model.input_multiple
        limit = image_limit(self._config)

        def find(contents: tf.Tensor) -> dict[str, tf.Tensor]:
            image, error = read_image(contents, **limit)
            image_hw = tf.shape(image)[:2]
            if resize == "keep":
                transform, canvas_hw = make_keep(image_hw, multiple)
            else:
                transform, canvas_hw = make_turned(image_hw, self._config.data.input_hw)
            canvas = tf.ensure_shape(warp(image, transform, canvas_hw), [None, None, 3])
            found = {name: value[0] for name, value in self.tensor(canvas[None]).items()}
            return {**found, "error": error, "transform": transform, "image_hw": image_hw}

        model = self._model
        count, size = model.max_detections, model.mask_size_infer
        shapes = {"boxes": [count, 4], "masks": [count, size, size]}
        dtypes = {"classes": tf.int32, "valid": tf.bool}
        signature = {f: tf.TensorSpec(shapes.get(f, [count]), dtypes.get(f, tf.float32)) for f in FIELDS} | _IMAGE
        return tf.map_fn(find, image_bytes, fn_output_signature=signature, parallel_iterations=1)


def image_limit(config: InferenceConfig) -> dict[str, int]:
    """Return what `read_image` holds the size of an image against."""
    if config.eval.resize == "keep":
        return {"most_pixels": MOST_KEPT_PIXELS, "multiple": config.model.input_multiple}
    return {"most_pixels": MOST_PIXELS}


_IMAGE = {
    "error": tf.TensorSpec([], tf.string),
    "transform": tf.TensorSpec([4], tf.float64),
    "image_hw": tf.TensorSpec([2], tf.int32),
}


def _map(compute: Callable, rows: Any, signature: Any) -> Any:
    """Compute something of each row, several at once."""
    return tf.map_fn(compute, rows, fn_output_signature=signature, parallel_iterations=PARALLEL_IMAGES)


def export_saved_model(
    detector: CenterMask, description: Description, folder: Path, canvases: Sequence[np.ndarray]
) -> dict[str, Path]:
    """Write `FOLDER/1`, a SavedModel with the `SIGNATURE_NAMES`.

    Args:
        detector: the detector, float32.
        description: what travels with it.
        folder: where the version folder goes.
        canvases: not used.

    Returns:
        Precision to version folder.
    """
    served, path = ServedModel(detector, description), folder / VERSION
    signatures = {name: getattr(served, name) for name in SIGNATURE_NAMES}
    tf.saved_model.save(served, str(path), signatures=signatures)
    extra = path / EXTRA
    extra.mkdir(exist_ok=True)
    (extra / FILE).write_text(description.text(), encoding="utf-8")
    (extra / LABELS).write_text(description.labels(), encoding="utf-8")
    return {"fp32": path}

"""A SavedModel as a predictor: TensorFlow without Keras."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tensorflow as tf

from centermask_keras.inference.predictor import Predictor
from centermask_keras.inference.runtimes.description import EXTRA, FILE, missing_description, parse_description
from centermask_keras.inference.runtimes.forked import check_not_forked
from centermask_keras.structures import Detections


class SavedModelPredictor(Predictor):
    """The `tensor` signature of an exported SavedModel.

    Args:
        path: the version folder (`NAME/1`).

    Raises:
        CenterMaskError: a SavedModel that was not exported by this package; a forked process (see `check_not_forked`).
    """

    def __init__(self, path: str | Path):
        file = Path(path) / EXTRA / FILE
        if not file.is_file():
            raise missing_description(str(path))
        description = parse_description(file.read_text(encoding="utf-8"), str(file))
        super().__init__(description.config, description.categories)
        check_not_forked()
        self._model = tf.saved_model.load(str(path))  # kept: its functions do not keep its variables alive

    def detect(self, images: np.ndarray) -> Detections:
        """Run the inference graph on prepared images uint8 [B, H, W, 3]; arrays come back."""
        check_not_forked()
        found = self._model.signatures["tensor"](images=tf.constant(images))
        return {name: value.numpy() for name, value in found.items()}

"""A .tflite file as a predictor: ai-edge-litert, no TensorFlow."""

from __future__ import annotations

import threading
import zipfile
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from centermask_keras.cores import count_cores
from centermask_keras.errors import CenterMaskError
from centermask_keras.inference.predictor import Predictor
from centermask_keras.inference.runtimes.description import FILE, missing_description, parse_description
from centermask_keras.structures import Detections


class TFLitePredictor(Predictor):
    """An exported .tflite file, of any precision.

    The threads of a program take turns: an interpreter holds the tensors of one image.

    Args:
        path: the file.
        threads: CPU threads; as many as cores that this process may use if not given.

    Raises:
        CenterMaskError: not a file that this package exported.
    """

    def __init__(self, path: str | Path, threads: int | None = None):
        try:
            with zipfile.ZipFile(path) as archive:
                text = archive.read(FILE)
        except (zipfile.BadZipFile, KeyError):
            raise missing_description(str(path)) from None
        description = parse_description(text, str(path))
        super().__init__(description.config, description.categories)
        try:
            interpreter = Interpreter(model_path=str(path), num_threads=threads or count_cores())
            self._lock = threading.Lock()
            self._run = interpreter.get_signature_runner()  # fits the graph to the size of its input
        except (ValueError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            raise CenterMaskError(f"{path}: expected a TFLite model, received: {reason}") from None

    def detect(self, images: np.ndarray) -> Detections:
        """Run the inference graph on prepared images uint8 [B, H, W, 3], one after the other; arrays come back."""
        with self._lock:
            if not len(images):
                rows = self._run.get_output_details().items()
                return {name: np.zeros((0, *row["shape"][1:]), row["dtype"]) for name, row in rows}
            found = [self._run(images=image[None]) for image in images]
        return {name: np.concatenate([row[name] for row in found]) for name in found[0]}

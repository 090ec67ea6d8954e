"""An .onnx file as a predictor: ONNX Runtime, no TensorFlow."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime

from centermask_keras.errors import CenterMaskError
from centermask_keras.inference.predictor import Predictor
from centermask_keras.inference.runtimes.description import FILE, missing_description, parse_description
from centermask_keras.structures import Detections


class ONNXPredictor(Predictor):
    """An exported .onnx file.

    Args:
        path: the file.
        threads: CPU threads; those of the machine if not given.

    Raises:
        CenterMaskError: not a file that this package exported.
    """

    def __init__(self, path: str | Path, threads: int | None = None):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or 0  # 0: those of the machine
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its errors have no common type of their own
            reason = str(error).strip().splitlines()[0]
            raise CenterMaskError(f"{path}: expected an ONNX model, received: {reason}") from None
        metadata = self._session.get_modelmeta().custom_metadata_map
        if FILE not in metadata:
            raise missing_description(str(path))
        description = parse_description(metadata[FILE], str(path))
        super().__init__(description.config, description.categories)
        self._names = [output.name for output in self._session.get_outputs()]

    def detect(self, images: np.ndarray) -> Detections:
        """Run the inference graph on prepared images uint8 [B, H, W, 3]; arrays come back."""
        return dict(zip(self._names, self._session.run(self._names, {"images": images}), strict=True))

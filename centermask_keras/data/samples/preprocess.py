"""One image onto the network's input: the one way for training, evaluation, prediction and serving.

Stage: data. Paths differ only in the transform that they pass.
"""

from __future__ import annotations

import numpy as np

from centermask_keras._cv2 import cv2
from centermask_keras.geometry.transform import to_matrix


def preprocess_image(image: np.ndarray, transform: np.ndarray, canvas_hw: tuple[int, int]) -> np.ndarray:
    """Warp an image onto a black canvas.

    Args:
        image: uint8 [height, width, 3], RGB.
        transform: float64 [4] (sx, sy, tx, ty), from original to input pixels.
        canvas_hw: input size, pixels.

    Returns:
        uint8 [H, W, 3], bilinear; a shift by whole pixels at scale 1 copies the pixels as they are.
    """
    transform = np.asarray(transform, np.float64)
    shift = np.round(transform[2:])
    if np.array_equal(transform, [1.0, 1.0, *shift]):
        return _paste(image, int(shift[1]), int(shift[0]), canvas_hw)
    return cv2.warpAffine(image, to_matrix(transform), (canvas_hw[1], canvas_hw[0]), flags=cv2.INTER_LINEAR)


def _paste(image: np.ndarray, top: int, left: int, canvas_hw: tuple[int, int]) -> np.ndarray:
    canvas = np.zeros((*canvas_hw, 3), np.uint8)
    y0, x0 = max(top, 0), max(left, 0)
    y1, x1 = min(top + image.shape[0], canvas_hw[0]), min(left + image.shape[1], canvas_hw[1])
    if y0 < y1 and x0 < x1:
        canvas[y0:y1, x0:x1] = image[y0 - top : y1 - top, x0 - left : x1 - left]
    return canvas

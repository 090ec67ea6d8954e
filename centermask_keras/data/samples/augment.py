"""Photometric augmentation: brightness, contrast, saturation and PCA lighting as one affine map of the colours.

Stage: data (training only). Source: the released code of Zhou et al. 2019, "Objects as Points" (arXiv 1904.07850),
which follows Krizhevsky et al. 2012, section 4.1, for the lighting.
Deviations: in RGB, and rounded and clipped to uint8 once, after the last step.
"""

from __future__ import annotations

import numpy as np

from centermask_keras._cv2 import cv2

GREY = np.array([0.299, 0.587, 0.114])  # luma of R, G, B (ITU-R BT.601)
# Principal components of the colours of ImageNet, for pixels in 0..1. Published for B, G, R; the rows here are R, G, B.
EIGENVALUES = np.array([0.2141788, 0.01817699, 0.00341571])
EIGENVECTORS = np.array(
    [
        [-0.56089297, 0.71832671, 0.41158938],
        [-0.5832747, 0.00994535, -0.81221408],
        [-0.58752847, -0.69563484, 0.41340352],
    ]
)


def jitter_colors(image: np.ndarray, rng: np.random.Generator, *, color: float, lighting: float) -> np.ndarray:
    """Change brightness, contrast and saturation in random order, then the lighting.

    Contrast blends with the mean grey level and saturation with the grey image, both of the image as it was given.

    Args:
        image: uint8 [H, W, 3], RGB.
        rng: source of the choices.
        color: each of the three factors is uniform in 1 - color .. 1 + color.
        lighting: standard deviation of the step along each principal component, in units of its eigenvalue.

    Returns:
        uint8 [H, W, 3].
    """
    matrix = draw_color_matrix(rng, mean_grey=float(GREY @ cv2.mean(image)[:3]), color=color, lighting=lighting)
    return cv2.transform(image, matrix)


def draw_color_matrix(rng: np.random.Generator, *, mean_grey: float, color: float, lighting: float) -> np.ndarray:
    """Draw the affine map float64 [3, 4] of `jitter_colors`: new RGB = map[:, :3] @ RGB + map[:, 3], levels 0..255."""
    factors = rng.uniform(1 - color, 1 + color, size=3)
    matrix = np.eye(3, 4)
    for step in rng.permutation(3):
        factor = factors[step]
        matrix *= factor
        if step == 1:  # contrast
            matrix[:, 3] += (1 - factor) * mean_grey
        elif step == 2:  # saturation
            matrix[:, :3] += (1 - factor) * GREY
    matrix[:, 3] += 255.0 * EIGENVECTORS @ (EIGENVALUES * rng.normal(0.0, lighting, size=3))
    return matrix

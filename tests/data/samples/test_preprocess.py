"""The one preprocessing: copies where it can, else bilinear interpolation as a plain NumPy oracle has it."""

import numpy as np
import pytest

from centermask_keras.data.files.images import read_image
from centermask_keras.data.samples.preprocess import preprocess_image
from centermask_keras.data.samples.transform import make_keep, make_letterbox, mirror


def bilinear(image, transform, canvas_hw):
    """Sample `image` at the centre of every canvas pixel, taken back to the original; black outside."""
    sx, sy, tx, ty = transform
    padded = np.pad(image.astype(np.float64), ((1, 1), (1, 1), (0, 0)))
    rows, columns = [(np.arange(n) + 0.5 - t) / s + 0.5 for n, s, t in zip(canvas_hw, (sy, sx), (ty, tx), strict=True)]
    rows = np.clip(rows, 0, image.shape[0] + 1 - 1e-9)
    columns = np.clip(columns, 0, image.shape[1] + 1 - 1e-9)
    i, j = np.floor(rows).astype(int), np.floor(columns).astype(int)
    a, b = (rows - i)[:, None, None], (columns - j)[None, :, None]
    at = lambda di, dj: padded[np.ix_(np.minimum(i + di, padded.shape[0] - 1), np.minimum(j + dj, padded.shape[1] - 1))]  # noqa: E731
    return (1 - a) * ((1 - b) * at(0, 0) + b * at(0, 1)) + a * ((1 - b) * at(1, 0) + b * at(1, 1))


@pytest.mark.parametrize(
    "transform", [[0.8, 0.8, 3.3, -10.2], [-1.3, 1.3, 240.7, 5.1], [0.5, 0.5, 0.0, 0.0], [1.0, 1.0, 0.5, 0.0]]
)
def test_warp_equals_the_oracle(transform):
    image = np.random.default_rng(0).integers(0, 256, (70, 90, 3), np.uint8)
    warped = preprocess_image(image, np.array(transform), (96, 128))
    # OpenCV 4 places samples on a raster of 1/32 px: on noise, that is several levels.
    difference = np.abs(warped - bilinear(image, transform, (96, 128)))
    assert difference.mean() < 2.0 and np.percentile(difference, 99) < 9.0


@pytest.mark.parametrize(("top", "left"), [(0, 0), (5, 9), (-3, -8), (-3, 20), (100, 0), (0, -90)])
def test_whole_shifts_copy_the_pixels(top, left):
    image = np.random.default_rng(1).integers(1, 256, (40, 50, 3), np.uint8)
    canvas = preprocess_image(image, np.array([1.0, 1.0, left, top]), (64, 64))
    expected = np.zeros((64, 64, 3), np.uint8)
    for y in range(64):
        for x in range(64):
            if 0 <= y - top < 40 and 0 <= x - left < 50:
                expected[y, x] = image[y - top, x - left]
    np.testing.assert_array_equal(canvas, expected)


def test_keep_shows_a_photo_unchanged(coco_tiny):
    path = sorted((coco_tiny / "images").iterdir())[0]
    image = read_image(path)
    transform, canvas_hw = make_keep(image.shape[:2], 32)
    canvas = preprocess_image(image, transform, canvas_hw)
    top, left = int(transform[3]), int(transform[2])
    height, width = image.shape[:2]
    assert canvas.shape == (*canvas_hw, 3) and canvas.dtype == np.uint8
    np.testing.assert_array_equal(canvas[top : top + height, left : left + width], image)
    assert int(canvas.astype(np.int64).sum()) == int(image.astype(np.int64).sum())


def test_mirrored_photo_is_the_mirror(coco_tiny):
    image = read_image(sorted((coco_tiny / "images").iterdir())[0])
    transform = make_letterbox(image.shape[:2], (256, 256))
    plain = preprocess_image(image, transform, (256, 256)).astype(int)
    mirrored = preprocess_image(image, mirror(transform, (256, 256)), (256, 256)).astype(int)
    difference = np.abs(plain[:, ::-1] - mirrored)
    assert difference.mean() < 0.3 and np.percentile(difference, 99) <= 4

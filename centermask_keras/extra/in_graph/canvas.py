"""From image to canvas and back, inside of the graph.

The counterpart of `data/samples/transform.py` and `data/samples/preprocess.py`.
A transform is float64 [4], (sx, sy, tx, ty), from original to input pixels, as in `geometry/transform.py`.
"""

from __future__ import annotations

import tensorflow as tf


def make_letterbox(image_hw: tf.Tensor, canvas_hw: tuple[int, int] | tf.Tensor) -> tf.Tensor:
    """Fit an image of a size int [2] into the canvas: the transform of `data.transform.make_letterbox`."""
    image, canvas = tf.cast(image_hw, tf.float64), tf.cast(canvas_hw, tf.float64)
    resized = tf.clip_by_value(tf.round(image * tf.reduce_min(canvas / image)), 1, canvas)
    scale, shift = resized / image, (canvas - resized) // 2
    return tf.stack([scale[1], scale[0], shift[1], shift[0]])


def make_keep(image_hw: tf.Tensor, multiple: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Centre an image of a size int [2] as it is: transform and canvas (int32 [2]) of `data.transform.make_keep`."""
    image_hw = tf.cast(image_hw, tf.int32)
    canvas_hw = (image_hw + multiple - 1) // multiple * multiple
    shift = tf.cast((canvas_hw - image_hw) // 2, tf.float64)
    return tf.stack([1.0, 1.0, shift[1], shift[0]]), canvas_hw


def make_turned(image_hw: tf.Tensor, canvas_hw: tuple[int, int]) -> tuple[tf.Tensor, tf.Tensor]:
    """Letterbox an image of a size int [2] into the canvas, turned where it lies the other way: transform, canvas."""
    height, width = canvas_hw
    turned = (image_hw[0] > image_hw[1]) != (height > width)
    canvas = tf.where(turned, [width, height], [height, width])
    return make_letterbox(image_hw, canvas), canvas


def warp(image: tf.Tensor, transform: tf.Tensor, canvas_hw: tuple[int, int] | tf.Tensor) -> tf.Tensor:
    """Warp an image uint8 [h, w, 3] onto a black canvas: uint8 [H, W, 3], bilinear, within a grey level of OpenCV."""

    def along(axis: int, values: tf.Tensor) -> tf.Tensor:
        return _resample(values, transform[1 - axis], transform[3 - axis], canvas_hw[axis], axis=axis)

    # The longer side first: in between, a million pixels in a row would be as many in each row of the canvas.
    shape = tf.shape(image)
    pixels = tf.cond(shape[0] >= shape[1], lambda: along(1, along(0, image)), lambda: along(0, along(1, image)))
    return tf.cast(tf.round(tf.clip_by_value(pixels, 0.0, 255.0)), tf.uint8)


def _resample(image: tf.Tensor, scale: tf.Tensor, shift: tf.Tensor, length: int | tf.Tensor, *, axis: int) -> tf.Tensor:
    """Interpolate along one axis at the centres of `length` pixels; black beyond the image. float32."""
    position = (tf.cast(tf.range(length), tf.float64) + 0.5 - shift) / scale - 0.5
    before = tf.floor(position)
    share = tf.cast(position - before, tf.float32)
    count = tf.shape(image)[axis]
    total = 0.0
    for index, weight in ((tf.cast(before, tf.int32), 1.0 - share), (tf.cast(before, tf.int32) + 1, share)):
        inside = tf.cast((index >= 0) & (index < count), tf.float32)
        taken = tf.cast(tf.gather(image, tf.clip_by_value(index, 0, count - 1), axis=axis), tf.float32)
        total += taken * tf.reshape(weight * inside, [-1, 1, 1] if axis == 0 else [1, -1, 1])
    return total


def to_original(boxes: tf.Tensor, transform: tf.Tensor) -> tf.Tensor:
    """Bring boxes float32 [B, K, 4] from input to original pixels by the transforms [B, 4]; not clipped."""
    scale, shift = transform[:, None, :2], transform[:, None, 2:]
    points = (tf.cast(tf.reshape(boxes, [tf.shape(boxes)[0], boxes.shape[1] * 2, 2]), tf.float64) - shift) / scale
    return tf.reshape(tf.cast(points, tf.float32), tf.shape(boxes))

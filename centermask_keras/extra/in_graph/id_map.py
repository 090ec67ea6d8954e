"""Masks of one image as one map of numbers, inside of the graph: the counterpart of `masks.py`."""

from __future__ import annotations

import tensorflow as tf

FARTHEST = 1e9  # pixels


def paint_id_map(
    boxes: tf.Tensor, masks: tf.Tensor, shown: tf.Tensor, image_hw: tf.Tensor, *, threshold: float
) -> tf.Tensor:
    """Paint the objects of an image over each other, the highest score on top.

    Args:
        boxes: float32 [K, 4], xyxy, original pixels, by falling score; may reach beyond the image. One that is not
            finite, or without area, is left out.
        masks: float32 [K, M, M], probabilities on the grid of each box.
        shown: bool [K], the rows to paint.
        image_hw: int32 [2], original size.
        threshold: a pixel is in a mask if its probability is greater.

    Returns:
        uint16 [h, w, 1]: row of the object plus 1; 0 where there is none.
    """
    # Compared, not checked for NaN: what is no number is in no order.
    sound = tf.reduce_all(tf.abs(boxes) < FARTHEST, axis=1) & tf.reduce_all(boxes[:, 2:] > boxes[:, :2], axis=1)
    rows = tf.cast(tf.reverse(tf.where(shown & sound)[:, 0], [0]), tf.int32)

    def step(i: tf.Tensor, canvas: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        row = rows[i]
        y, y_cell, y_share = _sample_axis(boxes[row, 1], boxes[row, 3], image_hw[0], masks.shape[1])
        x, x_cell, x_share = _sample_axis(boxes[row, 0], boxes[row, 2], image_hw[1], masks.shape[2])
        crop = _interpolate(_interpolate(masks[row], y_cell, y_share, axis=0), x_cell, x_share, axis=1)
        pixels = tf.cast(tf.where(crop > threshold), tf.int32)
        places = (y + pixels[:, 0]) * image_hw[1] + x + pixels[:, 1]
        numbers = tf.fill(tf.shape(places), row + 1)
        return i + 1, tf.tensor_scatter_nd_update(canvas, places[:, None], numbers)

    empty = tf.zeros([image_hw[0] * image_hw[1]], tf.int32)
    _, canvas = tf.while_loop(lambda i, _: i < tf.size(rows), step, (0, empty), parallel_iterations=1)
    return tf.cast(tf.reshape(canvas, [image_hw[0], image_hw[1], 1]), tf.uint16)


def _sample_axis(
    low: tf.Tensor, high: tf.Tensor, length: tf.Tensor, cells: int
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Find the pixels in [low, high): the first one, and of each the cell before it and the share of the next one."""
    first, last = (
        tf.cast(tf.clip_by_value(tf.math.ceil(edge - 0.5), 0.0, tf.cast(length, tf.float32)), tf.int32)
        for edge in (low, high)
    )
    pixel = tf.cast(tf.range(first, tf.maximum(first, last)), tf.float32)
    position = tf.clip_by_value((pixel + 0.5 - low) * (cells / (high - low)) - 0.5, 0.0, cells - 1.0)
    before = tf.minimum(tf.cast(position, tf.int32), max(cells - 2, 0))
    return first, before, position - tf.cast(before, tf.float32)


def _interpolate(grid: tf.Tensor, cell: tf.Tensor, share: tf.Tensor, *, axis: int) -> tf.Tensor:
    before, after = (
        tf.gather(grid, cell, axis=axis),
        tf.gather(grid, tf.minimum(cell + 1, grid.shape[axis] - 1), axis=axis),
    )
    share = share[:, None] if axis == 0 else share[None, :]
    return before + (after - before) * share

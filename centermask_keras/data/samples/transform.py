"""Where an image lands on the network's input: letterbox or original size to evaluate, crop or window to train.

Stage: data. Source: Zhou et al. 2019, "Objects as Points" (arXiv 1904.07850), section 5, and its released code.
Deviations: continuous coordinates; the centre of the random crop is a real number instead of an integer; sizes that
stay as they are, are padded to the next multiple, not beyond it.
"""

from __future__ import annotations

import numpy as np

from centermask_keras.config import Config
from centermask_keras.geometry.transform import compose
from centermask_keras.inference_config import InferenceConfig

SCALE_STEP = 0.1  # between the scales that a random crop chooses from
CROP_BORDER = 128  # original pixels that the centre of a random crop keeps from the edge of a large image


def make_letterbox(image_hw: tuple[int, int], canvas_hw: tuple[int, int]) -> np.ndarray:
    """Fit the whole image into the canvas, centred, with its aspect ratio kept up to whole pixels.

    Args:
        image_hw: original size, pixels.
        canvas_hw: input size, pixels.

    Returns:
        float64 [4] (sx, sy, tx, ty); the image lands exactly on whole pixels, so that the scales may differ slightly.
    """
    image, canvas = np.array(image_hw, np.float64), np.array(canvas_hw, np.float64)
    resized = np.clip(np.round(image * np.min(canvas / image)), 1, canvas)
    scale, shift = resized / image, (canvas - resized) // 2
    return np.array([scale[1], scale[0], shift[1], shift[0]])


def make_eval_transform(
    image_hw: tuple[int, int], config: Config | InferenceConfig
) -> tuple[np.ndarray, tuple[int, int]]:
    """Return the transform (float64 [4]) and the input size that evaluation and prediction give an image of a size."""
    if config.eval.resize == "keep":
        return make_keep(image_hw, config.model.input_multiple)
    canvas_hw = config.data.input_hw
    if config.eval.resize == "turned" and (image_hw[0] > image_hw[1]) != (canvas_hw[0] > canvas_hw[1]):
        canvas_hw = canvas_hw[::-1]
    return make_letterbox(image_hw, canvas_hw), canvas_hw


def make_keep(image_hw: tuple[int, int], multiple: int) -> tuple[np.ndarray, tuple[int, int]]:
    """Centre the image at its original size on the smallest canvas with sides divisible by `multiple`.

    Args:
        image_hw: original size, pixels.
        multiple: what the sides of the network's input are multiples of.

    Returns:
        The transform, float64 [4] (scales 1, whole shifts), and the height and width of the canvas.
    """
    height, width = (-(-side // multiple) * multiple for side in image_hw)
    shift_y, shift_x = (height - image_hw[0]) // 2, (width - image_hw[1]) // 2
    return np.array([1.0, 1.0, shift_x, shift_y]), (height, width)


def make_random_crop(
    image_hw: tuple[int, int], canvas_hw: tuple[int, int], *, scale: tuple[float, float], rng: np.random.Generator
) -> np.ndarray:
    """Choose scale and centre of a crop of the letterboxed image, as CenterNet does.

    The field of view is the square of the letterbox times a scale out of `scale[0], scale[0] + 0.1, ..., scale[1]`:
    below 1 a part of the image is seen enlarged, above 1 the image is surrounded by more padding.

    Args:
        image_hw: original size, pixels.
        canvas_hw: input size, pixels.
        scale: smallest and largest scale of the field of view.
        rng: source of the choices.

    Returns:
        float64 [4] (sx, sy, tx, ty).
    """
    height, width = image_hw
    zoom = min(canvas_hw[0] / height, canvas_hw[1] / width) / rng.choice(_scales(scale))
    border_y, border_x = _crop_border(height), _crop_border(width)
    center = np.array([rng.uniform(border_x, width - border_x), rng.uniform(border_y, height - border_y)])
    shift = np.array([canvas_hw[1] / 2, canvas_hw[0] / 2]) - zoom * center
    return np.array([zoom, zoom, *shift])


def make_random_window(
    image_hw: tuple[int, int], canvas_hw: tuple[int, int], *, scale: tuple[float, float], rng: np.random.Generator
) -> np.ndarray:
    """Choose scale and place of a window at the image's own resolution: objects keep their size in pixels.

    The field of view is the canvas times a scale out of `scale[0], scale[0] + 0.1, ..., scale[1]`, in original pixels.
    It lies inside of the image as far as there is room; along a side that is too short the image floats inside of it.

    Args:
        image_hw: original size, pixels.
        canvas_hw: input size, pixels.
        scale: smallest and largest scale of the field of view.
        rng: source of the choices.

    Returns:
        float64 [4] (sx, sy, tx, ty).
    """
    zoom = 1.0 / rng.choice(_scales(scale))
    room_y, room_x = (canvas - zoom * image for canvas, image in zip(canvas_hw, image_hw, strict=True))
    return np.array([zoom, zoom, room_x * rng.random(), room_y * rng.random()])


def mirror(
    transform: np.ndarray, canvas_hw: tuple[int, int], *, horizontal: bool = True, vertical: bool = False
) -> np.ndarray:
    """Mirror the canvas that a transform leads to: left to right, top to bottom, or both."""
    height, width = canvas_hw
    flip_x = (-1.0, width) if horizontal else (1.0, 0.0)
    flip_y = (-1.0, height) if vertical else (1.0, 0.0)
    return compose(transform, np.array([flip_x[0], flip_y[0], flip_x[1], flip_y[1]]))


def _scales(scale: tuple[float, float]) -> np.ndarray:
    return np.arange(scale[0], scale[1] + SCALE_STEP / 2, SCALE_STEP)


def _crop_border(side: int) -> int:
    """Return 128, or the largest 128 / 2^k that leaves room between two borders."""
    border = CROP_BORDER
    while side <= 2 * border:
        border //= 2
    return border

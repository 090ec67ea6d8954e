"""The Predictor: images in, objects in original pixels out, whatever runs the inference graph.

Stage: after data. No Keras in here: an exported file is used where Keras is not installed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from centermask_keras.config import Config
from centermask_keras.data.files.images import read_image
from centermask_keras.data.samples.preprocess import preprocess_image
from centermask_keras.data.samples.transform import make_eval_transform
from centermask_keras.errors import CenterMaskError, ImageError
from centermask_keras.inference.objects import Category, Objects, Result, to_objects
from centermask_keras.inference_config import SCORE_THRESHOLD, InferenceConfig
from centermask_keras.structures import Detections

REASON_LENGTH = 200  # characters of a runtime's message: some quote the graph
ImageLike = str | Path | np.ndarray


class Predictor:
    """An inference graph with everything around it that an image needs.

    Each runtime (see `runtimes/`) is a subclass that says how the graph is run.

    Args:
        config: configuration of the model, or what an exported file holds of it; `eval` says how images are read and
            masks are cut.
        categories: names and dataset ids of the classes, in their order.
    """

    def __init__(self, config: Config | InferenceConfig, categories: Sequence[Category]):
        self.config = config
        self.categories = list(categories)

    def predict(
        self, images: ImageLike | Sequence[ImageLike], *, score_threshold: float = SCORE_THRESHOLD
    ) -> list[Result]:
        """Find the objects of one image or of several.

        Args:
            images: a path, an array uint8 [H, W, 3] (RGB), or a list of either.
            score_threshold: objects that score less are left out.

        Returns:
            One `Result` per image.

        Raises:
            ImageError: a file that cannot be read, an array of another form, or an image that the graph fails on, for
                its size and the memory of the machine.
        """
        if not isinstance(images, list | tuple):
            images = [images]
        results = []
        for outcome in self.predict_each(images, score_threshold=score_threshold):
            if isinstance(outcome, ImageError):
                raise outcome
            results.append(outcome)
        return results

    def predict_each(self, images: Sequence[ImageLike], *, score_threshold: float) -> Iterator[Result | ImageError]:
        """Give the result of each image in its turn, or the error of one that fails: the others go on."""
        for image in images:
            try:
                yield self._predict_one(image, score_threshold)
            except ImageError as error:
                yield error

    def prepare(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Bring an image uint8 [h, w, 3] to the network's input: canvas uint8 [H, W, 3] and transform float64 [4]."""
        transform, canvas_hw = make_eval_transform(image.shape[:2], self.config)
        return preprocess_image(image, transform, canvas_hw), transform

    def detect(self, images: np.ndarray) -> Detections:
        """Run the inference graph on prepared images uint8 [B, H, W, 3]; arrays come back."""
        raise NotImplementedError

    def to_objects(self, detections: Detections, row: int, transform: np.ndarray, image_hw: tuple[int, int]) -> Objects:
        """Bring row `row` of a batch of detections back to its original image (see `to_objects`)."""
        return to_objects(detections, row, transform, image_hw, self.categories, self.config.eval.mask_threshold)

    def _predict_one(self, source: ImageLike, score_threshold: float) -> Result:
        image = _as_image(source)
        try:
            canvas, transform = self.prepare(image)
            detections = self.detect(canvas[None])
        except (CenterMaskError, NotImplementedError):
            raise
        except Exception as error:  # those of the runtimes have no common type; the next image may be smaller
            name = "array" if isinstance(source, np.ndarray) else source
            reason = f"{image.shape[0]} x {image.shape[1]} pixels: {type(error).__name__}: {str(error)[:REASON_LENGTH]}"
            raise ImageError(name, reason, "an image that the model can be run on") from error
        detections["valid"] = detections["valid"] & (detections["scores"] >= score_threshold)
        return Result(image=image, **vars(self.to_objects(detections, 0, transform, image.shape[:2])))


def _as_image(source: ImageLike) -> np.ndarray:
    if isinstance(source, str | Path):
        return read_image(source)
    return check_array(source)


def check_array(source: np.ndarray) -> np.ndarray:
    """Return an image given as an array.

    Raises:
        ImageError: it is not uint8 [H, W, 3], or empty.
    """
    if not isinstance(source, np.ndarray):
        raise ImageError("input", type(source).__name__, expected="a path or an array uint8 [H, W, 3] in RGB")
    if source.dtype != np.uint8 or source.ndim != 3 or source.shape[2] != 3 or 0 in source.shape:
        raise ImageError("array", f"{source.dtype} {list(source.shape)}", expected="uint8 [H, W, 3] in RGB")
    return source

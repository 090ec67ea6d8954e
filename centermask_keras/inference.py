"""The Predictor: images in, objects in original pixels out, masks as RLE."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from PIL import Image

from centermask_keras.config import Config, load_config
from centermask_keras.data.images import read_image
from centermask_keras.data.preprocess import preprocess_image
from centermask_keras.data.transform import make_eval_transform
from centermask_keras.detectors import CenterMask, build_detector
from centermask_keras.errors import CenterMaskError, ImageError
from centermask_keras.geometry.boxes import clip_boxes, xyxy_to_xywh
from centermask_keras.geometry.transform import apply_to_boxes, invert
from centermask_keras.masks import RLEMasks, paste_rles, rle_to_json
from centermask_keras.structures import Detections, Tensor
from centermask_keras.visualize import draw_instances

ImageLike = str | Path | np.ndarray


@dataclass(frozen=True)
class Category:
    """A class: its name, and its id in the dataset that the model was trained on."""

    id: int
    name: str


@dataclass(frozen=True)
class Objects:
    """The objects of one image, in original pixels, by falling score.

    Attributes:
        boxes: float32 [K, 4], xyxy, clipped to the image.
        scores: float32 [K] in [0, 1].
        classes: int32 [K], contiguous from 0.
        class_names: the K names.
        category_ids: the K ids in the dataset that the model was trained on.
        masks: K RLE masks of the whole image; `.dense()` gives bool [K, H, W].
    """

    boxes: np.ndarray
    scores: np.ndarray
    classes: np.ndarray
    class_names: list[str]
    category_ids: list[int]
    masks: RLEMasks

    def __len__(self) -> int:
        return len(self.scores)

    def to_coco(self, image_id: int) -> list[dict[str, Any]]:
        """Return the objects as COCO results of one image (ready for `json.dump`)."""
        rows = zip(self.category_ids, xyxy_to_xywh(self.boxes), self.scores, self.masks, strict=True)
        return [
            {
                "image_id": int(image_id),
                "category_id": category_id,
                "bbox": [float(value) for value in box],
                "score": float(score),
                "segmentation": rle_to_json(mask),
            }
            for category_id, box, score, mask in rows
        ]


@dataclass(frozen=True)
class Result(Objects):
    """The objects of one image together with the image.

    Attributes:
        image: uint8 [H, W, 3], RGB.
    """

    image: np.ndarray

    def draw(self) -> Image.Image:
        """Return the image with boxes, masks, names and scores drawn on it."""
        canvas = draw_instances(
            self.image,
            boxes=self.boxes,
            classes=self.classes,
            masks=list(self.masks),
            class_names=dict(zip(self.classes.tolist(), self.class_names, strict=True)),
            scores=self.scores,
        )
        return Image.fromarray(canvas)


class InferenceGraph(keras.Model):
    """The one inference graph as a model: images [B, H, W, 3] in 0..255, RGB -> `Detections`.

    Predictor and evaluator run this graph and nothing else.
    """

    def __init__(self, detector: CenterMask):
        super().__init__(name="inference", dtype="float32", autocast=False)
        self.detector = detector
        if keras.backend.backend() == "tensorflow":
            # Evaluation at the original sizes would have XLA compile the graph anew for every size.
            self.jit_compile = False

    def call(self, images: Tensor) -> Detections:
        """Detect objects in images uint8 or float32 [B, H, W, 3]."""
        return self.detector.detect(images)


class Predictor:
    """A detector with everything around it that an image needs.

    Args:
        detector: the trained (or fresh) detector.
        config: its configuration; `eval` says how images are read and masks are cut.
        categories: names and dataset ids of the classes, in their order.
    """

    def __init__(self, detector: CenterMask, config: Config, categories: Sequence[Category]):
        self.detector = detector
        self.config = config
        self.categories = list(categories)
        self.graph = InferenceGraph(detector)

    def predict(self, images: ImageLike | Sequence[ImageLike], *, score_threshold: float = 0.3) -> list[Result]:
        """Find the objects of one image or of several.

        Args:
            images: a path, an array uint8 [H, W, 3] (RGB), or a list of either.
            score_threshold: objects that score less are left out.

        Returns:
            One `Result` per image.

        Raises:
            ImageError: a file that cannot be read, or an array of another form.
        """
        if not isinstance(images, list | tuple):
            images = [images]
        return [self._predict_one(image, score_threshold) for image in images]

    def detect(self, images: np.ndarray) -> Detections:
        """Run the inference graph on prepared images uint8 [B, H, W, 3]; arrays come back."""
        return self.graph.predict_on_batch(images)

    def to_objects(self, detections: Detections, row: int, transform: np.ndarray, image_hw: tuple[int, int]) -> Objects:
        """Bring row `row` of a batch of detections back to its original image (see `to_objects`)."""
        return to_objects(detections, row, transform, image_hw, self.categories, self.config.eval.mask_threshold)

    def _predict_one(self, source: ImageLike, score_threshold: float) -> Result:
        image = _as_image(source)
        transform, canvas_hw = make_eval_transform(image.shape[:2], self.config)
        canvas = preprocess_image(image, transform, canvas_hw)
        detections = self.detect(canvas[None])
        detections["valid"] = detections["valid"] & (detections["scores"] >= score_threshold)
        return Result(image=image, **vars(self.to_objects(detections, 0, transform, image.shape[:2])))


def to_objects(
    detections: Detections,
    row: int,
    transform: np.ndarray,
    image_hw: tuple[int, int],
    categories: Sequence[Category],
    mask_threshold: float,
) -> Objects:
    """Bring one row of a batch of detections back to the original image.

    Args:
        detections: arrays, as the inference graph gives them.
        row: which image of the batch.
        transform: float64 [4], from original to input pixels of that image.
        image_hw: size of the original image.
        categories: the classes in their order.
        mask_threshold: mask probabilities above it are inside.
    """
    keep = np.asarray(detections["valid"][row])
    boxes = apply_to_boxes(invert(transform), np.asarray(detections["boxes"][row])[keep].astype(np.float64))
    masks = paste_rles(np.asarray(detections["masks"][row])[keep], boxes, image_hw, mask_threshold)
    classes = np.asarray(detections["classes"][row])[keep]
    chosen = [categories[index] for index in classes]
    return Objects(
        boxes=clip_boxes(boxes, image_hw).astype(np.float32),
        scores=np.asarray(detections["scores"][row])[keep],
        classes=classes,
        class_names=[category.name for category in chosen],
        category_ids=[category.id for category in chosen],
        masks=RLEMasks(masks, image_hw),
    )


def build(config: Config, categories: Iterable[Category] | None = None) -> Predictor:
    """Build an untrained predictor.

    Args:
        config: the configuration.
        categories: names and ids of its classes; numbered names if not given.
    """
    if categories is None:
        categories = [Category(index, f"class {index}") for index in range(config.model.num_classes)]
    return Predictor(build_detector(config), config, list(categories))


def load(path: str | Path, overrides: Iterable[str] = ()) -> Predictor:
    """Load a run folder or a shipped model: `config.json`, `model.weights.h5`, `run.json`.

    Args:
        path: the folder.
        overrides: `a.b=v` changes to its configuration (see `load_config`).

    Raises:
        CenterMaskError: the folder or one of its files is missing or does not fit the others.
    """
    folder = Path(path)
    check_run_folder(folder)
    overrides = [overrides] if isinstance(overrides, str) else overrides
    source = folder / "config.json"
    config = load_config(source, overrides)
    try:
        rows = json.loads((folder / "run.json").read_text(encoding="utf-8"))["categories"]
        categories = [Category(int(row["id"]), str(row["name"])) for row in rows]
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise CenterMaskError(
            f"{folder / 'run.json'}: expected the categories of the run, received {error!r}"
        ) from None
    if len(categories) != config.model.num_classes:
        raise CenterMaskError(
            f"{folder / 'run.json'}: expected {config.model.num_classes} categories (model.num_classes of "
            f"{source}), received {len(categories)}"
        )
    predictor = build(config, categories)
    load_weights(predictor.detector, folder / "model.weights.h5")
    return predictor


def check_run_folder(folder: Path) -> None:
    """Check that a folder holds what a model is loaded from.

    Raises:
        CenterMaskError: names the first file that is missing.
    """
    for name in ("config.json", "model.weights.h5", "run.json"):
        if not (folder / name).is_file():
            hint = " Train first, or wait for the first validation." if folder.is_dir() else ""
            raise CenterMaskError(f"{folder}: expected a run folder with {name}, received none.{hint}")


def load_weights(detector: CenterMask, path: str | Path) -> None:
    """Load the weights of a detector of the same architecture.

    Raises:
        CenterMaskError: the file is missing, not of Keras, or of another architecture.
    """
    if not Path(path).is_file():
        raise CenterMaskError(f"{path}: expected a weights file (*.weights.h5), received none")
    try:
        with warnings.catch_warnings():  # Keras warns of every layer before it raises
            warnings.simplefilter("ignore")
            detector.load_weights(path)
    except (ValueError, OSError, KeyError) as error:
        reason = str(error).strip().splitlines()[0]
        raise CenterMaskError(
            f"{path}: expected the weights of this configuration's model, received: {reason}"
        ) from None


def _as_image(source: ImageLike) -> np.ndarray:
    if isinstance(source, str | Path):
        return read_image(source)
    if not isinstance(source, np.ndarray):
        raise ImageError("input", type(source).__name__, expected="a path or an array uint8 [H, W, 3] in RGB")
    if source.dtype != np.uint8 or source.ndim != 3 or source.shape[2] != 3 or 0 in source.shape:
        raise ImageError("array", f"{source.dtype} {list(source.shape)}", expected="uint8 [H, W, 3] in RGB")
    return source

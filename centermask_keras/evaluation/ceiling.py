"""The representation ceiling: the best mask AP that a configuration could reach with perfect outputs.

Ground truth is encoded into the model's own outputs and decoded again by the functions that inference runs. What is
lost is lost to the representation: stride, shape size, centre collisions, the mask grid.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from keras import ops

from centermask_keras.config import Config
from centermask_keras.data.files.annotations import Annotations
from centermask_keras.data.samples.sample import make_sample
from centermask_keras.data.samples.transform import make_eval_transform
from centermask_keras.detectors import detector_class
from centermask_keras.detectors.base import ReadPoints, assemble_detections, to_logits
from centermask_keras.errors import CenterMaskError
from centermask_keras.evaluation.coco import evaluate_coco
from centermask_keras.evaluation.predict import Progress
from centermask_keras.inference.objects import categories_of, to_objects
from centermask_keras.structures import Detections, Outputs, PointOutputs, Tensor
from centermask_keras.targets.saliency import class_planes_to_map

Factors = Literal["both", "local_shape", "saliency"]

LEAST_PROBABILITY = 0.05
"""Probabilities are clipped to [0.05, 0.95] before they become logits: an interpolation between infinite logits would
put every edge half way between two samples, whatever their coverage."""
SINGLE_THRESHOLD = 0.5
"""Where a single factor holds the coverage itself, half coverage is the edge."""


@dataclass(frozen=True)
class EncodedImage:
    """The ground truth of one image in the form of the network's outputs (batch of 1)."""

    outputs: Outputs
    read_points: ReadPoints


def measure_ceiling(
    config: Config, annotations: Annotations, *, progress: Progress | None = None
) -> dict[Factors, float]:
    """Measure the mask AP of encoded and decoded ground truth.

    Args:
        config: sizes, classes, mask threshold, and how images are read.
        annotations: the dataset to encode.
        progress: told about every image.

    Returns:
        Mask AP with both factors, with the shape alone, and with the saliency alone.

    Raises:
        CenterMaskError: the dataset holds no object.
    """
    annotations = annotations.under(config.data.crowd)
    if not (~annotations.crowd).any():
        raise CenterMaskError(f"{annotations.path}: expected objects that are not crowds, received none")
    kinds: tuple[Factors, ...] = ("both", "local_shape", "saliency")
    categories = categories_of(annotations)
    results: dict[Factors, list[dict[str, Any]]] = {kind: [] for kind in kinds}
    for index in range(len(annotations)):
        hw = tuple(int(side) for side in annotations.image_hw[index])
        transform, input_hw = make_eval_transform(hw, config)
        sample = make_ceiling_sample(annotations, index, config=config, transform=transform, input_hw=input_hw)
        for kind in kinds:
            detections = detect_encoded(encode_image(sample, config, kind), config)
            found = to_objects(detections, 0, transform, hw, categories, threshold_of(kind, config))
            results[kind] += found.to_coco(int(annotations.image_ids[index]))
        if progress:
            progress(index + 1, len(annotations))
    return {kind: evaluate_coco(annotations, found, iou_type="segm")["mask_ap"] for kind, found in results.items()}


def make_ceiling_sample(
    annotations: Annotations, index: int, *, config: Config, transform: np.ndarray, input_hw: tuple[int, int]
) -> dict[str, np.ndarray]:
    """Make the sample of an image whose masks are on the S x S grid of the local shape, on an input of any size."""
    return make_sample(
        annotations,
        index,
        config=config,
        transform=transform,
        input_hw=input_hw,
        mask_size=config.model.shape_size,
    )


def encode_image(sample: dict[str, np.ndarray], config: Config, kind: Factors) -> EncodedImage:
    """Encode a sample into the outputs of a perfect network.

    Both factors hold the square root of the coverage, so that their product is the coverage; a single factor holds
    the coverage.

    Args:
        sample: as `make_ceiling_sample` gives it.
        config: the configuration.
        kind: the factors that will be multiplied.
    """
    model = config.model
    batch = {key: value[None] for key, value in sample.items()}
    outputs, points, row_of_place = detector_class(model).encode_perfect(batch, model)
    if kind != "local_shape":
        channels = model.num_classes if model.saliency == "class_specific" else 1
        planes = (batch["saliency_planes"], batch["saliency_classes"], batch["saliency_valid"])
        outputs["saliency_logits"] = _mask_logits(ops.convert_to_numpy(class_planes_to_map(*planes, channels)), kind)
    if kind != "saliency":
        points["local_shape_logits"] = _mask_logits(sample["masks"].reshape(len(sample["masks"]), -1), kind)
    return EncodedImage(outputs, _lookup(points, row_of_place))


def detect_encoded(encoded: EncodedImage, config: Config) -> Detections:
    """Decode an encoded image with the inference path; arrays come back."""
    decoded = detector_class(config.model).find_objects(encoded.outputs, encoded.read_points, config.model)
    detections = assemble_detections(decoded, encoded.outputs.get("saliency_logits"), config.model)
    return {key: ops.convert_to_numpy(value) for key, value in detections.items()}


def threshold_of(kind: Factors, config: Config) -> float:
    """Return where a mask probability is cut."""
    return config.eval.mask_threshold if kind == "both" else SINGLE_THRESHOLD


def _lookup(points: dict[str, np.ndarray], row_of_place: np.ndarray) -> ReadPoints:
    """Return perfect point heads: at the place of an object its row, elsewhere zeros, a size of 0 (no object)."""
    tables = {key: np.concatenate([table, np.zeros_like(table[:1])]) for key, table in points.items()}

    def read_points(at: Tensor) -> PointOutputs:
        rows = row_of_place[ops.convert_to_numpy(at)]
        return {key: ops.convert_to_tensor(table[rows]) for key, table in tables.items()}

    return read_points


def _mask_logits(coverage: np.ndarray, kind: Factors) -> np.ndarray:
    share = coverage.astype(np.float32) / 255.0
    probability = np.sqrt(share) if kind == "both" else share
    return to_logits(probability, least=LEAST_PROBABILITY)

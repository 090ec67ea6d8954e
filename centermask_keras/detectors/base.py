"""The detector: one `keras.Model` whose `compute_loss` is the custom training step; what all detectors begin with."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import keras
import numpy as np
from keras import ops

from centermask_keras.assemble import assemble_masks, mask_probability
from centermask_keras.config import Config
from centermask_keras.config.sections import ModelConfig
from centermask_keras.decode.centernet import decode_centernet
from centermask_keras.losses.centernet import heatmap_loss, point_l1_loss
from centermask_keras.losses.masks import mask_loss, saliency_loss
from centermask_keras.ops.gather_patches import gather_patches
from centermask_keras.ops.replicas import count_over_replicas, num_replicas
from centermask_keras.structures import Detections, GroundTruth, Outputs, PointOutputs, Tensor
from centermask_keras.targets.centernet import encode_centernet
from centermask_keras.targets.federated import find_unknown_classes
from centermask_keras.targets.saliency import class_planes_to_map

ReadPoints = Callable[[Tensor], PointOutputs]
"""Cells or locations int32 [B, K] to what the point heads give there."""

HALF_COVERED, WHOLLY_COVERED = 128, 255
"""Of 255: where a crowd region covers a cell by half, the cell is ignored. The saliency of a class that LVIS does not
know in an image is ignored but for the cells that an object covers wholly."""

IMAGE_MEAN = (0.47026115, 0.44719302, 0.40789654)
"""Mean of COCO's pixels in 0..1, RGB (CenterNet)."""
IMAGE_STD = (0.27809835, 0.27408164, 0.28863828)
"""Standard deviation of COCO's pixels in 0..1, RGB (CenterNet)."""
RARE_LOGIT = -2.19
"""Initial bias of maps that are nearly everywhere negative: a probability of 0.1 (focal loss prior)."""
LEAST_DEVIATION = 4.0
"""Grey levels: an image that varies less than this (an empty slide) is not amplified any further."""


class CenterMask(keras.Model):
    """CenterMask on centre points: dense heatmap and saliency, point heads at centres, mask = shape x saliency.

    The policy of this outer model is float32 without autocasting, whatever the policy of its parts: boxes in pixels
    would lose their fractions in bfloat16.

    Args:
        network: images float32 [B, H, W, 3] in 0..255, RGB -> `Outputs`.
        point_heads: patches [B, K, 3, 3, F] of the features -> `PointOutputs`.
        intermediate_point_heads: the same for the stacks before the last one, in their order; for the losses only.
        config: the complete configuration; stride, sizes and loss weights are read from it.

    Source: Sections 3.1-3.5.
    """

    def __init__(
        self,
        network: keras.Model,
        point_heads: keras.Model,
        intermediate_point_heads: Sequence[keras.Model] = (),
        *,
        config: Config,
        name: str = "centermask",
    ):
        super().__init__(name=name, dtype="float32", autocast=False)
        self.network = network
        self.point_heads = point_heads
        self.intermediate_point_heads = list(intermediate_point_heads)
        self.config = config
        self.loss_trackers = [keras.metrics.Mean(name=name) for name in active_losses(config)]
        self.built = True

    def call(self, inputs: Tensor | GroundTruth, training: bool = False) -> Outputs:
        """Run the network on images uint8 or float32 [B, H, W, 3] in 0..255, or on the images of a training batch."""
        images = inputs["image"] if isinstance(inputs, dict) else inputs
        return self.network(ops.cast(images, "float32"), training=training)

    def read_points(self, features: Tensor, cells: Tensor, stack: int = -1) -> PointOutputs:
        """Run the point heads of a stack, the last if not said, at cells int32 [B, K] (i * w + j) of its features."""
        heads = [*self.intermediate_point_heads, self.point_heads][stack]
        return heads(gather_patches(features, cells))

    def compute_loss(
        self,
        x: GroundTruth | None = None,
        y: Any = None,
        y_pred: Outputs | None = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Tensor:
        """Return the weighted sum of the losses of a batch, float32 scalar (Eq. 6), and update the named metrics."""
        losses = self.compute_losses(y_pred, x)
        for tracker in self.loss_trackers:
            # Each replica has its part of the sum, and the metric is their mean.
            tracker.update_state(losses[tracker.name] * num_replicas())
        weights = self.config.loss_weights
        return sum(getattr(weights, name) * value for name, value in losses.items())

    def compute_losses(self, outputs: Outputs, batch: GroundTruth) -> dict[str, Tensor]:
        """Return the losses of a batch by the names of `active_losses`, float32 scalars, not weighted.

        Each is the mean over the stacks of the network.
        """
        stacks = [*outputs.get("intermediate", ()), outputs]
        per_stack = [
            centermask_losses(stack, batch, partial(self.read_points, stack["features"], stack=index), self.config)
            for index, stack in enumerate(stacks)
        ]
        return {name: sum(losses[name] for losses in per_stack) / len(stacks) for name in per_stack[0]}

    def detect(self, images: Tensor) -> Detections:
        """Run the inference graph: network, decoding, point heads at the peaks, assembly at the decoded boxes."""
        outputs = self(images, training=False)
        return assemble_detections(self.decode(outputs), outputs.get("saliency_logits"), self.config.model)

    def decode(self, outputs: Outputs) -> dict[str, Tensor]:
        """Find the objects in dense outputs: boxes, scores, classes, valid, and the local shape logits."""
        return decode(outputs, partial(self.read_points, outputs["features"]), self.config.model)


def active_losses(config: Config) -> tuple[str, ...]:
    """Name the losses that a configuration trains with, in the order of its `loss_weights`."""
    weights = config.loss_weights
    return tuple(name for name in type(weights).model_fields if name != "saliency" or weights.saliency > 0)


def centermask_losses(
    outputs: Outputs, batch: GroundTruth, read_points: ReadPoints, config: Config
) -> dict[str, Tensor]:
    """Encode the targets of a batch and compare the outputs with them.

    Args:
        outputs: dense outputs of the network for `batch["image"]`.
        batch: ground truth; its shapes are static but for N.
        read_points: the point heads; called once, with the true centres.
        config: the configuration.

    Returns:
        float32 scalars by the names of `active_losses`: not weighted, finite also without any object. Under a strategy
        these are the parts of this replica: they add up to the losses of the whole batch.

    Source: Eq. 2-5 and the direct saliency supervision of Section 4.1.
    """
    model = config.model
    heatmap_logits = outputs["heatmap_logits"]
    grid_hw = (heatmap_logits.shape[1], heatmap_logits.shape[2])
    valid = batch["valid"]
    targets = encode_centernet(
        batch["boxes"], batch["classes"], valid, grid_hw=grid_hw, stride=model.stride, num_classes=model.num_classes
    )
    num_objects = count_over_replicas(valid)
    ignored = find_ignored(batch, model.num_classes)
    points = read_points(targets["cells"])
    ignored_by_heatmap = ignored
    if "known_classes" in batch:
        ignored_by_heatmap = ignored | find_unknown_classes(batch, model.num_classes)[:, None, None]
    losses = {
        "heatmap": heatmap_loss(heatmap_logits, targets["heatmap"], ignored_by_heatmap, num_objects),
        "offset": point_l1_loss(points["offset"], targets["offset"], valid, num_objects),
        "size": point_l1_loss(points["size"], targets["size"], valid, num_objects),
    }
    l, g = assemble_masks(
        points.get("local_shape_logits"),
        outputs.get("saliency_logits"),
        batch["boxes"],
        batch["classes"],
        mask_size=model.mask_size_train,
        stride=model.stride,
    )
    masks = ops.cast(batch["masks"], "float32") / 255.0
    losses["mask"] = mask_loss(l, g, masks, valid, num_objects)
    if config.loss_weights.saliency > 0:
        losses["saliency"] = direct_saliency_loss(outputs["saliency_logits"], batch, ignored)
    return losses


def direct_saliency_loss(logits: Tensor, batch: GroundTruth, ignored: Tensor) -> Tensor:
    """Compare the class-specific saliency with the coverage of the batch (see `saliency_loss`).

    Args:
        logits: float32 [B, h, w, C].
        batch: ground truth. Of a class unknown in an image, cells that an object covers wholly are compared alone.
        ignored: bool [B, h, w, C], cells that do not count.
    """
    coverage = planes_to_map(batch, "saliency", logits.shape[-1])
    if "known_classes" in batch:
        unknown = find_unknown_classes(batch, logits.shape[-1])[:, None, None]  # [B, 1, 1, C]
        ignored = ignored | (unknown & (coverage < WHOLLY_COVERED))
    return saliency_loss(logits, coverage, ignored)


def find_ignored(batch: GroundTruth, num_classes: int) -> Tensor:
    """Return bool [B, h, w, C]: the cells that a crowd region of a class covers by half or more."""
    return planes_to_map(batch, "ignore", num_classes) >= HALF_COVERED


def planes_to_map(batch: GroundTruth, kind: str, num_classes: int) -> Tensor:
    """Return the coverage uint8 [B, h, w, C] of the `saliency` or the `ignore` planes of a batch."""
    return class_planes_to_map(batch[f"{kind}_planes"], batch[f"{kind}_classes"], batch[f"{kind}_valid"], num_classes)


def decode(outputs: Outputs, read_points: ReadPoints, model: ModelConfig) -> dict[str, Tensor]:
    """Find the objects in dense outputs (see `decode_centernet`).

    Args:
        outputs: dense outputs of a batch; `h, w` may be dynamic.
        read_points: the point heads; called once, with the cells of the peaks.
        model: stride and K.
    """
    return decode_centernet(
        outputs["heatmap_logits"], stride=model.stride, num_detections=model.max_detections, read_points=read_points
    )


def assemble_detections(decoded: dict[str, Tensor], saliency_logits: Tensor | None, model: ModelConfig) -> Detections:
    """Give decoded objects their masks, at the decoded boxes: the one path of predictor, evaluator and ceiling.

    Args:
        decoded: boxes, scores, classes, valid, and local_shape_logits if the model has them.
        saliency_logits: as in `Outputs`, or None in a model without it.
        model: stride and mask grid.
    """
    l, g = assemble_masks(
        decoded.get("local_shape_logits"),
        saliency_logits,
        decoded["boxes"],
        decoded["classes"],
        mask_size=model.mask_size_infer,
        stride=model.stride,
    )
    kept = {key: decoded[key] for key in ("boxes", "scores", "classes", "valid")}
    return {**kept, "masks": mask_probability(l, g)}


class ImageNormalization(keras.layers.Layer):
    """Bring RGB values 0..255 [B, H, W, 3] to zero mean and unit variance, in float32 before any lower precision.

    By the statistics of COCO, or by those of each input over all of its pixels and channels, padding included:
    microscopes and other instruments differ in brightness and contrast from image to image, by far more than photos do.

    Args:
        per_image: which of the two.
    """

    def __init__(self, *, per_image: bool, name: str = "normalization"):
        super().__init__(name=name, dtype="float32")
        self.per_image = per_image

    def call(self, images: Tensor) -> Tensor:
        """Normalise images float32 [B, H, W, 3]."""
        if not self.per_image:
            return images * (1.0 / (255.0 * np.asarray(IMAGE_STD, "float32"))) - np.asarray(
                IMAGE_MEAN, "float32"
            ) / np.asarray(IMAGE_STD, "float32")
        centered = images - _mean_of_image(images)
        variance = _mean_of_image(ops.square(centered))
        return centered / ops.sqrt(ops.maximum(variance, LEAST_DEVIATION**2))

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        """Return the shape of the input."""
        return input_shape


def _mean_of_image(values: Tensor) -> Tensor:
    """Average each image of [B, H, W, 3], by rows first: some runtimes lose digits over a million numbers."""
    return ops.mean(ops.mean(values, axis=(2, 3), keepdims=True), axis=1, keepdims=True)


@contextmanager
def global_policy(policy: str) -> Iterator[None]:
    """Build layers under a dtype policy and restore the one before."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)

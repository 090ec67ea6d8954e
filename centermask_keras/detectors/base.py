"""The contract of all detectors: one `keras.Model` that trains by its own losses and detects by one inference graph.

A detector fills in four things, each in a file of its own name: `create` (its network and heads), `compute_losses`,
`find_objects` (its decoding) and `encode_perfect` (what a perfect network would say, for the representation ceiling).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from centermask_keras.assemble import assemble_masks, mask_probability
from centermask_keras.config import ModelConfig
from centermask_keras.losses.masks import saliency_loss
from centermask_keras.ops.replicas import num_replicas
from centermask_keras.structures import Detections, GroundTruth, Outputs, PointOutputs, Tensor
from centermask_keras.targets.ignored import find_ignored_saliency
from centermask_keras.targets.saliency import class_planes_to_map

ReadPoints = Callable[[Tensor], PointOutputs]
"""Cells or locations int32 [B, K] to what the point heads give there."""

RARE_LOGIT = -2.19
"""Initial bias of maps that are nearly everywhere negative: a probability of 0.1 (focal loss prior)."""


class PerfectOutputs(NamedTuple):
    """What a perfect network would say of one image, without the two factors of the masks.

    Attributes:
        dense: its dense outputs, a batch of 1.
        points: what its point heads say of each object, [N, ...].
        object_of_place: int [cells or locations], the row of `points` there; N where there is none.
    """

    dense: dict[str, Any]
    points: dict[str, np.ndarray]
    object_of_place: np.ndarray


class CenterMask(keras.Model, ABC):
    """CenterMask on points: dense maps find objects and their saliency, point heads read their local shapes.

    The policy of this outer model is float32 without autocasting, whatever the policy of its parts: boxes in pixels
    would lose their fractions in bfloat16.

    Args:
        network: images float32 [B, H, W, 3] in 0..255, RGB -> dense outputs with `features`.
        point_heads: patches [B, K, 3, 3, F] of the features -> `PointOutputs`.
        config: the model's part of a configuration.

    Source: Sections 3.1-3.5.
    """

    intermediate_point_heads: Sequence[keras.Model] = ()
    """The point heads of the stacks before the last one, where a network has several."""

    def __init__(
        self, network: keras.Model, point_heads: keras.Model | None, *, config: ModelConfig, name: str = "centermask"
    ):
        super().__init__(name=name, dtype="float32", autocast=False)
        self.network = network
        self.point_heads = point_heads
        self.config = config
        self.loss_trackers = [keras.metrics.Mean(name=name) for name in config.loss_weights.named()]
        self.built = True

    @classmethod
    @abstractmethod
    def create(cls, config: ModelConfig, *, seed: int) -> CenterMask:
        """Build the detector on random weights; `seed` is that of what it draws itself while it trains."""

    @abstractmethod
    def read_points(self, features: Any, places: Tensor) -> PointOutputs:
        """Run the point heads at places int32 [B, K] of the features."""

    @abstractmethod
    def compute_losses(self, outputs: Outputs, batch: GroundTruth) -> dict[str, Tensor]:
        """Compare the dense outputs of a batch with its ground truth.

        Returns:
            float32 scalars by the names of `config.loss_weights`: not weighted, finite also without any object. Under
            a strategy these are the parts of this replica: they add up to the losses of the whole batch.
        """

    @staticmethod
    @abstractmethod
    def find_objects(outputs: Outputs, read_points: ReadPoints, config: ModelConfig) -> dict[str, Tensor]:
        """Decode dense outputs, of any size: boxes, scores, classes, valid, and the local shape logits.

        Args:
            outputs: dense outputs of a batch.
            read_points: the point heads; called once, with the places of what was found.
            config: the model's part of a configuration.
        """

    @staticmethod
    @abstractmethod
    def encode_perfect(batch: dict[str, np.ndarray], config: ModelConfig) -> PerfectOutputs:
        """Encode the ground truth of one image, a batch of 1, into what `find_objects` reads."""

    def call(self, inputs: Tensor | GroundTruth, training: bool = False) -> Outputs:
        """Run the network on images uint8 or float32 [B, H, W, 3] in 0..255, or on the images of a training batch."""
        images = inputs["image"] if isinstance(inputs, dict) else inputs
        return self.network(ops.cast(images, "float32"), training=training)

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
        weights = self.config.loss_weights.named()
        return sum(weights[name] * value for name, value in losses.items())

    def detect(self, images: Tensor) -> Detections:
        """Run the inference graph: network, decoding, point heads at the peaks, assembly at the decoded boxes."""
        outputs = self(images, training=False)
        return assemble_detections(self.decode(outputs), outputs.get("saliency_logits"), self.config)

    def decode(self, outputs: Outputs) -> dict[str, Tensor]:
        """Find the objects in the dense outputs of this detector (see `find_objects`)."""
        return self.find_objects(outputs, partial(self.read_points, outputs["features"]), self.config)


def compute_named(losses: dict[str, Callable[[], Tensor]], config: ModelConfig) -> dict[str, Tensor]:
    """Compute the losses that a configuration names, in its order."""
    return {name: losses[name]() for name in config.loss_weights.named()}


def direct_saliency_loss(logits: Tensor, batch: GroundTruth) -> Tensor:
    """Compare the class-specific saliency float32 [B, h, w, C] with the coverage of a batch (see `saliency_loss`)."""
    planes = (batch["saliency_planes"], batch["saliency_classes"], batch["saliency_valid"])
    coverage = class_planes_to_map(*planes, logits.shape[-1])
    return saliency_loss(logits, coverage, find_ignored_saliency(batch, coverage))


def assemble_detections(decoded: dict[str, Tensor], saliency_logits: Tensor | None, config: ModelConfig) -> Detections:
    """Give decoded objects their masks, at the decoded boxes: the one path of predictor, evaluator and ceiling.

    Args:
        decoded: boxes, scores, classes, valid, and local_shape_logits if the model has them.
        saliency_logits: as in `Outputs`, or None in a model without it.
        config: stride and mask grid.
    """
    l, g = assemble_masks(
        decoded.get("local_shape_logits"),
        saliency_logits,
        decoded["boxes"],
        decoded["classes"],
        mask_size=config.mask_size_infer,
        stride=config.stride,
    )
    kept = {key: decoded[key] for key in ("boxes", "scores", "classes", "valid")}
    return {**kept, "masks": mask_probability(l, g)}


def to_logits(probability: np.ndarray, *, least: float) -> np.ndarray:
    """Return the logits, float32, of probabilities clipped to [least, 1 - least]."""
    clipped = np.clip(probability, least, 1 - least).astype(np.float32)
    return np.log(clipped) - np.log1p(-clipped)

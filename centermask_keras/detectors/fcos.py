"""CenterMask on FCOS: a feature pyramid, towers shared by its levels, the local shape at points, one saliency map.

Source: Section 4.3; Tian et al. 2019, "FCOS" (arXiv 1904.01355). Where the paper is silent, see docs/fidelity.md.
"""

from __future__ import annotations

from functools import partial

import keras
import numpy as np
from keras import ops

from centermask_keras.assemble import assemble_masks
from centermask_keras.backbones.fpn import LEVELS, build_fpn
from centermask_keras.backbones.resnet import build_resnet
from centermask_keras.config import ModelConfig
from centermask_keras.decode.fcos import decode_fcos
from centermask_keras.detectors.base import (
    RARE_LOGIT,
    CenterMask,
    PerfectOutputs,
    ReadPoints,
    compute_named,
    direct_saliency_loss,
    to_logits,
)
from centermask_keras.geometry.locations import STRIDES, flatten_levels, make_locations
from centermask_keras.heads.fcos import LevelScale, build_box_head, build_class_head, build_saliency, build_tower
from centermask_keras.heads.points import PointHead
from centermask_keras.losses.fcos import centerness_loss, focal_loss, giou_loss
from centermask_keras.losses.masks import mask_loss
from centermask_keras.ops.dtype_policy import global_policy
from centermask_keras.ops.gather_patches import gather_level_patches
from centermask_keras.ops.image_normalization import ImageNormalization
from centermask_keras.ops.replicas import count_over_replicas
from centermask_keras.structures import FcosOutputs, FcosTargets, GroundTruth, PointOutputs, Tensor
from centermask_keras.targets.fcos import encode_fcos
from centermask_keras.targets.ignored import find_ignored_cells

MOST_MASK_POSITIVES = 128
"""Positive locations of an image that enter the mask loss, drawn anew for every batch."""


class FcosCenterMask(CenterMask):
    """CenterMask on FCOS; see `CenterMask`.

    Args:
        network: images float32 [B, H, W, 3] in 0..255, RGB -> `FcosOutputs`.
        point_heads: patches [B, K, 3, 3, F] of the features -> `PointOutputs`, the local shape only.
        config: the model's part of a configuration.
        seed: of the draw of positives.
    """

    def __init__(self, network: keras.Model, point_heads: keras.Model | None, *, config: ModelConfig, seed: int):
        super().__init__(network, point_heads, config=config)
        self.draws = keras.random.SeedGenerator(seed)

    @classmethod
    def create(cls, config: ModelConfig, *, seed: int) -> FcosCenterMask:
        """Build the detector in the configured precision; `seed` is that of the draw of positives."""
        with global_policy(config.dtype_policy):
            network = build_network(config)
            point_heads = None if config.mask_factors == "saliency" else build_shape_head(config)
        return cls(network, point_heads, config=config, seed=seed)

    def read_points(self, features: list[Tensor], places: Tensor) -> PointOutputs:
        """Run the point heads at locations int32 [B, K] of the features of all levels."""
        return self.point_heads(gather_level_patches(features, places)) if self.point_heads else {}

    def compute_losses(self, outputs: FcosOutputs, batch: GroundTruth) -> dict[str, Tensor]:
        """Return the losses of a batch by name (see `CenterMask.compute_losses`)."""
        read_points = partial(self.read_points, outputs["features"])
        return fcos_losses(outputs, batch, read_points, self.config, seed=self.draws)

    @staticmethod
    def find_objects(outputs: FcosOutputs, read_points: ReadPoints, config: ModelConfig) -> dict[str, Tensor]:
        """Find the objects in dense outputs (see `decode_fcos`) and read their local shapes where they were found."""
        decoded = decode_fcos(
            outputs["class_logits"],
            outputs["distances"],
            outputs["centerness_logits"],
            num_detections=config.max_detections,
            least_score=config.least_score,
        )
        return decoded | read_points(decoded["locations"])

    @staticmethod
    def encode_perfect(batch: dict[str, np.ndarray], config: ModelConfig) -> PerfectOutputs:
        """Encode classes, distances and centerness at all positives, and which object each location answers for."""
        levels_hw = [tuple(-(-side // stride) for side in batch["image"].shape[1:3]) for stride in STRIDES]
        encoded = encode_fcos(batch["boxes"], batch["classes"], batch["valid"], levels_hw=levels_hw)
        targets = {key: ops.convert_to_numpy(value)[0] for key, value in encoded.items()}
        positive = targets["positive"]
        class_of = positive[:, None] & (np.arange(config.num_classes) == targets["classes"][:, None])
        values = {
            "class_logits": to_logits(class_of.astype(np.float32), least=1e-4),
            "distances": targets["distances"],
            "centerness_logits": to_logits(targets["centerness"][:, None], least=1e-4),
        }
        ends = np.cumsum([height * width for height, width in levels_hw])[:-1]
        dense = {
            key: [part.reshape(1, *hw, -1) for part, hw in zip(np.split(value, ends), levels_hw, strict=True)]
            for key, value in values.items()
        }
        return PerfectOutputs(dense, {}, np.where(positive, targets["objects"], len(batch["valid"][0])))


def fcos_losses(
    outputs: FcosOutputs,
    batch: GroundTruth,
    read_points: ReadPoints,
    config: ModelConfig,
    *,
    seed: keras.random.SeedGenerator,
) -> dict[str, Tensor]:
    """Encode the targets of a batch and compare the outputs with them.

    Args:
        outputs: dense outputs of the network for `batch["image"]`.
        batch: ground truth.
        read_points: gives the local shape at locations int32 [B, K]; called once.
        config: the model's part of a configuration.
        seed: draws the positives that enter the mask loss.

    Returns:
        As `CenterMask.compute_losses`.
    """
    levels_hw = [tuple(ops.shape(level)[1:3]) for level in outputs["class_logits"]]
    targets = encode_fcos(batch["boxes"], batch["classes"], batch["valid"], levels_hw=levels_hw)
    positive = targets["positive"]
    num_positives = count_over_replicas(positive)

    def classification() -> Tensor:
        ignored = _read_at_locations(find_ignored_cells(batch, config.num_classes), levels_hw, config.stride)
        logits = flatten_levels(outputs["class_logits"])
        return focal_loss(logits, targets["classes"], positive, ignored, num_positives)

    def centerness() -> Tensor:
        logits = flatten_levels(outputs["centerness_logits"])[..., 0]
        return centerness_loss(logits, targets["centerness"], positive, num_positives)

    losses = {
        "classification": classification,
        "box": lambda: giou_loss(flatten_levels(outputs["distances"]), targets["distances"], targets["centerness"]),
        "centerness": centerness,
        "mask": lambda: _mask_loss_of_positives(outputs, batch, targets, read_points, config, seed),
        "saliency": lambda: direct_saliency_loss(outputs["saliency_logits"], batch),
    }
    return compute_named(losses, config)


def _mask_loss_of_positives(
    outputs: FcosOutputs,
    batch: GroundTruth,
    targets: FcosTargets,
    read_points: ReadPoints,
    config: ModelConfig,
    seed: keras.random.SeedGenerator,
) -> Tensor:
    """Compute Eq. 2 at drawn positive locations, each over the true box of the object it answers for."""
    locations, chosen = draw_positives(targets["positive"], seed)
    objects = ops.take_along_axis(targets["objects"], locations, axis=1)  # [B, K]
    classes = ops.take_along_axis(targets["classes"], locations, axis=1)
    boxes = ops.take_along_axis(batch["boxes"], objects[..., None], axis=1)
    l, g = assemble_masks(
        read_points(locations).get("local_shape_logits"),
        outputs.get("saliency_logits"),
        boxes,
        classes,
        mask_size=config.mask_size_train,
        stride=config.stride,
    )
    images, count = ops.shape(batch["masks"])[:2]
    rows = objects + count * ops.arange(images, dtype="int32")[:, None]
    masks = ops.take(ops.reshape(batch["masks"], (-1, *batch["masks"].shape[2:])), rows, axis=0)
    return mask_loss(l, g, ops.cast(masks, "float32") / 255.0, chosen, count_over_replicas(chosen))


def draw_positives(positive: Tensor, seed: keras.random.SeedGenerator) -> tuple[Tensor, Tensor]:
    """Draw up to `MOST_MASK_POSITIVES` positive locations of each image, each as likely as any other.

    Args:
        positive: bool [B, T].
        seed: source of the draw.

    Returns:
        locations: int32 [B, K], each at most once; 0 where there was no further one.
        chosen: bool [B, K], False there.
    """
    keys = keras.random.uniform(ops.shape(positive), seed=seed, dtype="float32")
    keys = ops.pad(ops.where(positive, keys, -1.0), [[0, 0], [0, MOST_MASK_POSITIVES]], constant_values=-1.0)
    best, locations = ops.top_k(keys, MOST_MASK_POSITIVES)
    chosen = best >= 0
    return ops.where(chosen, ops.cast(locations, "int32"), 0), chosen


def _read_at_locations(values: Tensor, levels_hw: list[tuple], stride: int) -> Tensor:
    """Read a map [B, h, w, C] of a stride at the cells that hold the locations: [B, T, C]."""
    batch, height, width, channels = ops.shape(values)
    columns, rows = ops.unstack(ops.cast(make_locations(levels_hw)[0] // stride, "int32"), axis=-1)
    # Levels round up: their last locations may lie beyond the input.
    cells = ops.minimum(rows, height - 1) * width + ops.minimum(columns, width - 1)
    return ops.take(ops.reshape(values, (batch, height * width, channels)), cells, axis=1)


def build_network(config: ModelConfig) -> keras.Model:
    """Build the dense part: images float32 [B, H, W, 3] in 0..255 -> `FcosOutputs` without the factors not in use."""
    channels, depth = config.head_channels, config.tower_depth
    images = keras.Input((None, None, 3), name="image", dtype="float32")
    backbone = build_resnet(config.backbone, deformable=config.deformable, frozen_norm=config.frozen_norm)
    pyramid = build_fpn(backbone, channels)(ImageNormalization(per_image=config.normalization == "image")(images))
    levels = [pyramid[level] for level in LEVELS]
    class_head, box_head = build_class_head(channels, config.num_classes, depth), build_box_head(channels, depth)
    boxes = [box_head(level) for level in levels]
    outputs = {
        "class_logits": [class_head(level) for level in levels],
        "distances": [
            LevelScale(dtype="float32", name=f"scale_{name.lower()}")(box["distances"])
            for name, box in zip(LEVELS, boxes, strict=True)
        ],
        "centerness_logits": [box["centerness_logits"] for box in boxes],
        "features": levels,
    }
    if config.mask_factors != "saliency":
        shape_tower = build_tower(channels, depth, "shape_tower")
        outputs["features"] = [shape_tower(level) for level in levels]
    if config.mask_factors != "local_shape":
        specific = config.saliency == "class_specific"
        outputs["saliency_logits"] = build_saliency(
            levels[:3],
            channels=channels,
            out_channels=config.num_classes if specific else 1,
            stride=config.stride,
            bias=RARE_LOGIT if specific else 0.0,
        )
    return keras.Model(images, outputs, name="network")


def build_shape_head(config: ModelConfig) -> keras.Model:
    """Build the last block of the local shape, read at points: patches [B, K, 3, 3, F] -> `PointOutputs`."""
    patches = keras.Input((None, 3, 3, config.head_channels), name="patches")
    head = PointHead(config.head_channels, config.shape_size**2, name="local_shape_logits")
    return keras.Model(patches, {"local_shape_logits": head(patches)}, name="point_heads")

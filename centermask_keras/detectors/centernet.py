"""CenterMask on CenterNet: a backbone with one level of stride 4; two dense and three point heads for each stack."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, partial

import keras
import numpy as np
from keras import ops

from centermask_keras.assemble import assemble_masks
from centermask_keras.backbones import build_backbone
from centermask_keras.config import ModelConfig
from centermask_keras.decode.centernet import decode_centernet
from centermask_keras.detectors.base import (
    RARE_LOGIT,
    CenterMask,
    PerfectOutputs,
    ReadPoints,
    compute_named,
    direct_saliency_loss,
    to_logits,
)
from centermask_keras.heads.dense import build_dense_head
from centermask_keras.heads.points import PointHead
from centermask_keras.losses.centernet import heatmap_loss, point_l1_loss
from centermask_keras.losses.masks import mask_loss
from centermask_keras.ops.dtype_policy import global_policy
from centermask_keras.ops.gather_patches import gather_patches
from centermask_keras.ops.image_normalization import ImageNormalization
from centermask_keras.ops.replicas import count_over_replicas
from centermask_keras.structures import GroundTruth, Outputs, PointOutputs, Tensor
from centermask_keras.targets.centernet import encode_centernet
from centermask_keras.targets.ignored import find_ignored_cells


class CenterNetCenterMask(CenterMask):
    """CenterMask on CenterNet; see `CenterMask`.

    Args:
        network: images float32 [B, H, W, 3] in 0..255, RGB -> `Outputs`.
        point_heads: patches [B, K, 3, 3, F] of the features -> `PointOutputs`.
        intermediate_point_heads: the same for the stacks before the last one, in their order; for the losses only.
        config: the model's part of a configuration.
    """

    def __init__(
        self,
        network: keras.Model,
        point_heads: keras.Model,
        intermediate_point_heads: Sequence[keras.Model] = (),
        *,
        config: ModelConfig,
    ):
        super().__init__(network, point_heads, config=config)
        self.intermediate_point_heads = list(intermediate_point_heads)

    @classmethod
    def create(cls, config: ModelConfig, *, seed: int) -> CenterNetCenterMask:
        """Build the detector in the configured precision; it draws nothing while it trains."""
        with global_policy(config.dtype_policy):
            network = build_network(config)
            point_heads = build_point_heads(config, network.output["features"].shape[-1])
            intermediate = [
                build_point_heads(config, outputs["features"].shape[-1], name=f"point_heads_{stack}")
                for stack, outputs in enumerate(network.output.get("intermediate", ()))
            ]
        return cls(network, point_heads, intermediate, config=config)

    def read_points(self, features: Tensor, places: Tensor) -> PointOutputs:
        """Run the point heads of the last stack at cells int32 [B, K] (i * w + j) of its features."""
        return self.point_heads(gather_patches(features, places))

    def compute_losses(self, outputs: Outputs, batch: GroundTruth) -> dict[str, Tensor]:
        """Return the losses of a batch by name, each the mean over the stacks (see `CenterMask.compute_losses`)."""
        per_stack = [
            centernet_losses(
                stack, batch, lambda cells, f=stack["features"], h=heads: h(gather_patches(f, cells)), self.config
            )
            for stack, heads in zip(outputs.get("intermediate", ()), self.intermediate_point_heads, strict=True)
        ]
        last = partial(self.read_points, outputs["features"])
        per_stack.append(centernet_losses(outputs, batch, last, self.config))
        return {name: sum(losses[name] for losses in per_stack) / len(per_stack) for name in per_stack[0]}

    @staticmethod
    def find_objects(outputs: Outputs, read_points: ReadPoints, config: ModelConfig) -> dict[str, Tensor]:
        """Find the peaks of the heatmap and read the point heads there (see `decode_centernet`)."""
        return decode_centernet(
            outputs["heatmap_logits"],
            stride=config.stride,
            num_detections=config.max_detections,
            read_points=read_points,
        )

    @staticmethod
    def encode_perfect(batch: dict[str, np.ndarray], config: ModelConfig) -> PerfectOutputs:
        """Encode heatmap, offsets and sizes of the objects, and which object each cell holds."""
        grid_hw = batch["saliency_planes"].shape[2:]
        targets = encode_centernet(
            batch["boxes"],
            batch["classes"],
            batch["valid"],
            grid_hw=grid_hw,
            stride=config.stride,
            num_classes=config.num_classes,
        )
        dense = {"heatmap_logits": to_logits(ops.convert_to_numpy(targets["heatmap"]), least=1e-4)}
        points = {key: ops.convert_to_numpy(targets[key])[0] for key in ("offset", "size")}
        valid = batch["valid"][0]
        object_of_cell = np.full(grid_hw[0] * grid_hw[1], len(valid))
        object_of_cell[ops.convert_to_numpy(targets["cells"])[0][valid]] = np.flatnonzero(valid)
        return PerfectOutputs(dense, points, object_of_cell)


def centernet_losses(
    outputs: Outputs, batch: GroundTruth, read_points: ReadPoints, config: ModelConfig
) -> dict[str, Tensor]:
    """Encode the targets of a batch and compare the outputs of one stack with them.

    Args:
        outputs: dense outputs of a stack for `batch["image"]`.
        batch: ground truth; its shapes are static but for N.
        read_points: the point heads of the stack; called once, with the true centres.
        config: the model's part of a configuration.

    Returns:
        As `CenterMask.compute_losses`.

    Source: Eq. 2-5 and the direct saliency supervision of Section 4.1.
    """
    heatmap_logits, valid = outputs["heatmap_logits"], batch["valid"]
    targets = encode_centernet(
        batch["boxes"],
        batch["classes"],
        valid,
        grid_hw=(heatmap_logits.shape[1], heatmap_logits.shape[2]),
        stride=config.stride,
        num_classes=config.num_classes,
    )
    num_objects = count_over_replicas(valid)
    ignored = find_ignored_cells(batch, config.num_classes)
    points = read_points(targets["cells"])

    @cache  # and computed where the first loss asks: the order of operations decides the last digit of the sum
    def assembled() -> tuple[Tensor, Tensor, Tensor]:
        l, g = assemble_masks(
            points.get("local_shape_logits"),
            outputs.get("saliency_logits"),
            batch["boxes"],
            batch["classes"],
            mask_size=config.mask_size_train,
            stride=config.stride,
        )
        return l, g, ops.cast(batch["masks"], "float32") / 255.0

    losses = {
        "heatmap": lambda: heatmap_loss(heatmap_logits, targets["heatmap"], ignored, num_objects),
        "offset": lambda: point_l1_loss(points["offset"], targets["offset"], valid, num_objects),
        "size": lambda: point_l1_loss(points["size"], targets["size"], valid, num_objects),
        "mask": lambda: mask_loss(*assembled(), valid, num_objects),
        "saliency": lambda: direct_saliency_loss(outputs["saliency_logits"], batch),
    }
    return compute_named(losses, config)


def build_network(config: ModelConfig) -> keras.Model:
    """Build the dense part: images float32 [B, H, W, 3] in 0..255 -> `Outputs` (no saliency in a shape-only model)."""
    images = keras.Input((None, None, 3), name="image", dtype="float32")
    levels = build_backbone(config)(ImageNormalization(per_image=config.normalization == "image")(images))
    outputs = add_dense_heads(levels["P2"], config, stack="")
    if levels.get("intermediate"):
        outputs["intermediate"] = [
            add_dense_heads(features, config, stack=f"{stack}_")
            for stack, features in enumerate(levels["intermediate"])
        ]
    return keras.Model(images, outputs, name="network")


def add_dense_heads(features: Tensor, config: ModelConfig, *, stack: str) -> Outputs:
    """Put the dense heads of one stack on its features; `stack` begins the names of its layers."""
    outputs = {
        "heatmap_logits": build_dense_head(
            features,
            mid_channels=config.head_channels,
            out_channels=config.num_classes,
            bias=RARE_LOGIT,
            name=f"{stack}heatmap",
        ),
        "features": features,
    }
    if config.mask_factors != "local_shape":
        specific = config.saliency == "class_specific"
        outputs["saliency_logits"] = build_dense_head(
            features,
            mid_channels=config.head_channels,
            out_channels=config.num_classes if specific else 1,
            bias=RARE_LOGIT if specific else 0.0,
            name=f"{stack}saliency",
        )
    return outputs


def build_point_heads(config: ModelConfig, channels: int, name: str = "point_heads") -> keras.Model:
    """Build what is read at centres: patches [B, K, 3, 3, channels] -> `PointOutputs` (no shape if saliency-only)."""
    patches = keras.Input((None, 3, 3, channels), name="patches")
    widths = {"offset": 2, "size": 2}
    if config.mask_factors != "saliency":
        widths["local_shape_logits"] = config.shape_size**2
    outputs = {key: PointHead(config.head_channels, width, name=key)(patches) for key, width in widths.items()}
    return keras.Model(patches, outputs, name=name)

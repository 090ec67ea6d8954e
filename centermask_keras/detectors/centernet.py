"""CenterMask on CenterNet: a backbone with one level of stride 4; two dense and three point heads for each stack."""

from __future__ import annotations

import keras

from centermask_keras.backbones import build_backbone
from centermask_keras.config import Config
from centermask_keras.config.sections import ModelConfig
from centermask_keras.detectors.base import RARE_LOGIT, CenterMask, ImageNormalization, global_policy
from centermask_keras.heads.dense import build_dense_head
from centermask_keras.heads.points import PointHead
from centermask_keras.structures import Outputs, Tensor


def build_centernet(config: Config) -> CenterMask:
    """Build the detector in the configured precision, on random weights drawn from `train.seed`."""
    keras.utils.set_random_seed(config.train.seed)
    with global_policy(config.model.dtype_policy):
        network = build_network(config)
        channels = network.output["features"].shape[-1]
        point_heads = build_point_heads(config, channels)
        intermediate = [
            build_point_heads(config, outputs["features"].shape[-1], name=f"point_heads_{stack}")
            for stack, outputs in enumerate(network.output.get("intermediate", ()))
        ]
    return CenterMask(network, point_heads, intermediate, config=config)


def build_network(config: Config) -> keras.Model:
    """Build the dense part: images float32 [B, H, W, 3] in 0..255 -> `Outputs` (no saliency in a shape-only model)."""
    model = config.model
    images = keras.Input((None, None, 3), name="image", dtype="float32")
    levels = build_backbone(model)(ImageNormalization(per_image=model.normalization == "image")(images))
    outputs = _add_dense_heads(levels["P2"], model, stack="")
    if levels.get("intermediate"):
        outputs["intermediate"] = [
            _add_dense_heads(features, model, stack=f"{stack}_")
            for stack, features in enumerate(levels["intermediate"])
        ]
    return keras.Model(images, outputs, name="network")


def _add_dense_heads(features: Tensor, model: ModelConfig, *, stack: str) -> Outputs:
    """Put the dense heads of one stack on its features; `stack` begins the names of its layers."""
    outputs = {
        "heatmap_logits": build_dense_head(
            features,
            mid_channels=model.head_channels,
            out_channels=model.num_classes,
            bias=RARE_LOGIT,
            name=f"{stack}heatmap",
        ),
        "features": features,
    }
    if model.mask_factors != "local_shape":
        specific = model.saliency == "class_specific"
        outputs["saliency_logits"] = build_dense_head(
            features,
            mid_channels=model.head_channels,
            out_channels=model.num_classes if specific else 1,
            bias=RARE_LOGIT if specific else 0.0,
            name=f"{stack}saliency",
        )
    return outputs


def build_point_heads(config: Config, channels: int, name: str = "point_heads") -> keras.Model:
    """Build what is read at centres: patches [B, K, 3, 3, channels] -> `PointOutputs` (no shape if saliency-only)."""
    model = config.model
    patches = keras.Input((None, 3, 3, channels), name="patches")
    widths = {"offset": 2, "size": 2}
    if model.mask_factors != "saliency":
        widths["local_shape_logits"] = model.shape_size**2
    outputs = {key: PointHead(model.head_channels, width, name=key)(patches) for key, width in widths.items()}
    return keras.Model(patches, outputs, name=name)

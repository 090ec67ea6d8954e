"""A CenterMask whose offset, size and local shape are dense maps, as the paper draws them, to compare with.

With the same weights it gives the same losses as the one with point heads; a test holds them to it.
"""

from __future__ import annotations

from functools import partial

import keras
from keras import layers, ops

from centermask_keras.config import ModelConfig
from centermask_keras.detectors import build_detector
from centermask_keras.detectors.centernet import CenterNetCenterMask
from centermask_keras.heads.dense import build_dense_head, make_head_initializer
from centermask_keras.ops.dtype_policy import global_policy
from centermask_keras.ops.gather_patches import gather_cells
from centermask_keras.structures import PointOutputs, Tensor


class DenseHeadsCenterMask(CenterNetCenterMask):
    """CenterMask whose offset, size and local shape are dense maps, read at the centres afterwards.

    Its `point_heads` is a model of the whole map: features [B, h, w, F] -> maps of the `PointOutputs`.
    """

    def read_points(self, features: Tensor, places: Tensor) -> PointOutputs:
        """Compute the maps at every cell and read them at cells int32 [B, K]."""
        maps = self.point_heads(features)
        return {name: ops.cast(gather_cells(values, places), "float32") for name, values in maps.items()}


def build_dense_variant(config: ModelConfig, shape_dtype: str | None = "float32") -> DenseHeadsCenterMask:
    """Build the detector of a configuration with dense heads in place of its point heads.

    `shape_dtype` is the precision of the local shape's last layer, None for that of the configuration.
    """
    network = build_detector(config).network
    with global_policy(config.dtype_policy):
        heads = build_dense_heads(config, network.output["features"].shape[-1], shape_dtype)
    return DenseHeadsCenterMask(network, heads, config=config)


def build_dense_heads(config: ModelConfig, channels: int, shape_dtype: str | None) -> keras.Model:
    """Build features [B, h, w, channels] -> maps offset and size [B, h, w, 2], local shape [B, h, w, S * S]."""
    features = keras.Input((None, None, channels), name="features")
    maps = {
        name: build_dense_head(features, mid_channels=config.head_channels, out_channels=2, bias=0.0, name=name)
        for name in ("offset", "size")
    }
    hidden = layers.Conv2D(
        config.head_channels,
        3,
        padding="same",
        activation="relu",
        kernel_initializer=make_head_initializer(),
        name="local_shape_logits_0",
    )(features)
    maps["local_shape_logits"] = layers.Conv2D(
        config.shape_size**2,
        1,
        kernel_initializer=make_head_initializer(),
        dtype=shape_dtype,
        name="local_shape_logits_2",
    )(hidden)
    return keras.Model(features, maps, name="dense_heads")


VARIANTS = {
    "point": build_detector,
    "dense": build_dense_variant,
    "dense_low": partial(build_dense_variant, shape_dtype=None),
}
"""What builds the detector of a configuration. Why there are three: `point_heads.py`."""

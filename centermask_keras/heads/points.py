"""Point heads: what a dense head would give, computed at chosen cells only.

Stage: heads. Input: ops/gather_patches.py. Dense counterpart: heads/dense.py.
Source: Figures 3 and 4 (offset, size and shape head); layers and initial values as in the CenterNet release.
"""

from __future__ import annotations

import keras
from keras import ops

from centermask_keras.heads.dense import make_head_initializer
from centermask_keras.structures import Tensor


class PointHead(keras.layers.Layer):
    """Apply a 3x3 convolution, ReLU and a 1x1 convolution to the 3x3 neighbourhoods of single cells.

    Exactly a zero-padded dense head read at those cells. The last layer runs in float32 whatever the policy.

    Args:
        mid_channels: channels between the two convolutions.
        out_channels: channels of the output.

    Call arguments:
        patches: float [B, K, 3, 3, F], zeros outside of the map.

    Returns:
        float32 [B, K, out_channels].
    """

    def __init__(self, mid_channels: int, out_channels: int, **kwargs):
        super().__init__(**kwargs)
        self.mid_channels = mid_channels
        self.out_channels = out_channels
        self.project = keras.layers.Dense(
            out_channels, kernel_initializer=make_head_initializer(), dtype="float32", name="project"
        )

    def build(self, input_shape: tuple) -> None:
        self.kernel = self.add_weight(
            name="kernel", shape=(3, 3, input_shape[-1], self.mid_channels), initializer=make_head_initializer()
        )
        self.bias = self.add_weight(name="bias", shape=(self.mid_channels,), initializer="zeros")
        self.project.build((*input_shape[:2], self.mid_channels))

    def call(self, patches: Tensor) -> Tensor:
        batch, points = ops.shape(patches)[:2]
        fan_in = 9 * patches.shape[-1]
        rows = ops.reshape(patches, (batch, points, fan_in))
        hidden = ops.matmul(rows, ops.reshape(self.kernel, (fan_in, self.mid_channels))) + self.bias
        return self.project(ops.relu(hidden))  # [B, K, out_channels]

    def compute_output_spec(self, patches: Tensor) -> keras.KerasTensor:
        return keras.KerasTensor((*patches.shape[:2], self.out_channels), dtype="float32")

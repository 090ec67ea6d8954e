"""The highest values of a map with many channels, in two steps that never sort the whole map.

Stage: kernels; used by both decoders.
"""

from __future__ import annotations

import math

from keras import ops

from centermask_keras.ops.gather_patches import gather_cells
from centermask_keras.structures import Tensor

NOWHERE = 2**24
"""Beyond every cell (of 16,384 x 16,384 pixels at stride 4); float32, in which ONNX sorts, still holds it exactly."""


def top_k_of_map(values: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Find the highest values of each image, falling; of equal ones those of lower cells, then lower channels, first.

    That is `top_k` of the flat map. Only the cells whose best channel is among the best can hold one of them: those
    first, then the values of these cells. Accelerators sort what they take `top_k` of. And JAX 0.11 never came to the
    end of compiling one of 1,310,720 numbers for a GPU: one image of 512 x 512 pixels with 80 classes at stride 4.

    Args:
        values: float32 [B, h, w, C]; -inf for what cannot be chosen. `B, h, w` may be dynamic.
        count: how many per image (K). May exceed the number of values.

    Returns:
        best: float32 [B, K]; -inf where there was nothing further.
        channels: int32 [B, K]; 0 there.
        cells: int32 [B, K], i * w + j; 0 there.

    Source: Section 3.5 (top scoring points).
    """
    batch, height, width, num_channels = ops.shape(values)
    by_cell = ops.reshape(values, (batch, height * width, num_channels))
    highest = ops.max(by_cell, axis=-1)
    if highest.shape[1] is None or highest.shape[1] < count:  # top_k needs at least `count` numbers
        highest = ops.pad(highest, [[0, 0], [0, count]], constant_values=-math.inf)
    highest, cells = ops.top_k(highest, count)
    # Rising cells, so that equal values come in the order of the map; what is only padding last.
    cells = ops.where(highest > -math.inf, ops.cast(cells, "int32"), NOWHERE)
    cells = -ops.top_k(-cells, count)[0]  # TFLite has no sort
    inside = cells < NOWHERE
    cells = ops.where(inside, cells, 0)
    candidates = ops.where(inside[..., None], gather_cells(values, cells), -math.inf)  # [B, K, C]
    best, indices = ops.top_k(ops.reshape(candidates, (batch, count * num_channels)), count)
    indices = ops.where(best > -math.inf, ops.cast(indices, "int32"), 0)
    cells = ops.take_along_axis(cells, indices // num_channels, axis=1)
    return best, indices % num_channels, ops.where(best > -math.inf, cells, 0)

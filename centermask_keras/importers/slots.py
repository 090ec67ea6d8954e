"""The variables of a detector by the names of the tensors that a PyTorch checkpoint has for them.

Stage: importers. A name is that of the checkpoint with `_` for `.`; heads are called by what they give.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import keras
import numpy as np

from centermask_keras.backbones.dla import BilinearUpsampling
from centermask_keras.detectors.base import CenterMask
from centermask_keras.heads.fcos import LevelScale
from centermask_keras.heads.points import PointHead
from centermask_keras.ops.deform_conv import DeformableConv2D


@dataclass(frozen=True)
class Slot:
    """A variable, and how a PyTorch tensor becomes its value."""

    variable: keras.Variable
    convert: Callable[[np.ndarray], np.ndarray]


def find_slots(detector: CenterMask) -> dict[str, Slot]:
    """List all weights of a detector by name: `base_level2_tree1_conv1_weight`, `heatmap_0_bias`, `size_2_weight`.

    Names of the stacks before the last one begin with the number of their stack: `0_heatmap_0_bias`.
    """
    return {f"{name}_{suffix}": slot for name, layer in _named_layers(detector) for suffix, slot in _slots_of(layer)}


def _named_layers(detector: CenterMask) -> Iterator[tuple[str, keras.Layer]]:
    yield from ((layer.name, layer) for layer in _inner_layers(detector.network))
    stacks = [(f"{stack}_", heads) for stack, heads in enumerate(detector.intermediate_point_heads)]
    for prefix, heads in [*stacks, ("", detector.point_heads)]:
        yield from ((prefix + layer.name, layer) for layer in (heads.layers if heads else ()))


def _inner_layers(model: keras.Model) -> Iterator[keras.Layer]:
    for layer in model.layers:
        if isinstance(layer, keras.Model):  # backbone, pyramid, shared heads
            yield from _inner_layers(layer)
        else:
            yield layer


def _slots_of(layer: keras.Layer) -> Iterator[tuple[str, Slot]]:
    match layer:
        case DeformableConv2D():
            yield from _convolution(layer)
            yield from ((f"conv_offset_mask_{name}", slot) for name, slot in _convolution(layer.conv_offset_mask))
        case PointHead():
            yield from ((f"0_{name}", slot) for name, slot in _convolution(layer))
            yield "2_weight", Slot(layer.project.kernel, lambda values: values[:, :, 0, 0].T)
            yield "2_bias", Slot(layer.project.bias, _as_it_is)
        case BilinearUpsampling():
            yield "weight", Slot(layer.kernel, lambda values: values.transpose(2, 3, 0, 1)[..., 0])
        case keras.layers.BatchNormalization():
            yield "weight", Slot(layer.gamma, _as_it_is)
            yield "bias", Slot(layer.beta, _as_it_is)
            yield "running_mean", Slot(layer.moving_mean, _as_it_is)
            yield "running_var", Slot(layer.moving_variance, _as_it_is)
        case keras.layers.GroupNormalization():
            yield "weight", Slot(layer.gamma, _as_it_is)
            yield "bias", Slot(layer.beta, _as_it_is)
        case LevelScale():
            yield "scale", Slot(layer.scale, _as_it_is)
        case keras.layers.Conv2D():
            yield from _convolution(layer)


def _convolution(layer: keras.Layer) -> Iterator[tuple[str, Slot]]:
    yield "weight", Slot(layer.kernel, lambda values: values.transpose(2, 3, 1, 0))
    if layer.bias is not None:
        yield "bias", Slot(layer.bias, _as_it_is)


def _as_it_is(values: np.ndarray) -> np.ndarray:
    return values

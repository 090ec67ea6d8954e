"""Detectors: the wiring of backbone, heads, targets, losses, decoding and assembly."""

from __future__ import annotations

from collections.abc import Iterator

import keras

from centermask_keras.config import Config
from centermask_keras.detectors.base import CenterMask
from centermask_keras.detectors.centernet import build_centernet
from centermask_keras.detectors.fcos import build_fcos

DETECTORS = {"centernet": build_centernet, "fcos": build_fcos}


def build_detector(config: Config) -> CenterMask:
    """Build the untrained detector that a configuration describes."""
    detector = DETECTORS[config.model.detector](config)
    synchronize_norms(detector, config.train.synchronized_norm)
    return detector


def synchronize_norms(model: keras.Model, synchronized: bool) -> None:
    """Let every batch normalisation take the statistics of the whole batch, or of the part of its replica."""
    for layer in _walk(model):
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.synchronized = synchronized


def _walk(layer: keras.Layer) -> Iterator[keras.Layer]:
    """Give the layers of a model and of the models in it."""
    for inner in getattr(layer, "layers", ()):
        yield inner
        yield from _walk(inner)

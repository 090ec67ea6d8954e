"""Detectors: the wiring of backbone, heads, targets, losses, decoding and assembly."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import keras

from centermask_keras.config import ModelConfig
from centermask_keras.detectors.base import CenterMask
from centermask_keras.detectors.centernet import CenterNetCenterMask
from centermask_keras.detectors.fcos import FcosCenterMask

DETECTORS: dict[str, type[CenterMask]] = {"centernet": CenterNetCenterMask, "fcos": FcosCenterMask}


def detector_class(config: ModelConfig) -> type[CenterMask]:
    """Return the class of the detector that the model's part of a configuration describes."""
    return DETECTORS[config.detector]


def build_detector(config: ModelConfig, *, seed: int = 0, synchronized_norm: bool = False) -> CenterMask:
    """Build an untrained detector.

    Args:
        config: the model's part of a configuration.
        seed: decides its random weights, and what the detector draws while it trains. The random state of the caller
            stays as it was.
        synchronized_norm: batch normalisation takes the statistics of the batch over all replicas.
    """
    with _drawing_from(seed):
        detector = detector_class(config).create(config, seed=seed)
    synchronize_norms(detector, synchronized_norm)
    return detector


def synchronize_norms(model: keras.Model, synchronized: bool) -> None:
    """Let every batch normalisation take the statistics of the whole batch, or of the part of its replica."""
    for layer in _walk(model):
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.synchronized = synchronized


@contextmanager
def _drawing_from(seed: int) -> Iterator[None]:
    """Seed Python's random numbers, from which Keras' initialisers draw their own seeds, and put them back."""
    before = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(before)


def _walk(layer: keras.Layer) -> Iterator[keras.Layer]:
    """Give the layers of a model and of the models in it."""
    for inner in getattr(layer, "layers", ()):
        yield inner
        yield from _walk(inner)

"""Detectors: the wiring of backbone, heads, targets, losses, decoding and assembly."""

from __future__ import annotations

from centermask_keras.config import Config
from centermask_keras.detectors.base import CenterMask
from centermask_keras.detectors.centernet import build_centernet
from centermask_keras.detectors.fcos import build_fcos

DETECTORS = {"centernet": build_centernet, "fcos": build_fcos}


def build_detector(config: Config) -> CenterMask:
    """Build the untrained detector that a configuration describes."""
    return DETECTORS[config.model.detector](config)

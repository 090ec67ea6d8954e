"""Backbones: functions that build a `keras.Model` from images to feature maps {"Pn": stride 2^n}.

Stacked networks give the maps of the last stack, and those of the ones before it as "intermediate".
"""

import keras

from centermask_keras.backbones.dla import build_dla34, build_dla_half, build_dla_small
from centermask_keras.backbones.hourglass import build_hourglass104, build_hourglass_small
from centermask_keras.backbones.mobile import build_mobilenet_v3_large, build_mobilenet_v3_small
from centermask_keras.config.sections import DEFORMABLE_BACKBONES, ModelConfig

BACKBONES = {
    "dla34": build_dla34,
    "dla_half": build_dla_half,
    "dla_small": build_dla_small,
    "hourglass104": build_hourglass104,
    "hourglass_small": build_hourglass_small,
    "mobilenet_v3_small": build_mobilenet_v3_small,
    "mobilenet_v3_large": build_mobilenet_v3_large,
}


def build_backbone(model: ModelConfig) -> keras.Model:
    """Build the backbone that a configuration names."""
    options = {"deformable": model.deformable} if model.backbone in DEFORMABLE_BACKBONES else {}
    return BACKBONES[model.backbone](**options)

"""Backbones: functions that build a `keras.Model` from images to feature maps {"Pn": stride 2^n}."""

from centermask_keras.backbones.dla import build_dla34, build_dla_half, build_dla_small

BACKBONES = {"dla34": build_dla34, "dla_half": build_dla_half, "dla_small": build_dla_small}

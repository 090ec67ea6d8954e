"""ResNet and ResNeXt give what torchvision's give, stage by stage, with weights that come in through the importer.

The figures in `torchvision.npz` are those of PyTorch (`torchvision_reference.py`); see `test_centernet_parity.py`.
"""

import json
from pathlib import Path

import numpy as np
import pytest
from parity.rule import compare, make_image, make_tensor

from centermask_keras.config import load_config
from centermask_keras.detectors import build_detector
from centermask_keras.importers.convert import assign, convert
from centermask_keras.importers.kinds import CLASSIFIER, COUNTER, KINDS, UNTRAINED

REFERENCE = dict(np.load(Path(__file__).parent / "torchvision.npz"))
SHAPES = json.loads(str(REFERENCE["shapes"]))
SIZES = json.loads(str(REFERENCE["provenance"]))["input_hw"]
CONFIGS = Path(__file__).parents[2] / "configs"
CONFIG_OF = {"resnet101": "fcos_resnet101", "resnext101_32x8d": "fcos_resnext101"}
TOLERANCE = 1e-4  # of the largest magnitude of an output: float32 over 101 layers, colours folded into the first


@pytest.mark.slow
@pytest.mark.parametrize("network", CONFIG_OF)
def test_every_stage_equals_torchvision(network):
    detector = build_detector(load_config(CONFIGS / f"{CONFIG_OF[network]}.json", ["model.dtype_policy=float32"]).model)
    tensors = {name: make_tensor(network, name, tuple(shape)) for name, shape in SHAPES[network].items()}
    values, report = convert(tensors, detector, KINDS["torchvision-resnet"], source=network)
    assert set(report.left_out.values()) == {CLASSIFIER, COUNTER} and set(report.initial.values()) == {UNTRAINED}
    assign(detector, values)
    normalised = detector.network.get_layer("normalization")(make_image(*SIZES[network]).astype(np.float32))
    stages = detector.network.get_layer("fpn").get_layer(network)(normalised)
    errors = compare(network, {name: np.asarray(stage) for name, stage in stages.items()}, REFERENCE)
    assert all(error < TOLERANCE for error in errors.values()), errors  # not their max: it may pass over a NaN

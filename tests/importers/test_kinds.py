"""The tables of names fit the published networks: every tensor of DLA-34 and of Hourglass-104 has a place."""

import json
from pathlib import Path

import numpy as np

from centermask_keras.config import load_config
from centermask_keras.detectors import build_detector
from centermask_keras.importers.convert import convert
from centermask_keras.importers.kinds import CLASSIFIER, COUNTER, KINDS, NEVER_USED

ROOT = Path(__file__).parents[2]
SHAPES = json.loads(str(np.load(ROOT / "tests" / "parity" / "centernet.npz")["shapes"]))


def test_every_kind_names_backbones_that_configurations_have():
    schema = json.dumps(load_config(ROOT / "configs" / "demo.json").model_json_schema())
    assert all(f'"{backbone}"' in schema for kind in KINDS.values() for backbone in kind.backbones)


def test_imagenet_weights_of_dla34_fill_the_encoder_and_nothing_else():
    detector = build_detector(load_config(ROOT / "configs" / "dla34.json"))
    shapes = {key.removeprefix("base."): s for key, s in SHAPES["dla34"].items() if key.startswith("base.")}
    tensors = {key: np.ones(shape, np.float32) for key, shape in shapes.items()}
    tensors |= {"fc.weight": np.zeros((1000, 512, 1, 1)), "fc.bias": np.zeros(1000)}
    values, report = convert(tensors, detector, KINDS["dla34-imagenet"], source="file")
    assert {name.split("_")[0] for name in values} == {"base"}
    assert not [name for name in report.initial if name.startswith("base_")]
    reasons = list(report.left_out.values())
    # Two projections of a convolution and a normalisation without its counter; the classifier's weights and biases.
    assert (reasons.count(NEVER_USED), reasons.count(CLASSIFIER)) == (2 * 5, 2)
    assert reasons.count(COUNTER) == sum(key.endswith("num_batches_tracked") for key in shapes)

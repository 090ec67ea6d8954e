"""ResNet and ResNeXt equal torchvision's, stage by stage, on weights known by rule (known_weights.py).

`torchvision_resnets.json` holds what torchvision gave: 1,000 values of each stage, their mean and deviation.
"""

import json
from pathlib import Path

import numpy as np
import pytest
from parity.known_weights import make_images, make_weight, sample_places

from centermask_keras.backbones.resnet import build_resnet

REFERENCE = json.loads((Path(__file__).parent / "torchvision_resnets.json").read_text())
KEYS = {  # Keras weight -> PyTorch key
    "kernel": "weight",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}


def torch_name(layer: str) -> str:
    """Return the key of a layer: `layer1_0_conv1` -> `layer1.0.conv1`."""
    return layer.replace("_", ".")


def set_known_weights(model) -> int:
    """Give every weight of a network its value by rule; return how many numbers these are."""
    count = 0
    for layer in model.layers:
        for weight in layer.weights:
            shape = tuple(weight.shape)
            name = f"{torch_name(layer.name)}.{KEYS[weight.name]}"
            if len(shape) == 4:
                value = make_weight(name, (shape[3], shape[2], shape[0], shape[1])).transpose(2, 3, 1, 0)
            else:
                value = make_weight(name, shape)
            weight.assign(value)
            count += value.size
    return count


@pytest.mark.slow
@pytest.mark.parametrize("name", REFERENCE["models"])
def test_every_stage_equals_torchvision(name):
    reference = REFERENCE["models"][name]
    model = build_resnet(name, deformable=False, frozen_norm=True)
    assert set_known_weights(model) == model.count_params()
    stages = model(make_images(tuple(reference["image_shape"])))
    assert set(stages) == set(reference["stages"])
    for stage, expected in reference["stages"].items():
        received = np.asarray(stages[stage])
        assert list(received.shape) == expected["shape"]
        assert 0.1 <= expected["std"] <= 10
        values = received.ravel()[sample_places(received.size)]
        difference = np.abs(values - expected["values"]).max() / expected["max"]
        assert difference < 1e-4, f"{stage}: {difference}"  # float32 over up to 101 layers
        assert received.mean() == pytest.approx(expected["mean"], rel=1e-4)
        assert received.std() == pytest.approx(expected["std"], rel=1e-4)

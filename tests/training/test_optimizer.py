"""The optimizers follow their definitions, step by step."""

from pathlib import Path

import keras
import numpy as np
import pytest

from centermask_keras.config import load_config
from centermask_keras.training.optimizer import L2SGD, build_optimizer

CONFIGS = Path(__file__).parents[2] / "configs"


def test_sgd_adds_l2_to_the_gradient_of_kernels_before_the_momentum():
    rng = np.random.default_rng(0)
    kernel, bias = keras.Variable(rng.normal(size=(2, 3))), keras.Variable(rng.normal(size=(3,)))
    expected = [np.array(kernel, "float64"), np.array(bias, "float64")]
    velocity = [np.zeros((2, 3)), np.zeros(3)]
    optimizer = L2SGD(0.1, l2=0.5, momentum=0.9)
    optimizer.build([kernel, bias])
    for rate in (0.1, 0.1, 0.01, 0.01):  # a drop takes effect at once
        optimizer.learning_rate = rate
        gradients = [rng.normal(size=(2, 3)), rng.normal(size=(3,))]
        optimizer.apply([np.asarray(gradient, "float32") for gradient in gradients], [kernel, bias])
        for index, decay in enumerate((0.5, 0.0)):
            velocity[index] = 0.9 * velocity[index] + gradients[index] + decay * expected[index]
            expected[index] = expected[index] - rate * velocity[index]
    np.testing.assert_allclose(kernel, expected[0], rtol=1e-5)
    np.testing.assert_allclose(bias, expected[1], rtol=1e-5)


def test_configurations_choose_their_optimizer():
    adam = build_optimizer(load_config(CONFIGS / "dla34.json", ["train.clip_norm=3"]).train, 1e-3)
    assert type(adam) is keras.optimizers.Adam and adam.global_clipnorm == 3
    sgd = build_optimizer(load_config(CONFIGS / "fcos_resnet101.json", ["train.accumulation_steps=2"]).train, 1e-2)
    assert type(sgd) is L2SGD and (sgd.l2, sgd.momentum, sgd.gradient_accumulation_steps) == (1e-4, 0.9, 2)
    assert L2SGD.from_config(sgd.get_config()).l2 == pytest.approx(1e-4)

"""The inference graph in Keras: one pass of the network per batch, weights as they are now, on every backend."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]

CASE = """
import keras, numpy as np
from centermask_keras.config import load_config
from centermask_keras.detectors import build_detector
from centermask_keras.inference.runtimes.keras import InferenceGraph

detector = build_detector(load_config("demo", ["model.dtype_policy=float32"]).model)
passes, detect = [], type(detector).detect

def count(self, images):
    passes.append(1)
    return detect(self, images)

type(detector).detect = count
graph = InferenceGraph(detector)
images = np.random.default_rng(0).integers(0, 256, (2, 128, 128, 3), np.uint8)
values = [weight.value for weight in detector.weights]
first = graph.predict_on_batch(images)
if keras.backend.backend() == "jax":  # nothing is handed over, and nothing copied twice
    assert all(weight.value is value for weight, value in zip(detector.weights, values, strict=True))
    assert not any(value.flags.writeable for value in first.values())
assert all(isinstance(value, np.ndarray) for value in first.values())
again = graph.predict_on_batch(images)
assert len(passes) == 1, len(passes)
expected = detect(detector, images)
for name in expected:
    np.testing.assert_array_equal(again[name], first[name])
    np.testing.assert_allclose(first[name], keras.ops.convert_to_numpy(expected[name]), atol=1e-3, err_msg=name)
for weight in detector.trainable_variables:
    weight.assign(1.5 * weight)
changed = graph.predict_on_batch(images)
assert len(passes) == 1, len(passes)
assert np.abs(changed["scores"] - first["scores"]).max() > 1e-4
"""


@pytest.mark.parametrize("backend", ["tensorflow", pytest.param("jax", marks=pytest.mark.slow)])
def test_a_batch_is_one_pass_of_the_compiled_network(backend):
    pytest.importorskip(backend)
    environment = os.environ | {"KERAS_BACKEND": backend}
    done = subprocess.run([sys.executable, "-c", CASE], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]

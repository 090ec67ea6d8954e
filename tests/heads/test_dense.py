"""Dense heads start at their bias, give float32 logits whatever the policy, and train through both convolutions."""

import keras
import numpy as np
import pytest
from keras import ops

from centermask_keras.heads.dense import build_dense_head


def build_model(dtype: str = "float32") -> keras.Model:
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(dtype)
    try:
        features = keras.Input((None, None, 8), dtype=keras.config.dtype_policy().compute_dtype)
        logits = build_dense_head(features, mid_channels=16, out_channels=3, bias=-2.19, name="heatmap")
    finally:
        keras.config.set_dtype_policy(before)
    return keras.Model(features, logits)


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
def test_logits_are_float32_of_the_size_of_the_features(dtype):
    model = build_model(dtype)
    assert model.output.dtype == "float32" and model.output.shape == (None, None, None, 3)
    logits = model(np.random.standard_normal((2, 5, 7, 8)).astype("float32"))
    assert logits.shape == (2, 5, 7, 3) and keras.backend.standardize_dtype(logits.dtype) == "float32"


def test_last_layer_adds_its_bias_unrounded():
    """-2.19 is no bfloat16: a last layer in that precision would give -2.1875."""
    logits = build_model("mixed_bfloat16")(np.zeros((1, 4, 4, 8), "float32"))
    np.testing.assert_allclose(logits, -2.19, rtol=1e-6)


def test_initial_logits_stay_near_the_bias():
    logits = ops.convert_to_numpy(build_model()(np.random.standard_normal((2, 16, 16, 8)).astype("float32")))
    assert 0.01 < np.std(logits + 2.19) < 0.5


def test_values_equal_the_convolutions_written_out():
    model = build_model()
    features = np.random.standard_normal((1, 4, 5, 8)).astype("float32")
    kernel, bias, project, out_bias = (ops.convert_to_numpy(v) for v in model.weights)
    padded = np.pad(features, ((0, 0), (1, 1), (1, 1), (0, 0)))
    hidden = sum(padded[:, i : i + 4, j : j + 5] @ kernel[i, j] for i in range(3) for j in range(3))
    expected = np.maximum(hidden + bias, 0) @ project[0, 0] + out_bias
    np.testing.assert_allclose(model(features), expected, atol=1e-5)


def test_layers_are_named_after_the_head():
    names = [layer.name for layer in build_model().layers[1:]]
    assert names == ["heatmap_0", "heatmap_2"]

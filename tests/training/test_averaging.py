"""The averaged model holds the moving average of weights and batch statistics; NumPy is the oracle."""

import keras
import numpy as np
import pytest

from centermask_keras.training.averaging import WeightAverage

STEPS = 14


def build_model() -> keras.Model:
    keras.utils.set_random_seed(1)
    inputs = keras.Input((4,))
    hidden = keras.layers.BatchNormalization(momentum=0.8)(keras.layers.Dense(3)(inputs))
    return keras.Model(inputs, keras.layers.Dense(1)(keras.layers.Dropout(0.5)(hidden)))


class Recorder(keras.callbacks.Callback):
    """Note the raw weights and the count of updates after every batch."""

    def __init__(self):
        super().__init__()
        self.weights = []

    def on_train_batch_end(self, batch, logs=None):
        self.weights.append((int(self.model.optimizer.iterations), self.model.get_weights()))


def latest(average: WeightAverage) -> keras.Model:
    average.update()
    return average.averaged


def fit(average_decay, *, accumulation=None, jit_compile=False):
    """Train for 14 batches and return the average and the recorded raw weights."""
    model, averaged = build_model(), build_model()
    optimizer = keras.optimizers.Adam(0.05, gradient_accumulation_steps=accumulation)
    model.compile(optimizer=optimizer, loss="mse", jit_compile=False)
    average, recorder = WeightAverage(averaged, decay=average_decay, jit_compile=jit_compile), Recorder()
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(STEPS * 8, 4)).astype("float32"), rng.normal(size=(STEPS * 8, 1)).astype("float32")
    model.fit(x, y, batch_size=8, shuffle=False, verbose=0, callbacks=[average, recorder])
    return average, recorder.weights, model


def numpy_average(recorded, decay):
    """Average the raw weights after each update by the definition."""
    averages, updates = build_model().get_weights(), 0
    for count, weights in recorded:
        if count > updates:
            updates = count
            d = min(decay, (1 + count) / (10 + count))
            averages = [d * a + (1 - d) * w for a, w in zip(averages, weights, strict=True)]
    return averages


@pytest.mark.parametrize(
    ("decay", "accumulation", "jit_compile"),
    [(0.3, None, False), (0.999, None, False), (0.3, 3, False), (0.3, 3, True)],
)
def test_average_equals_numpy(decay, accumulation, jit_compile):
    average, recorded, _ = fit(decay, accumulation=accumulation, jit_compile=jit_compile)
    assert recorded[-1][0] == STEPS // (accumulation or 1)
    expected = numpy_average(recorded, decay)
    for got, want in zip(latest(average).get_weights(), expected, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_batch_statistics_are_averaged_too():
    average, recorded, model = fit(0.9)
    names = [weight.path.split("/")[-1] for weight in model.weights]
    index = names.index("moving_mean")
    moved = latest(average).get_weights()[index]
    assert np.abs(moved - build_model().get_weights()[index]).max() > 1e-3  # away from its start
    assert np.abs(moved - recorded[-1][1][index]).max() > 1e-3  # and not the raw one


def test_training_does_not_see_the_average():
    raw = [weights for _, weights in fit(None)[1]]
    beside = [weights for _, weights in fit(0.9)[1]]
    for one, other in zip(raw, beside, strict=True):
        for a, b in zip(one, other, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7)


def test_without_decay_it_is_the_raw_model():
    average, recorded, _ = fit(None)
    for got, want in zip(latest(average).get_weights(), recorded[-1][1], strict=True):
        np.testing.assert_array_equal(got, want)

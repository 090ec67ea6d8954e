"""All variants of the comparison are one network: with the same weights, the same losses and gradients."""

import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from centermask_keras.config import load_config
from centermask_keras.data.feeding.pipeline import make_train_dataset
from centermask_keras.data.files.annotations import load_annotations
from centermask_keras.demo.shapes import make_shapes
from centermask_keras.detectors import build_detector

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))
import point_heads  # noqa: E402


@pytest.fixture(scope="module")
def setting(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shapes")
    make_shapes(folder, train=4, val=1, hw=(64, 64), seed=3)
    paths = [f"data.train.annotations={folder / 'train.json'}", f"data.train.images={folder / 'train'}"]
    small = ["data.input_hw=[64, 64]", "model.dtype_policy=float32", "model.head_channels=16", "model.shape_size=8"]
    config = load_config(ROOT / "configs" / "demo.json", [*paths, *small, "train.batch_size=4"])
    annotations = load_annotations(config.data.train.annotations, config.data.train.images)
    return config, next(iter(make_train_dataset(config, annotations)))


def copy_weights(point, dense):
    """Give the dense variant the weights of the point heads."""
    dense.network.set_weights(point.network.get_weights())
    for name in ("offset", "size", "local_shape_logits"):
        head = point.point_heads.get_layer(name)
        dense.point_heads.get_layer(f"{name}_0").set_weights([np.asarray(head.kernel), np.asarray(head.bias)])
        kernel, bias = head.project.get_weights()
        dense.point_heads.get_layer(f"{name}_2").set_weights([kernel[None, None], bias])


def step(detector, batch):
    with tf.GradientTape() as tape:
        outputs = detector(batch, training=True)
        loss = detector.compute_loss(x=batch, y_pred=outputs)
    weights = {weight.path: weight for weight in detector.network.trainable_weights}
    return float(loss), dict(zip(weights, tape.gradient(loss, list(weights.values())), strict=True))


@pytest.mark.parametrize("variant", ["dense", "dense_low"])
def test_equal_weights_give_equal_losses_and_gradients(setting, variant):
    config, batch = setting
    point, dense = build_detector(config.model), point_heads.VARIANTS[variant](config.model)
    copy_weights(point, dense)
    (loss, gradients), (dense_loss, dense_gradients) = step(point, batch), step(dense, batch)
    assert loss == pytest.approx(dense_loss, rel=1e-5)
    largest = max(float(np.abs(gradient).max()) for gradient in gradients.values())
    for gradient, other in zip(gradients.values(), dense_gradients.values(), strict=True):
        np.testing.assert_allclose(gradient, other, atol=1e-4 * largest)


@pytest.mark.slow
def test_steps_are_timed_after_the_warm_up(setting):
    config, batch = setting
    seconds = point_heads.time_steps(build_detector(config.model), config.train, [batch] * (point_heads.WARM_UP + 2))
    assert len(seconds) == 2 and min(seconds) > 0


def test_the_summary_takes_ratios_round_by_round():
    def figures(speed):
        return {"images_per_second": speed, "peak_gib": 2.0, "growth_gib": 1.0}

    rounds = [{"point": figures(p), "dense": figures(d)} for p, d in ((2.0, 1.0), (4.0, 1.0), (9.0, 3.0))]
    summary = point_heads.summarize(rounds)
    assert summary["images_per_second"]["point"] == {"median": 4.0, "ratio": 1.0}
    assert summary["images_per_second"]["dense"] == {"median": 1.0, "ratio": 3.0}
    assert summary["peak_gib"]["dense"]["ratio"] == 1.0

"""The learning rate drops after the listed epochs, counted in batches also with gradient accumulation."""

from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from centermask_keras.config import load_config
from centermask_keras.training.schedule import StepDrops


def expected_rate(epoch: int, *, rate: float, drop_epochs: tuple[int, ...], factor: float) -> float:
    """Return the rate of an epoch (from 1), straight from the definition."""
    return rate * factor ** sum(epoch > drop for drop in drop_epochs)


@pytest.mark.parametrize("drop_epochs", [(100, 120), (120, 100), (), (1,), (2, 2)])
def test_rate_of_every_epoch_equals_the_definition(drop_epochs):
    steps = 7
    schedule = StepDrops(2.5e-4, drop_epochs, 0.1, steps)
    for epoch in (1, 2, 3, 99, 100, 101, 119, 120, 121, 130):
        expected = expected_rate(epoch, rate=2.5e-4, drop_epochs=drop_epochs, factor=0.1)
        first, last = (epoch - 1) * steps, epoch * steps - 1
        np.testing.assert_allclose([float(schedule(first)), float(schedule(last))], expected, rtol=1e-6)


def test_compiled_by_xla_equals_eager():
    schedule = StepDrops(1.0, (2,), 0.5, 3)
    compiled = tf.function(schedule, jit_compile=True)
    steps = [tf.constant(step, "int64") for step in range(9)]
    assert [float(compiled(step)) for step in steps] == [1.0] * 6 + [0.5] * 3


def test_config_round_trip():
    schedule = StepDrops(1.0, (4, 2), 0.5, 3)
    again = StepDrops.from_config(schedule.get_config())
    assert [float(again(step)) for step in range(20)] == [float(schedule(step)) for step in range(20)]


@pytest.mark.parametrize("accumulation", [None, 2])
def test_the_optimizer_asks_for_the_rate_of_the_batch(accumulation):
    """Plain SGD on a constant gradient of 1 moves by the rate: the drop comes after 2 epochs of 4 batches."""
    schedule = StepDrops(1.0, (2,), 0.1, 4)
    optimizer = keras.optimizers.SGD(schedule, gradient_accumulation_steps=accumulation)
    weight = keras.Variable(np.zeros((), "float32"))
    optimizer.build([weight])
    moved = []
    for _ in range(12):
        before = float(weight)
        optimizer.apply([keras.ops.ones(())], [weight])
        moved.append(before - float(weight))
    per_batch = [1.0] * 8 + [0.1] * 4
    updates = per_batch if accumulation is None else [r if i % 2 else 0.0 for i, r in enumerate(per_batch)]
    np.testing.assert_allclose(moved, updates, rtol=1e-5)
    assert int(optimizer.iterations) == 12 // (accumulation or 1)


def test_warm_up_rises_linearly_from_a_third_to_the_whole_rate():
    schedule = StepDrops(0.3, (2,), 0.1, 10, warmup_steps=6)
    rates = [float(schedule(step)) for step in (0, 1, 3, 6, 19, 20)]
    assert rates == pytest.approx([0.1, 0.1 + 0.2 / 6, 0.2, 0.3, 0.3, 0.03])
    same = StepDrops(**schedule.get_config())
    assert [float(same(step)) for step in (0, 1, 3, 6, 19, 20)] == rates


@pytest.mark.parametrize("name", ["fcos_resnet101", "fcos_resnext101_dcn"])
def test_the_long_protocol_is_180k_steps_with_drops_at_120k_and_160k(name):
    settings = load_config(Path(__file__).parents[2] / "configs" / f"{name}.json").train
    schedule = StepDrops(
        settings.learning_rate,
        settings.drop_epochs,
        settings.drop_factor,
        settings.steps_per_epoch,
        settings.warmup_steps,
    )
    assert settings.epochs * settings.steps_per_epoch == 180_000
    rates = {step: float(schedule(step)) for step in (0, 500, 119_999, 120_000, 159_999, 160_000)}
    assert list(rates.values()) == pytest.approx([0.01 / 3, 0.01, 0.01, 1e-3, 1e-3, 1e-4])

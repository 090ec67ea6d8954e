"""The schedule of the learning rate: steps, after a linear warm-up.

Stage: training. Source: Wang et al. 2020 (arXiv 2004.04446), section 3.5 (drops by 10 at epochs 100 and 120 of 130).
"""

from collections.abc import Sequence

import keras
from keras import ops

WARMUP_START = 1 / 3
"""Share of the rate at the first step of the warm-up (the protocol of Mask R-CNN)."""


class StepDrops(keras.optimizers.schedules.LearningRateSchedule):
    """Multiply the learning rate by a factor after each of the listed epochs.

    With `drop_epochs` (100, 120) the epochs 1..100 run at the full rate, 101..120 at one drop, 121 and on at two.
    The step is a step of `fit`, that is one batch: Keras passes its raw counter to schedules, also with gradient
    accumulation, where `optimizer.iterations` counts updates instead.

    Args:
        learning_rate: rate before any drop.
        drop_epochs: epochs, counted from 1, in any order.
        drop_factor: what each drop multiplies the rate with.
        steps_per_epoch: batches per epoch.
        warmup_steps: batches over which the rate rises linearly, from a third of it to all of it.
    """

    def __init__(
        self,
        learning_rate: float,
        drop_epochs: Sequence[int],
        drop_factor: float,
        steps_per_epoch: int,
        warmup_steps: int = 0,
    ) -> None:
        super().__init__()
        self.learning_rate = learning_rate
        self.drop_epochs = sorted(drop_epochs)
        self.drop_factor = drop_factor
        self.steps_per_epoch = steps_per_epoch
        self.warmup_steps = warmup_steps

    def __call__(self, step):
        """Return float32 [], the rate of the batch with this index (counted from 0)."""
        rates = [self.learning_rate * self.drop_factor**drops for drops in range(len(self.drop_epochs) + 1)]
        drops_done = ops.zeros((), "int32")
        for epoch in self.drop_epochs:
            drops_done += ops.cast(step >= epoch * self.steps_per_epoch, "int32")
        rate = ops.take(ops.convert_to_tensor(rates, "float32"), drops_done)
        if not self.warmup_steps:
            return rate
        progress = ops.minimum(ops.cast(step, "float32") / self.warmup_steps, 1.0)
        return rate * (WARMUP_START + (1 - WARMUP_START) * progress)

    def get_config(self) -> dict:
        return {
            "learning_rate": self.learning_rate,
            "drop_epochs": self.drop_epochs,
            "drop_factor": self.drop_factor,
            "steps_per_epoch": self.steps_per_epoch,
            "warmup_steps": self.warmup_steps,
        }

"""The step schedule of the learning rate.

Stage: training. Source: Wang et al. 2020 (arXiv 2004.04446), section 3.5 (drops by 10 at epochs 100 and 120 of 130).
"""

from collections.abc import Sequence

import keras
from keras import ops


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
    """

    def __init__(
        self, learning_rate: float, drop_epochs: Sequence[int], drop_factor: float, steps_per_epoch: int
    ) -> None:
        super().__init__()
        self.learning_rate = learning_rate
        self.drop_epochs = sorted(drop_epochs)
        self.drop_factor = drop_factor
        self.steps_per_epoch = steps_per_epoch

    def __call__(self, step):
        """Return float32 [], the rate of the batch with this index (counted from 0)."""
        rates = [self.learning_rate * self.drop_factor**drops for drops in range(len(self.drop_epochs) + 1)]
        drops_done = ops.zeros((), "int32")
        for epoch in self.drop_epochs:
            drops_done += ops.cast(step >= epoch * self.steps_per_epoch, "int32")
        return ops.take(ops.convert_to_tensor(rates, "float32"), drops_done)

    def get_config(self) -> dict:
        return {
            "learning_rate": self.learning_rate,
            "drop_epochs": self.drop_epochs,
            "drop_factor": self.drop_factor,
            "steps_per_epoch": self.steps_per_epoch,
        }

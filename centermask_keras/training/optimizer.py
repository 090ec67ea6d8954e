"""The optimizers: Adam, and SGD with momentum whose decay is part of the gradient.

Stage: training. Source: the protocol of Mask R-CNN (He et al. 2017, arXiv 1703.06870), for CenterMask on FCOS.
"""

import keras

from centermask_keras.config.sections import TrainConfig

MOMENTUM = 0.9


class L2SGD(keras.optimizers.SGD):
    """SGD with momentum and true L2: `l2` times a kernel is added to its gradient, before the momentum.

    Keras' own `weight_decay` shrinks the weights beside the update instead, and its momentum holds the rates of the
    steps that it remembers: a drop takes effect over twenty steps. Here v = momentum * v + gradient, and weights -=
    rate * v.
    Kernels are the variables of more than one axis: biases, and scales and shifts of normalisations, do not decay.

    Args:
        learning_rate: rate or schedule.
        l2: factor.
        kwargs: as of `keras.optimizers.SGD`.
    """

    def __init__(self, learning_rate, *, l2: float, **kwargs) -> None:
        super().__init__(learning_rate, **kwargs)
        self.l2 = l2

    def update_step(self, gradient, variable, learning_rate) -> None:
        """Apply the gradient of one variable."""
        gradient = keras.ops.cast(gradient, variable.dtype)
        if len(variable.shape) > 1:
            gradient = gradient + self.l2 * variable
        velocity = self.momentums[self._get_variable_index(variable)]
        self.assign(velocity, self.momentum * velocity + gradient)
        self.assign_sub(variable, keras.ops.cast(learning_rate, variable.dtype) * velocity)

    def get_config(self) -> dict:
        return super().get_config() | {"l2": self.l2}


def build_optimizer(
    settings: TrainConfig, schedule: keras.optimizers.schedules.LearningRateSchedule
) -> keras.optimizers.Optimizer:
    """Build the optimizer that a configuration names, with its clipping and accumulation.

    It has a name, so that the paths of its variables do not depend on how many a program has built.
    """
    accumulation = settings.accumulation_steps
    options = {
        "name": settings.optimizer,
        "global_clipnorm": settings.clip_norm,
        "gradient_accumulation_steps": accumulation if accumulation > 1 else None,
    }
    if settings.optimizer == "adam":
        return keras.optimizers.Adam(schedule, **options)
    return L2SGD(schedule, l2=settings.l2, momentum=MOMENTUM, **options)

"""A value with a gradient that is known already.

Automatic differentiation of a loss on a dense map keeps a dozen maps for the way back. Where the derivative has a short
form it is computed on the way there, and only it is kept.
"""

from __future__ import annotations

from keras import ops

from centermask_keras.structures import Tensor


def attach_gradient(value: Tensor, inputs: Tensor, gradient: Tensor) -> Tensor:
    """Return `value` as a function of `inputs` with the given derivative.

    Args:
        value: float32 scalar.
        inputs: float [...], finite.
        gradient: float32 [...], the derivative of `value` by each of the inputs.

    Returns:
        float32 scalar, equal to `value`. Its derivative by `inputs` is `gradient`, by anything else 0, and so is its
        second derivative.
    """

    @ops.custom_gradient
    def with_gradient(value, inputs, gradient):  # JAX forbids to take them from outside
        def by_arguments(*arguments, upstream=None):  # backends differ in how they pass it
            upstream = arguments[-1] if upstream is None else upstream
            return ops.zeros_like(value), ops.cast(upstream * gradient, inputs.dtype), ops.zeros_like(gradient)

        return value, by_arguments

    return with_gradient(ops.stop_gradient(value), inputs, ops.stop_gradient(gradient))

"""The inference graph in Keras."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property

import keras
import numpy as np

from centermask_keras.config import Config
from centermask_keras.detectors import CenterMask
from centermask_keras.inference.objects import Category
from centermask_keras.inference.predictor import Predictor
from centermask_keras.inference.runtimes.forked import check_not_forked
from centermask_keras.structures import Detections, Tensor


class InferenceGraph(keras.Model):
    """The one inference graph as a model: images [B, H, W, 3] in 0..255, RGB -> `Detections`.

    Predictor and evaluator run this graph and nothing else.
    """

    def __init__(self, detector: CenterMask):
        super().__init__(name="inference", dtype="float32", autocast=False)
        self.detector = detector
        self.built = True  # as the detector is: no first pass to find that out
        if keras.backend.backend() == "tensorflow":
            # Evaluation at the original sizes would have XLA compile the graph anew for every size.
            self.jit_compile = False

    def call(self, images: Tensor) -> Detections:
        """Detect objects in images uint8 or float32 [B, H, W, 3]."""
        return self.detector.detect(images)

    def predict_on_batch(self, x: np.ndarray) -> Detections:
        """Run the graph on one batch; arrays come back, read-only under JAX.

        There the weights are only read, and the results copied once. Keras would give the weights to the compiled
        function and take them back each time, and copy twice.
        """
        if keras.backend.backend() != "jax":
            return super().predict_on_batch(x)
        import jax

        groups = self.trainable_variables, self.non_trainable_variables
        weights = [[weight.value for weight in group] for group in groups]
        return jax.device_get(self._compiled_by_jax(*weights, x))

    @cached_property
    def _compiled_by_jax(self) -> Callable[..., Detections]:
        """The graph as a function of trainable weights, other weights and images."""
        import jax

        return jax.jit(lambda *arguments: self.stateless_call(*arguments)[0])


class KerasPredictor(Predictor):
    """A detector as a predictor.

    Args:
        detector: the trained (or fresh) detector.
        config: its configuration; `eval` says how images are read and masks are cut.
        categories: names and dataset ids of the classes, in their order.
    """

    def __init__(self, detector: CenterMask, config: Config, categories: Sequence[Category]):
        super().__init__(config, categories)
        self.detector = detector
        self.graph = InferenceGraph(detector)
        self.graph.make_predict_function()  # once: the first calls of several threads would each make one

    def detect(self, images: np.ndarray) -> Detections:
        """Run the inference graph on prepared images uint8 [B, H, W, 3]; arrays come back."""
        check_process()
        with _undistributed():
            return self.graph.predict_on_batch(images)


def check_process() -> None:
    """Refuse a forked process in which the backend would hang.

    Raises:
        CenterMaskError: see `check_not_forked`.
    """
    if keras.backend.backend() == "tensorflow":
        check_not_forked()


@contextmanager
def _undistributed() -> Iterator[None]:
    """Run batches whole: those of an evaluation need not divide by the devices that a training is spread over."""
    distribution = keras.distribution.distribution()
    keras.distribution.set_distribution(None)
    try:
        yield
    finally:
        keras.distribution.set_distribution(distribution)

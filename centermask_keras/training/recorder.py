"""What a run leaves behind: rows of metrics, the last weights, the state to continue from; and when it is over.

Stage: training.
"""

import time

import keras

from centermask_keras.config import TrainConfig
from centermask_keras.data.pipeline import SampleCounters
from centermask_keras.errors import InterruptedTraining
from centermask_keras.training.averaging import WeightAverage, fill_variables
from centermask_keras.training.distribution import Replicas
from centermask_keras.training.preemption import StopRequest
from centermask_keras.training.run_folder import LAST_WEIGHTS, RunFolder
from centermask_keras.training.state import RunProgress, Variables


class RunRecorder(keras.callbacks.Callback):
    """Count steps and epochs; write a row of metrics and the last weights after every epoch, and the state when due.

    Args:
        run: where to.
        progress: what is counted.
        variables: what the state holds; under `metrics` the means over the epoch so far, which Keras sets to zero when
            it begins an epoch, also one that continues.
        average: keeps the averaged weights.
        counters: of the input pipeline.
        stop: after a request, to any worker, the state is saved and training ends.
        replicas: all workers read the state when one of them wants it saved.
        settings: when to save.
        steps_per_epoch: batches.

    Raises:
        InterruptedTraining: the state is saved after a request to stop.
    """

    def __init__(
        self,
        run: RunFolder,
        progress: RunProgress,
        variables: Variables,
        average: WeightAverage,
        counters: SampleCounters,
        stop: StopRequest,
        replicas: Replicas,
        settings: TrainConfig,
        *,
        steps_per_epoch: int,
    ) -> None:
        super().__init__()
        self._run = run
        self._progress = progress
        self._variables = variables
        self._average = average
        self._counters = counters
        self._stop = stop
        self._replicas = replicas
        self._settings = settings
        self._steps_per_epoch = steps_per_epoch
        self._begun = [keras.ops.convert_to_numpy(mean) for mean in variables["metrics"]]
        self._saved = time.perf_counter()

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        if self._progress.step > epoch * self._steps_per_epoch:
            for mean, begun in zip(self._variables["metrics"], self._begun, strict=True):
                mean.assign(begun)

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        self._progress.step += 1
        self.stop_if_asked()
        if self._is_due():
            self._save()

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        progress = self._progress
        progress.epoch, progress.epoch_seconds = epoch + 1, 0.0
        self._run.append_metrics({"epoch": progress.epoch, "step": progress.step, **logs})
        self._average.update()
        self._run.save_weights(self._average.averaged, LAST_WEIGHTS)
        over = is_over(progress, self._settings)
        self.model.stop_training = over
        best = progress.best_epoch == progress.epoch  # its weights are written: the state must not fall behind them
        if over or best or self._saves_after(progress.epoch):
            self._save()
        if not over:
            self.stop_if_asked()

    def stop_if_asked(self) -> None:
        """Save the state and end the training if a request to stop came; also between two batches of a validation."""
        if self._replicas.any_worker(self._stop.received):
            self._save()
            self._replicas.wait()  # until the chief has written
            raise InterruptedTraining(
                f"stopped by SIGTERM after step {self._progress.step}; the same command continues the training"
            )

    def _is_due(self) -> bool:
        """Say whether a step is one after which the state is saved; the clocks of workers need not agree.

        So is the last one before a validation: its scoring can take minutes, and heeds no SIGTERM.
        """
        every, unit = self._settings.save.every, self._settings.save.unit
        epoch, rest = divmod(self._progress.step, self._steps_per_epoch)
        if not rest and validates_after(epoch, self._settings) and self._saves_after(epoch):
            return True
        if unit == "minutes":
            return self._replicas.any_worker(time.perf_counter() - self._saved >= 60 * every)
        return unit == "steps" and self._progress.step % every == 0

    def _saves_after(self, epoch: int) -> bool:
        """Say whether the end of an epoch, counted from 1, is saved whatever it brings."""
        save = self._settings.save
        return save.unit != "epochs" or epoch % save.every == 0 or epoch == self._settings.epochs

    def _save(self) -> None:
        now = time.perf_counter()
        self._progress.seconds += now - self._saved
        self._saved = now
        samples, seconds = self._counters.to_dict(), self._progress.seconds
        self._run.update_record(epochs=self._progress.epoch, seconds=seconds, samples=samples)
        fill_variables(self.model)
        self._run.states.save(self._progress, self._variables)  # last: from here on all of it counts as done


def validates_after(epoch: int, settings: TrainConfig) -> bool:
    """Say whether an epoch, counted from 1, ends with a validation."""
    return epoch % settings.validate_every == 0 or epoch == settings.epochs


def is_over(progress: RunProgress, settings: TrainConfig) -> bool:
    """Say whether a run has had its last epoch, or lost its patience."""
    patient = settings.patience is None or progress.validations_since_best < settings.patience
    return progress.epoch >= settings.epochs or not patient

"""Checkpoints: rows of metrics, the last weights, the state that a run continues from; and when the run is over.

Stage: training.
"""

import time

import keras

from centermask_keras.errors import InterruptedTraining
from centermask_keras.training.averaging import WeightAverage, fill_variables
from centermask_keras.training.run import Run
from centermask_keras.training.run_folder import LAST_WEIGHTS
from centermask_keras.training.state import Variables


class Checkpoints(keras.callbacks.Callback):
    """Count steps and epochs; write a row of metrics and the last weights after every epoch, and the state when due.

    Args:
        run: the run; all workers read the state when one of them wants it saved.
        variables: what the state holds; under `metrics` the means over the epoch so far, which Keras sets to zero when
            it begins an epoch, also one that continues.
        average: keeps the averaged weights.

    Raises:
        InterruptedTraining: the state is saved after a request to stop, to any worker.
    """

    def __init__(self, run: Run, variables: Variables, average: WeightAverage) -> None:
        super().__init__()
        self._run = run
        self._variables = variables
        self._average = average
        self._begun = [keras.ops.convert_to_numpy(mean) for mean in variables["metrics"]]
        self._saved = time.perf_counter()

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        if self._run.progress.step > epoch * self._run.steps_per_epoch:
            for mean, begun in zip(self._variables["metrics"], self._begun, strict=True):
                mean.assign(begun)

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        self._run.progress.step += 1
        self.stop_if_asked()
        if self._is_due():
            self._save()

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        run, progress = self._run, self._run.progress
        progress.epoch, progress.epoch_seconds = epoch + 1, 0.0
        run.folder.append_metrics({"epoch": progress.epoch, "step": progress.step, **logs})
        self._average.update()
        run.folder.save_weights(self._average.averaged, LAST_WEIGHTS)
        over = run.is_over
        self.model.stop_training = over
        best = progress.best_epoch == progress.epoch  # its weights are written: the state must not fall behind them
        if over or best or self._saves_after(progress.epoch):
            self._save()
        if not over:
            self.stop_if_asked()

    def stop_if_asked(self) -> None:
        """Save the state and end the training if a request to stop came; also between two batches of a validation."""
        run = self._run
        if run.replicas.any_worker(run.stop.received):
            self._save()
            run.replicas.wait()  # until the chief has written
            raise InterruptedTraining(
                f"stopped by SIGTERM after step {run.progress.step}; the same command continues the training"
            )

    def _is_due(self) -> bool:
        """Return whether the state is saved after this step; the clocks of workers need not agree.

        The last step before a validation is one: the scoring can take minutes, and heeds no SIGTERM.
        """
        run, save = self._run, self._run.settings.save
        epoch, rest = divmod(run.progress.step, run.steps_per_epoch)
        if not rest and run.validates_after(epoch) and self._saves_after(epoch):
            return True
        if save.unit == "minutes":
            return run.replicas.any_worker(time.perf_counter() - self._saved >= 60 * save.every)
        return save.unit == "steps" and run.progress.step % save.every == 0

    def _saves_after(self, epoch: int) -> bool:
        """Return whether the end of an epoch, counted from 1, is saved whatever it brings."""
        save = self._run.settings.save
        return save.unit != "epochs" or epoch % save.every == 0 or epoch == self._run.settings.epochs

    def _save(self) -> None:
        run, now = self._run, time.perf_counter()
        run.progress.seconds += now - self._saved
        self._saved = now
        samples, seconds = run.counters.to_dict(), run.progress.seconds
        run.folder.update_record(epochs=run.progress.epoch, seconds=seconds, samples=samples)
        fill_variables(self.model)
        run.folder.states.save(run.progress, self._variables)  # last: from here on all of it counts as done

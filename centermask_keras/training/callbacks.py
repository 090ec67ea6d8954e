"""What happens around the training steps: watching the losses, measuring, validating.

Stage: training. `fit.py` puts the callbacks in this order, because each adds to the epoch's `logs` what later ones
read: StopOnNonFiniteLoss, WeightAverage, EpochFigures (learning rate, speed), Validation (`mask_ap`, ...),
TensorBoardWriter, Checkpoints, TrainingDisplay, and then those of the caller.
An epoch that continues after a restart has fewer batches for Keras, which counts them from 0: all callbacks go by
`Run.progress.step`, which Checkpoints counts.
"""

import math
import time
from collections.abc import Callable

import keras

from centermask_keras.data.feeding.pipeline import rebuild_batch
from centermask_keras.errors import CenterMaskError
from centermask_keras.evaluation.predict import evaluate_model
from centermask_keras.inference.predictor import Predictor
from centermask_keras.training.averaging import WeightAverage
from centermask_keras.training.display import losses_text
from centermask_keras.training.run import Run
from centermask_keras.training.run_folder import BEST_WEIGHTS


class StopOnNonFiniteLoss(keras.callbacks.Callback):
    """Stop at the first step whose loss is NaN or infinite, and keep its batch.

    Raises:
        CenterMaskError: names step, epoch, each loss and the file of the batch.
    """

    def __init__(self, run: Run) -> None:
        super().__init__()
        self._run = run

    def on_train_batch_end(self, batch: int, logs: dict[str, float]) -> None:
        # Keras has fetched the logs already. They are means over the epoch so far: once NaN, NaN for the rest of it.
        if all(math.isfinite(value) for value in logs.values()):
            return
        run, step = self._run, self._run.progress.step  # this batch is not counted yet
        saved = run.folder.save_batch(rebuild_batch(run.config, run.train_set, step), step)
        raise CenterMaskError(
            f"step {step} (epoch {run.progress.epoch + 1}): expected finite losses, received "
            f"{losses_text(logs, ('loss', *run.losses))}. Its batch: {saved}\n"
            "Pass --overwrite with a lower train.learning_rate or a smaller train.clip_norm"
        )


class EpochFigures(keras.callbacks.Callback):
    """Add `learning_rate` (of the last step), `seconds` and `images_per_second` of the epoch's training to the logs.

    Raises:
        CenterMaskError: a callback of the caller set `model.stop_training` before the epoch was trained to its end.
    """

    def __init__(self, run: Run, schedule: keras.optimizers.schedules.LearningRateSchedule) -> None:
        super().__init__()
        self._run = run
        self._schedule = schedule

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self._begin = time.perf_counter() - self._run.progress.epoch_seconds  # of its part before a restart

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        self._run.progress.epoch_seconds = time.perf_counter() - self._begin

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        run, end = self._run, (epoch + 1) * self._run.steps_per_epoch
        if run.progress.step < end:
            raise CenterMaskError(
                f"step {run.progress.step}: expected callbacks to set model.stop_training in on_epoch_end, received it "
                f"inside of epoch {epoch + 1}. The same call continues the training from the last saved state"
            )
        seconds = run.progress.epoch_seconds
        logs["learning_rate"] = float(self._schedule(end - 1))
        logs["seconds"] = seconds
        logs["images_per_second"] = run.steps_per_epoch * run.settings.batch_size / seconds


class Validation(keras.callbacks.Callback):
    """Evaluate the averaged weights every few epochs and at the last, add the figures to the logs, save the best.

    What it writes is there before the state is saved: a run that is killed in between validates and writes again.

    Args:
        run: the run; of its workers the chief says what is the best.
        predictor: runs the averaged model; one for the whole training, so that its graph is traced once.
        average: keeps that model.
        on_progress: told about every batch.
    """

    def __init__(
        self, run: Run, predictor: Predictor, average: WeightAverage, *, on_progress: Callable[[int, int], None]
    ) -> None:
        super().__init__()
        self._run = run
        self._predictor = predictor
        self._average = average
        self._on_progress = on_progress

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        run, progress, number = self._run, self._run.progress, epoch + 1
        run.evaluation = None
        if not run.validates_after(number):
            return
        self._average.update()
        run.evaluation = evaluate_model(self._predictor, run.val_set, progress=self._on_progress)
        logs.update(run.evaluation.figures)
        # Machines may differ in the last digits, and all must agree on when to end.
        best, mask_ap = progress.best_mask_ap, run.replicas.of_chief(logs["mask_ap"])
        if best is None or mask_ap > best:
            progress.best_mask_ap, progress.best_epoch = mask_ap, number
            progress.validations_since_best = 0
            run.folder.save_weights(self._average.averaged, BEST_WEIGHTS)
            run.folder.update_record(best={"epoch": number, **run.evaluation.figures})
        else:
            progress.validations_since_best += 1

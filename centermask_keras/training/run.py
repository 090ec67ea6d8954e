"""The run: what one training works with and how far it has come.

Stage: training. All callbacks get it. Three of them change it, each its own part: `EpochFigures` the seconds of the
epoch, `Validation` the evaluation and the best epoch, `Checkpoints` the counts of steps and epochs.
"""

from dataclasses import dataclass, field

from centermask_keras.config import Config
from centermask_keras.config.sections import TrainConfig
from centermask_keras.data.files.annotations import Annotations
from centermask_keras.data.samples.sample import SampleCounters
from centermask_keras.evaluation.predict import Evaluation
from centermask_keras.training.distribution import Replicas
from centermask_keras.training.preemption import StopRequest
from centermask_keras.training.run_folder import RunFolder
from centermask_keras.training.state import RunProgress


@dataclass
class Run:
    """One training.

    Attributes:
        config: the configuration.
        train_set: the training set.
        val_set: the validation set.
        folder: where the files of the run go.
        steps_per_epoch: batches.
        losses: the names of the losses that the model reports, without their sum.
        processes: processes of this host that make the batches; 0: threads make them.
        replicas: the devices and workers that train together.
        stop: whether this worker was asked to stop.
        progress: how far the run has come.
        counters: of the input pipeline.
        evaluation: of the epoch that has just ended; None where the epoch was not validated.
    """

    config: Config
    train_set: Annotations
    val_set: Annotations
    folder: RunFolder
    steps_per_epoch: int
    losses: tuple[str, ...]
    processes: int = 0
    replicas: Replicas = field(default_factory=Replicas)
    stop: StopRequest = field(default_factory=StopRequest)
    progress: RunProgress = field(default_factory=RunProgress)
    counters: SampleCounters = field(default_factory=SampleCounters)
    evaluation: Evaluation | None = None

    @property
    def settings(self) -> TrainConfig:
        """Return the section `train` of the configuration."""
        return self.config.train

    @property
    def is_over(self) -> bool:
        """Return whether the last epoch is done, or too many validations in a row were not better."""
        patience = self.settings.patience
        patient = patience is None or self.progress.validations_since_best < patience
        return self.progress.epoch >= self.settings.epochs or not patient

    def validates_after(self, epoch: int) -> bool:
        """Return whether an epoch, counted from 1, ends with a validation."""
        return epoch % self.settings.validate_every == 0 or epoch == self.settings.epochs

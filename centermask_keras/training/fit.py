"""Train a detector: datasets in, run folder out.

Stage: training; the one loop is `keras.Model.fit`. Source: Wang et al. 2020 (arXiv 2004.04446), section 3.5.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from warnings import catch_warnings, filterwarnings

import keras
import numpy as np
import tensorflow as tf
from rich.console import Console

from centermask_keras.config import Config, TrainConfig, check_files
from centermask_keras.data.feeding.pipeline import make_train_dataset, steps_per_epoch
from centermask_keras.data.files.annotations import Annotations
from centermask_keras.data.samples.sample import SampleCounters
from centermask_keras.detectors import CenterMask, build_detector
from centermask_keras.errors import CenterMaskError
from centermask_keras.inference.load import load_weights
from centermask_keras.inference.objects import categories_of
from centermask_keras.inference.runtimes.keras import KerasPredictor
from centermask_keras.training.averaging import WeightAverage
from centermask_keras.training.callbacks import EpochFigures, StopOnNonFiniteLoss, Validation
from centermask_keras.training.checkpoints import Checkpoints
from centermask_keras.training.display import TrainingDisplay
from centermask_keras.training.distribution import Replicas, start_replicas
from centermask_keras.training.inputs import find_warnings, find_weights, load_datasets
from centermask_keras.training.optimizer import build_optimizer
from centermask_keras.training.preemption import StopRequest
from centermask_keras.training.provenance import describe_weights, record_start, versions, write_provenance
from centermask_keras.training.run import Run
from centermask_keras.training.run_folder import RunFolder, open_run
from centermask_keras.training.schedule import StepDrops
from centermask_keras.training.state import Variables
from centermask_keras.training.tensorboard import TensorBoardWriter

BACKEND_NAMES = {"tensorflow": "TensorFlow", "jax": "JAX", "torch": "PyTorch"}


@dataclass(frozen=True)
class TrainingResult:
    """What a training gives.

    Attributes:
        best_mask_ap: highest validation mask AP; the weights in the run folder are those of its epoch. None where a
            callback ended the training before the first validation.
        best_epoch: that epoch, counted from 1.
        epochs: epochs trained.
        seconds: time in all epochs, validation included, over all continuations.
        run_dir: the run folder.
    """

    best_mask_ap: float | None
    best_epoch: int
    epochs: int
    seconds: float
    run_dir: Path


def train_config(
    config: Config,
    *,
    name: str,
    run_dir: str | Path,
    weights: Path | None,
    callbacks: Sequence[keras.callbacks.Callback],
    overwrite: bool,
    processes: int,
    console: Console,
) -> TrainingResult:
    """Train as `train` says, which has started the backend."""
    check_files(config, name)
    weights = find_weights(config, name, weights)
    train_set, val_set = load_datasets(config, name)
    steps = steps_per_epoch(config, train_set)
    warnings = find_warnings(config, name, steps)
    with start_replicas(config, name) as replicas, StopRequest() as stop:
        facts = {"configuration": config.to_json(), "versions": str(versions())}
        facts |= {"training set": _describe(train_set), "validation set": _describe(val_set)}
        initial_weights = describe_weights(weights)  # read now: the run folder may be their own, and overwritten
        facts |= {"initial weights": str(initial_weights)}
        replicas.check_agreement(facts)  # before anything is built together
        schedule = _make_schedule(config.train, steps)
        model, averaged = _build_models(config, schedule, weights, replicas)  # weights that do not fit end it here
        if replicas.is_chief:
            folder = open_run(run_dir, config, overwrite=overwrite)
        else:
            folder, console = RunFolder(run_dir, read_only=True), Console(quiet=True)
        run = Run(
            config=config,
            train_set=train_set,
            val_set=val_set,
            folder=folder,
            steps_per_epoch=steps,
            losses=tuple(tracker.name for tracker in model.loss_trackers),
            processes=processes,
            replicas=replicas,
            stop=stop,
        )
        if replicas.is_chief:
            write_provenance(run, name=name, initial_weights=initial_weights, warnings=warnings)
        replicas.wait()  # until the chief has opened the folder
        variables = _state_of(model, averaged, config.train)
        _continue(run, variables)
        _announce(run, warnings, console)
        display = TrainingDisplay(run, console)
        own = _make_callbacks(run, variables, averaged, schedule, display)
        with _explained(run), display:
            _fit(run, model, [*own, *callbacks])
        if run.is_over:  # and not only ended by one of `callbacks`
            folder.update_record(finished=True)
    progress = run.progress
    return TrainingResult(progress.best_mask_ap, progress.best_epoch, progress.epoch, progress.seconds, folder.path)


def _describe(dataset: Annotations) -> str:
    """Tell a dataset from another one, wherever its files lie."""
    return str([len(dataset), len(dataset.boxes), dataset.class_names, float(np.sum(dataset.boxes))])


def _continue(run: Run, variables: Variables) -> None:
    """Set the variables and the progress to where the run stands, and record this start."""
    run.progress = run.folder.states.load(variables)
    record = run.folder.read_record()
    # The chief has just written the record: who reads another one has another folder.
    run.replicas.check_agreement({"run folder": str(record), "saved state": str(asdict(run.progress))})
    record_start(run)
    run.folder.drop_metrics(after=run.progress.epoch)
    run.counters = SampleCounters(**record.get("samples", {}))  # of the steps before, if there were any


def _make_callbacks(
    run: Run,
    variables: Variables,
    averaged: CenterMask,
    schedule: StepDrops,
    display: TrainingDisplay,
) -> list[keras.callbacks.Callback]:
    """Return the callbacks of the library in their order (see `callbacks.py`)."""
    average = WeightAverage(averaged, decay=run.settings.ema_decay, jit_compile=_jit_compile(run.replicas))
    checkpoints = Checkpoints(run, variables, average)

    def on_validation(done: int, total: int) -> None:
        display.show_validation(done, total)
        checkpoints.stop_if_asked()

    predictor = KerasPredictor(averaged, run.config, categories_of(run.val_set))
    return [
        StopOnNonFiniteLoss(run),
        average,
        EpochFigures(run, schedule),
        Validation(run, predictor, average, on_progress=on_validation),
        TensorBoardWriter(run),
        checkpoints,
        display,
    ]


@contextmanager
def _explained(run: Run) -> Iterator[None]:
    """Say what a user can do about an error of TensorFlow."""
    config = run.config
    try:
        yield
    except tf.errors.ResourceExhaustedError as error:
        raise CenterMaskError(
            f"expected memory for train.batch_size {config.train.batch_size}, eval.batch_size "
            f"{config.eval.batch_size} and model.max_detections {config.model.max_detections}, received: "
            f"{str(error.message).splitlines()[0]}\n"
            "Pass smaller ones with --overwrite; train.accumulation_steps makes up for a smaller train.batch_size"
        ) from None
    except tf.errors.OpError:
        if run.counters.error is None:
            raise
        raise run.counters.error from None  # what made the input pipeline fail, without TensorFlow's account of it


def _fit(run: Run, model: CenterMask, callbacks: list[keras.callbacks.Callback]) -> None:
    """Train from where a run stands to its end: the rest of the epoch that was begun, then whole ones."""
    progress, steps = run.progress, run.steps_per_epoch
    done = progress.step - progress.epoch * steps
    model.stop_training = run.is_over
    if done == steps:  # what was left of the epoch is its validation
        listeners = keras.callbacks.CallbackList(callbacks, model=model)
        listeners.on_train_begin()
        listeners.on_epoch_begin(progress.epoch)
        listeners.on_epoch_end(progress.epoch, model.get_metrics_result())
        listeners.on_train_end()
    elif done:
        _fit_epochs(run, model, callbacks, end=progress.epoch + 1, steps=steps - done)
    if not model.stop_training:
        _fit_epochs(run, model, callbacks, end=run.settings.epochs, steps=steps)


def _fit_epochs(
    run: Run, model: CenterMask, callbacks: list[keras.callbacks.Callback], *, end: int, steps: int
) -> None:
    """Train up to the end of an epoch, counted from 1, in epochs of so many steps."""
    with catch_warnings():
        # Of the head of a loss that `model.loss_weights` does not name.
        filterwarnings("ignore", message="Gradients do not exist for variables")
        model.fit(
            _make_dataset(run),
            steps_per_epoch=steps,
            epochs=end,
            initial_epoch=run.progress.epoch,
            shuffle=False,  # the dataset comes in its own random order
            verbose=0,
            callbacks=callbacks,
        )


def _make_dataset(run: Run) -> Any:
    """Make the batches from where the run stands, those of this process."""
    config, start, counters = run.config, run.progress.step, run.counters
    return run.replicas.distribute(
        lambda share: make_train_dataset(
            config, run.train_set, start=start, counters=counters, share=share, processes=run.processes
        )
    )


def _make_schedule(settings: TrainConfig, steps_per_epoch: int) -> StepDrops:
    return StepDrops(
        settings.learning_rate,
        settings.drop_epochs,
        settings.drop_factor,
        steps_per_epoch=steps_per_epoch,
        warmup_steps=settings.warmup_steps,
    )


def _build_models(
    config: Config, schedule: StepDrops, weights: Path | None, replicas: Replicas
) -> tuple[CenterMask, CenterMask]:
    """Build the detector that is trained, all variables of its optimizer made, and the one that holds the average."""
    with replicas.scope():
        model = _build(config)
        optimizer = build_optimizer(config.train, schedule)
        optimizer.build(model.trainable_variables)
        model.compile(optimizer=optimizer, jit_compile=_jit_compile(replicas))
    if weights is not None:
        load_weights(model, weights)
    replicas.prepare(model)
    averaged = _build(config)
    averaged.set_weights(model.get_weights())
    return model, averaged


def _build(config: Config) -> CenterMask:
    return build_detector(config.model, seed=config.train.seed, synchronized_norm=config.train.synchronized_norm)


def _state_of(model: CenterMask, averaged: CenterMask, settings: TrainConfig) -> Variables:
    """Name all variables that a run continues from."""
    variables = {"model": model.variables, "optimizer": model.optimizer.variables}
    variables["metrics"] = [variable for metric in model.metrics for variable in metric.variables]
    if settings.ema_decay is not None:
        variables["average"] = averaged.weights
    return variables


def _jit_compile(replicas: Replicas) -> bool:
    """Return whether XLA compiles the step: always with JAX, with TensorFlow on a GPU only.

    On a CPU oneDNN is faster, and XLA does not compile the collectives of a strategy.
    """
    if keras.backend.backend() != "tensorflow":
        return keras.backend.backend() == "jax"
    return bool(tf.config.list_physical_devices("GPU")) and replicas.strategy is None


def _announce(run: Run, warnings: list[str], console: Console) -> None:
    config, progress = run.config, run.progress
    precision = config.model.dtype_policy.removeprefix("mixed_")
    backend = keras.backend.backend()
    release = ".".join(versions()[backend].split(".")[:2])
    count = "1 replica" if run.replicas.count == 1 else f"{run.replicas.count} replicas"
    then = f"continues after step {progress.step}" if progress.step else "interrupted? the same command continues"
    for path in run.folder.states.damaged:
        console.print(f"{path.name} is damaged: the state before it is used", markup=False, highlight=False)
    console.print(
        f"run {run.folder.path}   {count}, {precision}, {BACKEND_NAMES[backend]} {release}   {then}",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
    for line in warnings:
        console.print(f"warning: {line}", style="bold yellow", markup=False, highlight=False, soft_wrap=True)

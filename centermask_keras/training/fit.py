"""Train a detector: datasets in, run folder out.

Stage: training; the one loop is `keras.Model.fit`. Source: Wang et al. 2020 (arXiv 2004.04446), section 3.5.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from rich.console import Console

from centermask_keras.config import Config, TrainConfig, check_files
from centermask_keras.data.annotations import Annotations, load_annotations
from centermask_keras.data.pipeline import SampleCounters, make_train_dataset, steps_per_epoch
from centermask_keras.data.processes import check_start
from centermask_keras.detectors import CenterMask, build_detector
from centermask_keras.errors import CenterMaskError, ConfigError, DataError
from centermask_keras.evaluation.predict import categories_of
from centermask_keras.inference import load_weights
from centermask_keras.runtimes.keras import KerasPredictor
from centermask_keras.training.averaging import WeightAverage
from centermask_keras.training.callbacks import (
    EpochFigures,
    StopOnNonFiniteLoss,
    TensorBoardWriter,
    TrainingDisplay,
    Validation,
)
from centermask_keras.training.distribution import Replicas, start_replicas
from centermask_keras.training.optimizer import build_optimizer
from centermask_keras.training.preemption import StopRequest
from centermask_keras.training.record import describe_weights, record_start, versions, write_record
from centermask_keras.training.recorder import RunRecorder, is_over
from centermask_keras.training.run_folder import BEST_WEIGHTS, RunFolder, open_run
from centermask_keras.training.schedule import StepDrops
from centermask_keras.training.state import RunProgress, Variables

BACKEND_NAMES = {"tensorflow": "TensorFlow", "jax": "JAX", "torch": "PyTorch"}


@dataclass(frozen=True)
class TrainingResult:
    """What a finished training gives.

    Attributes:
        best_mask_ap: highest validation mask AP; the weights in the run folder are those of its epoch.
        best_epoch: that epoch, counted from 1.
        epochs: epochs trained.
        seconds: time in all epochs, validation included, over all continuations.
        run_dir: the run folder.
    """

    best_mask_ap: float
    best_epoch: int
    epochs: int
    seconds: float
    run_dir: Path


def train(
    config: Config,
    *,
    name: str,
    run_dir: str | Path,
    weights: Path | None = None,
    overwrite: bool = False,
    console: Console | None = None,
) -> TrainingResult:
    """Train a configuration from its first epoch, or continue the unfinished run in the folder.

    A run that is killed and continued gives what an uninterrupted one gives: the state is saved as `train.save` says,
    and the data of a step depend on the seed and the step alone.

    Args:
        config: the configuration.
        name: what errors call it, the path of its file.
        run_dir: the run folder.
        weights: what training begins with instead of random weights: a `*.weights.h5` file of the same architecture,
            or a run folder, whose best weights they are.
        overwrite: delete what an earlier run left there and start anew.
        console: where progress is shown; standard output by default.

    Raises:
        ConfigError: configuration and datasets disagree, PyGrain is missing for `data.processes`, or the folder holds a
            finished or a different run, or one that began with other weights.
        DataError: a dataset's json is faulty.
        ImageError: an image does not decode (with `data.on_error` stop).
        InterruptedTraining: SIGTERM came; the state is saved.
        CenterMaskError: a loss is not finite (the message names step, epoch and losses), the disk is full, or a process
            of `data.processes` is lost.
    """
    console = console or Console()
    check_start(config)
    check_files(config, name)
    _check_weights(config, name, weights)
    train_set, val_set = _load_datasets(config)
    _check_classes(config, name, train_set, val_set)
    _check_objects(train_set, val_set)
    if weights is not None and weights.is_dir():
        weights = weights / BEST_WEIGHTS
    with start_replicas(config, name) as replicas, StopRequest() as stop:
        if weights is not None:
            load_weights(build_detector(config), weights)  # what does not fit is told before anything is written
        facts = {"configuration": config.to_json(), "versions": str(versions())}
        facts |= {"training set": _describe(train_set), "validation set": _describe(val_set)}
        facts |= {"initial weights": str(describe_weights(weights))}
        replicas.check_agreement(facts)
        if replicas.is_chief:
            run = open_run(run_dir, config, overwrite=overwrite)
            write_record(run, config, name, train_set, val_set, weights)
        replicas.wait()  # until the chief has opened the folder
        if not replicas.is_chief:
            run, console = RunFolder(run_dir, read_only=True), Console(quiet=True)
        return _fit(config, run, train_set, val_set, weights, console, replicas, stop)


def _fit(
    config: Config,
    run: RunFolder,
    train_set: Annotations,
    val_set: Annotations,
    weights: Path | None,
    console: Console,
    replicas: Replicas,
    stop: StopRequest,
) -> TrainingResult:
    settings, steps = config.train, steps_per_epoch(config, train_set)
    schedule = _make_schedule(settings, steps)
    model, averaged = _build_models(config, schedule, weights, replicas)
    variables = _state_of(model, averaged, settings)
    progress = run.states.load(variables)
    # The chief has just written the record: who reads another one has another folder.
    replicas.check_agreement({"run folder": str(run.read_record()), "saved state": str(asdict(progress))})
    record_start(run, progress, replicas)
    run.drop_metrics(after=progress.epoch)
    _announce(console, run, progress, config, replicas)

    counters = SampleCounters(**run.read_record().get("samples", {}))  # of the steps before, if there were any
    display = TrainingDisplay(console, progress, counters, config.train, steps_per_epoch=steps)
    average = WeightAverage(averaged, decay=settings.ema_decay, jit_compile=_jit_compile(replicas))
    recorder = RunRecorder(run, progress, variables, average, counters, stop, replicas, settings, steps_per_epoch=steps)

    def on_validation(done: int, total: int) -> None:
        display.show_validation(done, total)
        recorder.stop_if_asked()

    predictor = KerasPredictor(averaged, config, categories_of(val_set))
    validation = Validation(predictor, val_set, average, run, progress, replicas, on_progress=on_validation)
    callbacks = [
        StopOnNonFiniteLoss(config, train_set, run, progress),
        average,
        EpochFigures(schedule, progress, steps_per_epoch=steps, batch_size=settings.batch_size),
        validation,
        TensorBoardWriter(run, progress, validation, val_set, steps_per_epoch=steps),
        recorder,
        display,
    ]

    def make_dataset() -> Any:
        return replicas.distribute(
            lambda share: make_train_dataset(config, train_set, start=progress.step, counters=counters, share=share)
        )

    with _explained(config, counters), display:
        _fit_rest(model, make_dataset, callbacks, progress, settings, steps_per_epoch=steps)
    run.update_record(finished=True)
    return TrainingResult(progress.best_mask_ap, progress.best_epoch, progress.epoch, progress.seconds, run.path)


@contextmanager
def _explained(config: Config, counters: SampleCounters) -> Iterator[None]:
    """Say what a user can do about an error of TensorFlow."""
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
        if counters.error is None:
            raise
        raise counters.error from None  # what made the input pipeline fail, without TensorFlow's account of it


def _fit_rest(
    model: CenterMask,
    make_dataset: Callable[[], tf.data.Dataset],
    callbacks: list[keras.callbacks.Callback],
    progress: RunProgress,
    settings: TrainConfig,
    *,
    steps_per_epoch: int,
) -> None:
    """Train from where a run stands to its end: the rest of the epoch that was begun, then whole ones."""
    done = progress.step - progress.epoch * steps_per_epoch
    if done == steps_per_epoch:  # what was left of the epoch is its validation
        listeners = keras.callbacks.CallbackList(callbacks, model=model)
        listeners.on_train_begin()
        listeners.on_epoch_begin(progress.epoch)
        listeners.on_epoch_end(progress.epoch, model.get_metrics_result())
    elif done:
        _fit_epochs(model, make_dataset(), callbacks, progress.epoch, progress.epoch + 1, steps_per_epoch - done)
    if not is_over(progress, settings):
        _fit_epochs(model, make_dataset(), callbacks, progress.epoch, settings.epochs, steps_per_epoch)


def _fit_epochs(
    model: CenterMask,
    dataset: tf.data.Dataset,
    callbacks: list[keras.callbacks.Callback],
    first: int,
    end: int,
    steps: int,
) -> None:
    model.fit(
        dataset,
        steps_per_epoch=steps,
        epochs=end,
        initial_epoch=first,
        shuffle=False,  # the dataset comes in its own random order
        verbose=0,
        callbacks=callbacks,
    )


def _load_datasets(config: Config) -> list[Annotations]:
    """Load training and validation set; the faults of both come in one error."""
    loaded, problems = [], []
    for dataset in (config.data.train, config.data.val):
        try:
            loaded.append(load_annotations(dataset.annotations, dataset.images, crowd=config.data.crowd))
        except DataError as error:
            problems += error.problems
    if problems:
        raise DataError(problems)
    return loaded


def _check_weights(config: Config, name: str, weights: Path | None) -> None:
    """Refuse what cannot learn: fresh residual branches end in a scale of 0, which frozen normalisation keeps."""
    if getattr(config.model, "frozen_norm", False) and weights is None:
        raise ConfigError(
            f"{name}: model.frozen_norm: expected weights to begin with, received none: fresh ones would never learn. "
            "Pass --weights (`centermask import FILE --from torchvision-resnet`), or --set model.frozen_norm=false"
        )


def _check_classes(config: Config, name: str, train_set: Annotations, val_set: Annotations) -> None:
    """Hold the configuration and both datasets to the same classes, in the same order."""
    found, expected = train_set.num_classes, config.model.num_classes
    if found != expected:
        raise ConfigError(
            f"{name}: model.num_classes: expected {found} (classes in {Path(train_set.path).name}), "
            f"received {expected}. Pass --set model.num_classes={found}"
        )
    ours, theirs = list(train_set.class_names), list(val_set.class_names)
    if ours != theirs:
        first = next(
            (i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), min(len(ours), len(theirs))
        )
        raise ConfigError(
            f"{val_set.path}: categories: expected the {len(ours)} of {train_set.path} in the same order, received "
            f"{len(theirs)}; the first difference is category {first + 1}: expected {_nth(ours, first)}, "
            f"received {_nth(theirs, first)}"
        )


def _check_objects(*datasets: Annotations) -> None:
    """Refuse datasets from which nothing can be learned or judged."""
    for dataset in datasets:
        if not (~dataset.crowd).any():
            raise CenterMaskError(f"{dataset.path}: expected objects that are not crowds, received none")


def _nth(names: list[str], index: int) -> str:
    return repr(names[index]) if index < len(names) else "none"


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
        model = build_detector(config)
        optimizer = build_optimizer(config.train, schedule)
        optimizer.build(model.trainable_variables)
        model.compile(optimizer=optimizer, jit_compile=_jit_compile(replicas))
    if weights is not None:
        load_weights(model, weights)
    replicas.prepare(model)
    averaged = build_detector(config)
    averaged.set_weights(model.get_weights())
    return model, averaged


def _state_of(model: CenterMask, averaged: CenterMask, settings: TrainConfig) -> Variables:
    """Name all variables that a run continues from."""
    variables = {"model": model.variables, "optimizer": model.optimizer.variables}
    variables["metrics"] = [variable for metric in model.metrics for variable in metric.variables]
    if settings.ema_decay is not None:
        variables["average"] = averaged.weights
    return variables


def _jit_compile(replicas: Replicas) -> bool:
    """Say whether XLA compiles the step: always with JAX; with TensorFlow not on a CPU, where oneDNN is faster, and not
    under a strategy, whose collectives it does not compile."""
    if keras.backend.backend() != "tensorflow":
        return keras.backend.backend() == "jax"
    return bool(tf.config.list_physical_devices("GPU")) and replicas.strategy is None


def _describe(dataset: Annotations) -> str:
    """Tell a dataset from another one, wherever its files lie."""
    return str([len(dataset), len(dataset.boxes), dataset.class_names, float(np.sum(dataset.boxes))])


def _announce(console: Console, run: RunFolder, progress: RunProgress, config: Config, replicas: Replicas) -> None:
    precision = config.model.dtype_policy.removeprefix("mixed_")
    backend = keras.backend.backend()
    release = ".".join(versions()[backend].split(".")[:2])
    count = "1 replica" if replicas.count == 1 else f"{replicas.count} replicas"
    then = f"continues after step {progress.step}" if progress.step else "interrupted? the same command continues"
    for path in run.states.damaged:
        console.print(f"{path.name} is damaged: the state before it is used", markup=False, highlight=False)
    console.print(
        f"run {run.path}   {count}, {precision}, {BACKEND_NAMES[backend]} {release}   {then}",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )

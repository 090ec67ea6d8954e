"""Train a detector: datasets in, run folder out.

Stage: training; the one loop is `keras.Model.fit`. Source: Wang et al. 2020 (arXiv 2004.04446), section 3.5.
"""

import platform
from dataclasses import dataclass
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path

import keras
import tensorflow as tf
from rich.console import Console

import centermask_keras
from centermask_keras.config import Config, check_files
from centermask_keras.data.annotations import Annotations, load_annotations
from centermask_keras.data.pipeline import SampleCounters, make_train_dataset, steps_per_epoch
from centermask_keras.detectors import CenterMask, build_detector
from centermask_keras.errors import CenterMaskError, ConfigError, DataError
from centermask_keras.evaluation.predict import categories_of
from centermask_keras.inference import load_weights
from centermask_keras.runtimes.keras import KerasPredictor
from centermask_keras.training.averaging import WeightAverage
from centermask_keras.training.callbacks import (
    EpochFigures,
    RunRecorder,
    StopOnNonFiniteLoss,
    TensorBoardWriter,
    TrainingDisplay,
    Validation,
)
from centermask_keras.training.optimizer import build_optimizer
from centermask_keras.training.run_folder import BEST_WEIGHTS, RECORD, Progress, RunFolder, check_same, open_run
from centermask_keras.training.schedule import StepDrops


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

    A run that is killed and continued gives what an uninterrupted one gives: the state is written at the end of every
    epoch, and the data of a step depend on the seed and the step alone.

    Args:
        config: the configuration.
        name: what errors call it, the path of its file.
        run_dir: the run folder.
        weights: what training begins with instead of random weights: a `*.weights.h5` file of the same architecture,
            or a run folder, whose best weights they are.
        overwrite: delete what an earlier run left there and start anew.
        console: where progress is shown; standard output by default.

    Raises:
        ConfigError: configuration and datasets disagree, or the folder holds a finished or a different run, or one
            that began with other weights.
        DataError: a dataset's json is faulty.
        ImageError: an image does not decode (with `data.on_error` stop).
        CenterMaskError: a loss is not finite; the message names step, epoch and losses.
    """
    console = console or Console()
    check_files(config, name)
    train_set, val_set = _load_datasets(config)
    _check_classes(config, name, train_set, val_set)
    _check_objects(train_set, val_set)
    if weights is not None:
        weights = weights / BEST_WEIGHTS if weights.is_dir() else weights
        load_weights(build_detector(config), weights)  # what does not fit is told before anything is written
    run = open_run(run_dir, config, overwrite=overwrite)
    _write_record(run, config, name, train_set, val_set, weights)
    return _fit(config, run, train_set, val_set, weights, console)


def _fit(
    config: Config,
    run: RunFolder,
    train_set: Annotations,
    val_set: Annotations,
    weights: Path | None,
    console: Console,
) -> TrainingResult:
    settings, steps = config.train, steps_per_epoch(config, train_set)
    jit_compile = bool(tf.config.list_physical_devices("GPU"))  # on a CPU XLA is slower than oneDNN
    schedule = StepDrops(
        settings.learning_rate,
        settings.drop_epochs,
        settings.drop_factor,
        steps_per_epoch=steps,
        warmup_steps=settings.warmup_steps,
    )
    model = _compiled_model(config, schedule, jit_compile=jit_compile)
    if weights is not None:
        load_weights(model, weights)
    averaged = build_detector(config)
    averaged.set_weights(model.get_weights())
    variables = {"model": model.variables, "optimizer": model.optimizer.variables}
    if settings.ema_decay is not None:
        variables["average"] = averaged.weights
    progress = run.load_state(variables)
    _announce(console, run, progress, config)

    counters = SampleCounters(**run.read_record().get("samples", {}))  # of the epochs before, if there were any
    display = TrainingDisplay(console, progress, counters, config.train, steps_per_epoch=steps)
    average = WeightAverage(averaged, decay=settings.ema_decay, jit_compile=jit_compile)
    predictor = KerasPredictor(averaged, config, categories_of(val_set))
    validation = Validation(predictor, val_set, average, run, progress, on_progress=display.show_validation)
    callbacks = [
        StopOnNonFiniteLoss(config, train_set, run, steps_per_epoch=steps),
        average,
        EpochFigures(schedule, steps_per_epoch=steps, batch_size=settings.batch_size),
        validation,
        TensorBoardWriter(run, validation, val_set, steps_per_epoch=steps),
        RunRecorder(run, progress, variables, average, counters, steps_per_epoch=steps),
        display,
    ]
    dataset = make_train_dataset(config, train_set, start=progress.step, counters=counters)
    try:
        with display:
            model.fit(
                dataset,
                steps_per_epoch=steps,
                epochs=settings.epochs,
                initial_epoch=progress.epoch,
                shuffle=False,  # the dataset comes in its own random order
                verbose=0,
                callbacks=callbacks,
            )
    except tf.errors.ResourceExhaustedError as error:
        raise CenterMaskError(
            f"expected memory for train.batch_size {settings.batch_size}, eval.batch_size {config.eval.batch_size} and "
            f"model.max_detections {config.model.max_detections}, received: {str(error.message).splitlines()[0]}\n"
            "Pass smaller ones with --overwrite; train.accumulation_steps makes up for a smaller train.batch_size"
        ) from None
    except tf.errors.OpError:
        if counters.error is None:
            raise
        raise counters.error from None  # what made the input pipeline fail, without TensorFlow's account of it
    run.update_record(finished=True)
    return TrainingResult(progress.best_mask_ap, progress.best_epoch, progress.epoch, progress.seconds, run.path)


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


def _compiled_model(config: Config, schedule: StepDrops, *, jit_compile: bool) -> CenterMask:
    """Build the detector with its optimizer, all variables made, so that a state can be loaded into them."""
    model = build_detector(config)
    optimizer = build_optimizer(config.train, schedule)
    optimizer.build(model.trainable_variables)
    model.compile(optimizer=optimizer, jit_compile=jit_compile)
    return model


def _write_record(
    run: RunFolder, config: Config, name: str, train_set: Annotations, val_set: Annotations, weights: Path | None
) -> None:
    """Write what the run is made of; a run that continues must find what it began with.

    Raises:
        ConfigError: the datasets or the initial weights are others than when the run began.
    """
    ids_and_names = zip(train_set.category_ids, train_set.class_names, strict=True)
    data = {
        "categories": [{"id": int(category_id), "name": class_name} for category_id, class_name in ids_and_names],
        "dataset": {"train": _counts(train_set), "val": _counts(val_set)},
        "initial_weights": weights and {"file": str(weights), "sha256": sha256(weights.read_bytes()).hexdigest()},
    }
    record = run.read_record()
    if "dataset" in record:
        check_same(run.path / RECORD, {key: record.get(key) for key in data}, data)
    packages = {package: version(package) for package in ("keras", "tensorflow", "numpy")}
    run.update_record(
        **data,
        name=name,
        seed=config.train.seed,
        backend=keras.backend.backend(),
        versions={
            "centermask_keras": centermask_keras.__version__,
            **packages,
            "python": platform.python_version(),
        },
        finished=False,
    )


def _counts(dataset: Annotations) -> dict:
    return {
        "annotations": str(dataset.path),
        "images": len(dataset),
        "objects": len(dataset.boxes),
        "dropped": dict(dataset.dropped),
    }


def _announce(console: Console, run: RunFolder, progress: Progress, config: Config) -> None:
    precision = config.model.dtype_policy.removeprefix("mixed_")
    tensorflow = ".".join(tf.__version__.split(".")[:2])
    then = f"continues after epoch {progress.epoch}" if progress.epoch else "interrupted? the same command continues"
    console.print(
        f"run {run.path}   1 replica, {precision}, TensorFlow {tensorflow}   {then}",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )

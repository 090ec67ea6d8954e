"""What a training begins with: datasets and weights, held against the configuration before anything is written.

Stage: training.
"""

from pathlib import Path

from centermask_keras.config import Config
from centermask_keras.data.files.annotations import Annotations, load_annotations
from centermask_keras.errors import CenterMaskError, ConfigError, DataError
from centermask_keras.training.run_folder import BEST_WEIGHTS

FEW_STEPS = 10


def load_datasets(config: Config, name: str) -> tuple[Annotations, Annotations]:
    """Load the training and the validation set of a configuration.

    Args:
        config: the configuration.
        name: what errors call it.

    Raises:
        DataError: the faults of both.
        ConfigError: the classes of the configuration and of both sets are not the same ones, or a batch is larger than
            the training set.
        CenterMaskError: a set has no objects but crowds.
    """
    loaded, problems = [], []
    for dataset in (config.data.train, config.data.val):
        try:
            loaded.append(load_annotations(dataset.annotations, dataset.images).under(config.data.crowd))
        except DataError as error:
            problems += error.problems
    if problems:
        raise DataError(problems)
    train_set, val_set = loaded
    _check_classes(config, name, train_set, val_set)
    _check_objects(train_set, val_set)
    _check_batch(config, name, train_set)
    return train_set, val_set


def find_weights(config: Config, name: str, weights: Path | None) -> Path | None:
    """Return the file of weights that a training begins with; of a run folder its best weights.

    Raises:
        ConfigError: there are none, and fresh ones cannot learn.
        CenterMaskError: there is no such file.
    """
    if weights is None:
        # Fresh residual branches end in a scale of 0, which frozen normalisation keeps.
        if getattr(config.model, "frozen_norm", False):
            raise ConfigError(
                f"{name}: model.frozen_norm: expected weights to begin with, received none: fresh ones would never "
                "learn. Pass --weights (`centermask import FILE --from torchvision-resnet`), or "
                "--set model.frozen_norm=false"
            )
        return None
    file = weights / BEST_WEIGHTS if weights.is_dir() else weights
    if not file.is_file():
        raise CenterMaskError(f"{file}: expected a weights file (*.weights.h5), received none")
    return file


def find_warnings(config: Config, name: str, steps_per_epoch: int) -> list[str]:
    """Return a line for each setting that is allowed and is seldom meant."""
    settings, lines = config.train, []
    late = [epoch for epoch in settings.drop_epochs if epoch >= settings.epochs]
    if late:
        lines.append(
            f"{name}: train.drop_epochs: expected epochs before the last one ({settings.epochs}), received "
            f"{', '.join(map(str, late))}: the learning rate does not drop there. Pass --set train.drop_epochs=[...]"
        )
    if steps_per_epoch < FEW_STEPS:
        lines.append(
            f"{name}: train.batch_size: expected at least {FEW_STEPS} steps per epoch, received {steps_per_epoch}: the "
            "training is shorter than its epochs suggest. Pass a smaller train.batch_size, or a train.steps_per_epoch"
        )
    return lines


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


def _check_batch(config: Config, name: str, train_set: Annotations) -> None:
    """Refuse a batch that would hold an image twice."""
    size, images = config.train.batch_size, len(train_set)
    if size > images:
        raise ConfigError(
            f"{name}: train.batch_size: expected at most {images} (images of the training set), received {size}. "
            f"Pass --set train.batch_size={images}"
        )


def _nth(names: list[str], index: int) -> str:
    return repr(names[index]) if index < len(names) else "none"

"""The dataset that a model is judged on: the one that a user names, or the validation set of its configuration."""

from __future__ import annotations

from pathlib import Path

from centermask_keras.config import Config, check_files
from centermask_keras.data.files.annotations import Annotations, load_annotations
from centermask_keras.errors import CenterMaskError


def load_validation_set(
    config: Config, source: str, annotations: Path | None, images: Path | None, *, other_classes: bool = False
) -> Annotations:
    """Load the given dataset, or the configuration's validation set, and hold it against `model.num_classes`.

    `other_classes` says that it may have others than the model.
    """
    if annotations is None or images is None:
        check_files(config, source, splits=("val",))
    path, folder = annotations or config.data.val.annotations, images or config.data.val.images
    dataset = load_annotations(path, folder, require_annotations=False)
    if not other_classes and dataset.num_classes != config.model.num_classes:
        raise CenterMaskError(
            f"{path}: expected {config.model.num_classes} categories (model.num_classes), "
            f"received {dataset.num_classes}"
        )
    return dataset

"""Training from Python: a configuration in, a run folder out.

Stage: training. Nothing here imports Keras: the backend starts when a training does.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from centermask_keras.backend import start_backend
from centermask_keras.config import Config, load_config
from centermask_keras.data.feeding.processes import check_start
from centermask_keras.errors import CenterMaskError, shorten

if TYPE_CHECKING:
    import keras

    from centermask_keras.training.fit import TrainingResult


def train(
    config: Config | str | Path,
    *,
    run_dir: str | Path,
    weights: str | Path | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    overwrite: bool = False,
    processes: int = 0,
    name: str | None = None,
    console: Console | None = None,
) -> TrainingResult:
    """Train a configuration from its first epoch, or continue the unfinished run in the folder.

    A run that is killed and continued gives what an uninterrupted one gives: the state is saved as `train.save` says,
    and the data of a step depend on the seed and the step alone.

    Args:
        config: the configuration, its file, or the name of a shipped one.
        run_dir: the run folder.
        weights: what training begins with instead of random weights: a `*.weights.h5` file of the same architecture,
            or a run folder, whose best weights they are.
        callbacks: called after those of the library, on every worker. `on_train_begin` and `on_train_end` come twice
            where a run continues inside of an epoch. One that sets `model.stop_training` in its `on_epoch_end` ends the
            call; the run is not finished then, and the same call continues it from its last saved state.
        overwrite: delete what an earlier run left there and start anew.
        processes: processes of this host that make the batches (PyGrain, extra `processes`); 0: threads make them. The
            batches are the same, and a run may continue with another number. A script needs
            `if __name__ == "__main__":` around its calls.
        name: what errors call the configuration; the path of its file by default.
        console: where progress is shown; standard output by default.

    Raises:
        ConfigError: configuration and datasets disagree, a batch is larger than the training set, PyGrain is missing
            for `processes`, or the folder holds a finished or a different run, or one that began with other weights.
        DataError: a dataset's json is faulty.
        ImageError: an image does not decode (with `data.on_error` stop).
        InterruptedTraining: SIGTERM came; the state is saved.
        CenterMaskError: `weights` do not fit, a loss is not finite (the message names step, epoch and losses), the disk
            is full, one of the `processes` is lost, or `callbacks` holds something else.
    """
    if not isinstance(config, Config):
        config, name = load_config(config), name or str(config)
    check_start(processes)
    start_backend(find_devices=config.distribution != "multi_worker")
    _check_callbacks(callbacks)
    from centermask_keras.training.fit import train_config

    return train_config(
        config,
        name=name or "configuration",
        run_dir=run_dir,
        weights=None if weights is None else Path(weights),
        callbacks=callbacks,
        overwrite=overwrite,
        processes=processes,
        console=console or Console(),
    )


def _check_callbacks(callbacks: object) -> None:
    import keras

    several = isinstance(callbacks, Sequence)
    if not several or not all(isinstance(callback, keras.callbacks.Callback) for callback in callbacks):
        raise CenterMaskError(f"callbacks: expected a list of Keras callbacks, received {shorten(repr(callbacks))}")

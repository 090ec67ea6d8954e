"""TensorFlow in forked processes: a copy of its state without its threads, which waits for them forever.

Stage: runtimes. Every predictor that TensorFlow runs asks here before it is made and before it runs.
"""

from __future__ import annotations

import os

from centermask_keras.errors import CenterMaskError

_started_in: int | None = None
"""The process in which a predictor of TensorFlow was first made; a forked child inherits the number."""


def check_not_forked() -> None:
    """Note the process that TensorFlow starts in; refuse to go on in another one, where it would hang.

    Raises:
        CenterMaskError: this process was forked from one that had made a predictor of TensorFlow.
    """
    global _started_in
    if _started_in is None:
        _started_in = os.getpid()
    if _started_in != os.getpid():
        raise CenterMaskError(
            f"process {os.getpid()}: expected a process in which TensorFlow can run, received one that was forked from "
            f"process {_started_in} after a predictor had been made there. Start processes by "
            'multiprocessing.get_context("spawn"), or make predictors in the children before there is one in the parent'
        )

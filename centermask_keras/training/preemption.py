"""SIGTERM: schedulers send it some seconds before they take a machine away.

Stage: training.
"""

import signal
import threading
from types import FrameType, TracebackType


class StopRequest:
    """Remember a SIGTERM instead of dying of it, inside of a `with`; outside of the main thread nothing changes.

    Attributes:
        received: whether one came.
    """

    def __init__(self) -> None:
        self.received = False

    def __enter__(self) -> "StopRequest":
        self._listens = threading.current_thread() is threading.main_thread()
        if self._listens:
            self._before = signal.signal(signal.SIGTERM, self._remember)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._listens:
            signal.signal(signal.SIGTERM, self._before)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self.received = True

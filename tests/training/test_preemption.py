"""SIGTERM is remembered inside of the context alone, and in the main thread alone."""

import os
import signal
import threading

from centermask_keras.training.preemption import StopRequest


def test_a_signal_is_remembered_and_the_handler_before_comes_back():
    before = signal.getsignal(signal.SIGTERM)
    with StopRequest() as stop:
        assert not stop.received
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.received
    assert signal.getsignal(signal.SIGTERM) is before


def test_another_thread_trains_without_listening():
    seen = []

    def train():
        with StopRequest() as stop:
            seen.append(stop.received)

    thread = threading.Thread(target=train)
    thread.start()
    thread.join()
    assert seen == [False]

"""What a run and a benchmark state about their machine."""

import re

from centermask_keras.devices import describe_device


def test_the_device_and_the_versions_are_stated():
    device = describe_device()
    assert re.search(r"\d+ CPU cores", device["device"])
    assert device["backend"].startswith("tensorflow 2.")

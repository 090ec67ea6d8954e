"""The start of the backend: quiet, and clear about a backend that is not there."""

import os
import subprocess
import sys

import pytest

from centermask_keras.backend import start_backend


@pytest.mark.parametrize(
    ("backend", "message"), [("tensorflow", ""), ("nothing", "KERAS_BACKEND: expected tensorflow")]
)
def test_the_backend_starts_quietly_or_is_named(backend, message):
    program = "import sys\nfrom centermask_keras.backend import start_backend\n"
    program += "from centermask_keras.errors import CenterMaskError\n"
    program += "try: start_backend()\nexcept CenterMaskError as error: print(error)\n"
    program += "print('error output comes through', file=sys.stderr)"
    environment = {**os.environ, "KERAS_BACKEND": backend}
    environment.pop("TF_CPP_MIN_LOG_LEVEL", None)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.startswith(message) and bool(done.stdout) == bool(message)
    assert done.stderr == "error output comes through\n"


def test_a_backend_that_runs_already_is_left_alone(capfd):
    start_backend()
    print("still heard", file=sys.stderr)
    assert capfd.readouterr().err == "still heard\n"

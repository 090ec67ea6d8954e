"""`centermask predict` where there is no TensorFlow and no Keras."""

import subprocess
import sys

import pytest

from centermask_keras.shipped import find_model

EDGE = """
import sys
for name in ("tensorflow", "keras", "jax", "torch"):
    sys.modules[name] = None
from centermask_keras.cli import main
main(sys.argv[1:])
"""


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("runs/mistyped", "runs/mistyped: expected a run folder or an exported model, received none. Names of"),
        ("mistyped.tflite", "mistyped.tflite: expected a run folder or an exported model, received none. Names of"),
        (
            "nuclei",
            "expected the package keras, received none. pip install keras, or predict with",
        ),
    ],
)
def test_what_cannot_be_run_is_an_error_without_a_traceback(model, message, tmp_path):
    arguments = ["predict", "--model", model, str(find_model("nuclei") / "samples"), "--out", str(tmp_path / "out")]
    done = subprocess.run([sys.executable, "-c", EDGE, *arguments], capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.startswith(f"error: {message}") and "Traceback" not in done.stderr

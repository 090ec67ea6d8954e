"""Starting the backend: nothing that its libraries print, and stderr as it was."""

import os
import subprocess
import sys

import pytest

from centermask_keras import backend
from centermask_keras.errors import CenterMaskError


def test_stderr_is_what_it_was_before():
    before = os.fstat(2)
    backend.start_backend()
    assert os.path.samestat(os.fstat(2), before)


def test_a_missing_package_is_named_and_stderr_comes_back(monkeypatch):
    monkeypatch.setitem(sys.modules, "keras", None)
    before = os.fstat(2)
    with pytest.raises(CenterMaskError, match="expected the package keras, received none"):
        backend.start_backend()
    assert os.path.samestat(os.fstat(2), before)


def test_the_start_prints_nothing():
    code = "from centermask_keras.backend import start_backend; start_backend()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")

"""OpenCV is imported in one place, which turns a missing system library into its cure."""

import sys

import numpy as np
import pytest

from centermask_keras.errors import CenterMaskError


class _Refuse:
    """An import hook under which `import cv2` fails as it does without the named library."""

    def __init__(self, message: str):
        self.message = message

    def find_spec(self, name, path=None, target=None):
        if name == "cv2":
            raise ImportError(self.message)


def _import_with(monkeypatch, message: str) -> None:
    for name in [name for name in sys.modules if name == "cv2" or name.startswith("cv2.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(sys.modules, "centermask_keras._cv2", raising=False)
    monkeypatch.setattr(sys, "meta_path", [_Refuse(message), *sys.meta_path])
    import centermask_keras._cv2  # noqa: F401


@pytest.mark.parametrize("library", ["libGL.so.1", "libgthread-2.0.so.0", "libglib-2.0.so.0"])
def test_missing_system_library_names_the_cure(monkeypatch, library):
    with pytest.raises(CenterMaskError) as caught:
        _import_with(monkeypatch, f"{library}: cannot open shared object file: No such file or directory")
    message = str(caught.value)
    assert library in message
    assert "pip uninstall -y opencv-python" in message
    assert "opencv-python-headless" in message
    assert len(message.splitlines()) == 2


def test_another_import_error_stays_what_it_is(monkeypatch):
    with pytest.raises(ImportError, match="numpy.core.multiarray failed to import"):
        _import_with(monkeypatch, "numpy.core.multiarray failed to import")


def test_opencv_works():
    from centermask_keras._cv2 import cv2

    assert cv2.resize(np.full((4, 4), 7, np.uint8), (2, 2)).tolist() == [[7, 7], [7, 7]]

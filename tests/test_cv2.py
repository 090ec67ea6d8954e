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


@pytest.mark.parametrize(
    "library", ["libGL.so.1", "libxcb.so.1", "libgthread-2.0.so.0", "libglib-2.0.so.0", "libstdc++.so.6", "libSM.so"]
)
def test_missing_system_library_names_the_cure(monkeypatch, library):
    with pytest.raises(CenterMaskError) as caught:
        _import_with(monkeypatch, f"{library}: cannot open shared object file: No such file or directory")
    first, second = str(caught.value).splitlines()
    assert f"this system lacks {library}" in first
    assert second.startswith("pip uninstall -y opencv-python")
    assert "opencv-python-headless" in second


@pytest.mark.parametrize(
    "message", ["numpy.core.multiarray failed to import", "libc.so.6: version `GLIBC_2.38' not found", "No module cv2"]
)
def test_another_import_error_stays_what_it_is(monkeypatch, message):
    with pytest.raises(ImportError, match=message):
        _import_with(monkeypatch, message)


def test_opencv_works():
    from centermask_keras._cv2 import cv2

    assert cv2.resize(np.full((4, 4), 7, np.uint8), (2, 2)).tolist() == [[7, 7], [7, 7]]

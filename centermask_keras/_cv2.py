"""The one place that imports OpenCV.

Stage: every stage that touches pixels. Desktop builds of OpenCV need libraries of the window system (libGL,
libxcb, libglib: it depends on the build), which servers and containers lack; the failure is reported with its cure
instead of a loader message.
"""

import re

from centermask_keras.errors import CenterMaskError

try:
    import cv2
except ImportError as error:
    missing = re.search(r"(lib\S+\.so\S*): cannot open shared object file", str(error))
    if not missing:
        raise
    raise CenterMaskError(
        f"OpenCV cannot start: this system lacks {missing[1]}. Expected the build without windows; replace it with:\n"
        "pip uninstall -y opencv-python opencv-contrib-python && pip install --force-reinstall opencv-python-headless"
    ) from error

__all__ = ["cv2"]

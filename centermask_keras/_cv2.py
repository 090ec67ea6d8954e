"""The one place that imports OpenCV.

Stage: every stage that touches pixels. Desktop builds of OpenCV need libGL, which servers and containers lack;
the failure is reported with its cure instead of a loader message.
"""

from centermask_keras.errors import CenterMaskError

try:
    import cv2
except ImportError as error:
    if not any(library in str(error) for library in ("libGL", "libgthread", "libglib")):
        raise
    raise CenterMaskError(
        f"OpenCV cannot start here: {error}. Expected the build without windows; replace it with:\n"
        "pip uninstall -y opencv-python opencv-contrib-python && pip install --force-reinstall opencv-python-headless"
    ) from error

__all__ = ["cv2"]

"""The start of Keras and of the framework below it.

Nothing is imported here before it is asked for: commands that need neither start at once.
"""

from __future__ import annotations

import os
import sys

from centermask_keras.errors import CenterMaskError


def start_backend(*, find_devices: bool = True) -> None:
    """Import Keras and its backend without the notes that TensorFlow's C++ libraries print at the start.

    They come before any log level is read, so the file descriptor itself is turned away for that moment; exceptions
    come through. Workers that train together find devices later, when they have found each other.

    Raises:
        CenterMaskError: there is no Keras, or no backend for it, or an unknown one.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    sys.stderr.flush()
    before, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        import keras

        if find_devices:
            keras.ops.zeros(())
    except ValueError as error:  # what Keras makes of a backend that it does not know
        raise CenterMaskError(f"KERAS_BACKEND: expected tensorflow, jax or torch, received: {error}") from None
    except ModuleNotFoundError as error:
        raise CenterMaskError(
            f"expected the package {error.name}, received none. pip install it, or predict with an exported .tflite or "
            ".onnx file, which needs neither TensorFlow nor Keras"
        ) from None
    finally:
        os.dup2(before, 2)
        os.close(before)
        os.close(nowhere)

"""Image files as bytes, and the compiled reader of them."""

import io
from functools import partial

import numpy as np
import tensorflow as tf
from PIL import Image

from centermask_keras.export.saved_model import MOST_PIXELS
from centermask_keras.extra.in_graph.image_files import read_image


def encode(image: np.ndarray, file_format: str, **options) -> bytes:
    """Return an image as the bytes of a file."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, file_format, **options)
    return file.getvalue()


read_compiled = tf.function(
    partial(read_image, most_pixels=MOST_PIXELS), input_signature=[tf.TensorSpec([], tf.string)], autograph=False
)

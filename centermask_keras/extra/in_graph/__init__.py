"""Image files inside of a SavedModel: decoding, warping and painting in TensorFlow operations.

The counterparts of `data/` and `masks.py`, which the tests compare them with.
"""

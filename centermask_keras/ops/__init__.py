"""Tensor kernels shared by several stages, in plain `keras.ops`."""

"""Weights by rule: the same numbers from a tensor's PyTorch name and shape, wherever they are computed.

    seed = CRC-32 of the name; draws are `numpy.random.RandomState(seed)`, whose streams are frozen, in C order.
    kernel of a convolution (OIHW)        standard_normal * sqrt(2 / (I H W))
    weight of a normalisation             uniform(0.5, 1.5); the last one of a residual block (bn3) uniform(0.05, 0.2)
    bias, running_mean                    0.1 * standard_normal
    running_var                           uniform(0.5, 1.5)

With these the output of every stage has a standard deviation of the order of 1. Images: RandomState(317),
standard_normal [B, H, W, 3], already normalised.
"""

import zlib

import numpy as np


def make_weight(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Return the float32 tensor of a PyTorch name (`layer1.0.conv1.weight`) and shape."""
    random = np.random.RandomState(zlib.crc32(name.encode()))
    if name.endswith("weight") and len(shape) == 4:
        values = random.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:]))
    elif name.endswith("running_var"):
        values = random.uniform(0.5, 1.5, shape)
    elif name.endswith("weight"):
        values = random.uniform(0.05, 0.2, shape) if "bn3" in name else random.uniform(0.5, 1.5, shape)
    else:
        values = 0.1 * random.standard_normal(shape)
    return values.astype("float32")


def make_images(shape: tuple[int, ...]) -> np.ndarray:
    """Return normalised images float32 [B, H, W, 3]."""
    return np.random.RandomState(317).standard_normal(shape).astype("float32")


def sample_places(size: int, count: int = 1000) -> np.ndarray:
    """Return the sorted flat places (of the NHWC tensor) that stand for it."""
    return np.sort(np.random.RandomState(size % 2**32).choice(size, min(count, size), replace=False))

"""The weights and the image of the comparisons with other implementations: values from names and shapes alone.

Both sides make the same float32 values with NumPy, so that only outputs have to be kept. Every tensor is drawn by
`numpy.random.default_rng` from the first 8 bytes (little endian) of the SHA-256 of its PyTorch name:

| tensor | values |
| --- | --- |
| `weight` of 4 axes | normal, deviation sqrt(`GAIN[network]` / fan-in) |
| `weight` of 4 axes and one input channel (`up_*`, transposed) | normal, deviation 0.5: an output sees 4 taps |
| `conv_offset_mask.weight` | normal, deviation sqrt(0.5 / fan-in): offsets of about a cell |
| `weight` of 1 axis (scale of a normalisation) | uniform in 0.5..1.5 |
| the same of the last normalisation in a residual branch (`LAST_NORM[network]`) | uniform in 0.1..0.3 |
| `running_var` | uniform in 0.5..1.5 |
| `bias`, `running_mean` | normal, deviation 0.1 |
"""

import hashlib
from collections.abc import Mapping

import numpy as np

GAIN = {"dla34": 2.0, "dla34_plain": 1.2, "hourglass104": 0.8, "resnet101": 1.2, "resnext101_32x8d": 1.2}
"""Chosen so that the deviations of all outputs lie between 0.1 and 10."""
LAST_NORM = dict.fromkeys(GAIN, ".bn2.") | dict.fromkeys(("resnet101", "resnext101_32x8d"), ".bn3.")


def generator(name: str) -> np.random.Generator:
    """Return the random numbers that belong to a name."""
    return np.random.default_rng(int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little"))


def make_tensor(network: str, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Make the float32 values of a PyTorch tensor of a network (a key of `GAIN`)."""
    rng = generator(name)
    if name.endswith("running_var"):
        values = rng.uniform(0.5, 1.5, shape)
    elif name.endswith(("bias", "running_mean")):
        values = 0.1 * rng.standard_normal(shape)
    elif len(shape) == 4:
        values = _deviation(network, name, shape) * rng.standard_normal(shape)
    else:
        values = rng.uniform(0.5, 1.5, shape) * (0.2 if LAST_NORM[network] in name else 1.0)
    return values.astype(np.float32)


def _deviation(network: str, name: str, shape: tuple[int, ...]) -> float:
    fan_in = shape[1] * shape[2] * shape[3]
    if ".up_" in name:
        return 0.5
    return float(np.sqrt((0.5 if "conv_offset_mask" in name else GAIN[network]) / fan_in))


def make_image(height: int, width: int) -> np.ndarray:
    """Make an image uint8 [1, height, width, 3], RGB: coloured noise on patches of 8 x 8 and on single pixels."""
    rng = generator(f"image {height} {width}")
    coarse = rng.integers(0, 200, (1, height // 8, width // 8, 3)).repeat(8, axis=1).repeat(8, axis=2)
    return (coarse + rng.integers(0, 56, (1, height, width, 3))).astype(np.uint8)


def sample_cells(name: str, size: int, count: int = 1000) -> np.ndarray:
    """Choose the flat indices (channels last) whose values are kept of an output, int64."""
    return np.sort(generator(f"cells {name}").choice(size, min(count, size), replace=False))


def summarize(name: str, values: np.ndarray) -> np.ndarray:
    """Reduce an output [B, h, w, C] to float64: mean, deviation, largest magnitude, then the sampled values."""
    flat = np.asarray(values, np.float64).reshape(-1)
    return np.concatenate([[flat.mean(), flat.std(), np.abs(flat).max()], flat[sample_cells(name, flat.size)]])


def compare(network: str, outputs: Mapping[str, np.ndarray], reference: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Return the largest difference of every output of a network from its reference, over its largest magnitude."""
    expected = {key.removeprefix(f"{network}/"): row for key, row in reference.items() if key.startswith(f"{network}/")}
    assert outputs.keys() == expected.keys()
    errors = {}
    for name, row in expected.items():
        _, deviation, largest = row[:3]
        assert 0.1 <= deviation <= 10, name
        errors[name] = float(np.abs(summarize(f"{network}/{name}", outputs[name]) - row).max() / largest)
    print(network, {name: f"{error:.1e}" for name, error in errors.items()})
    return errors

"""Steps of one replica, two replicas and another backend agree; every case runs in a process of its own."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import keras
import numpy as np
import pytest

from centermask_keras.config import load_config
from centermask_keras.errors import ConfigError
from centermask_keras.training.distribution import Replicas, start_replicas

CASE = Path(__file__).with_name("replica_case.py")
DEMO = Path(__file__).parents[2] / "configs" / "demo.json"
TOLERANCE = 1e-5  # of the largest gradient, of the weights' norm: sums of float32 in another order
BACKENDS_TOLERANCE = 1e-4  # the same, where convolutions are other implementations
# The same, of a network 40 layers deep: oneDNN chooses its kernels by the size of the batch, and their sums differ.
# Below 1e-5 on AMD processors; 2.8e-5 on an Intel Xeon, the same at every commit so far.
DEEP_TOLERANCE = 5e-5
BFLOAT16 = 2.0**-8
TWO = ["devices=2", "distribution=mirrored"]
LONGEST_SECONDS = 600


def run(folder: Path, *options: str, backend: str = "tensorflow") -> dict[str, np.ndarray]:
    """Run a case and return the arrays that it wrote."""
    out = folder / f"{abs(hash((options, backend)))}.npz"
    environment = os.environ | {"KERAS_BACKEND": backend, "PYTHONPATH": str(CASE.parents[2])}
    done = subprocess.run(
        [sys.executable, str(CASE), str(out), *options],
        env=environment,
        capture_output=True,
        text=True,
        timeout=LONGEST_SECONDS,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    with np.load(out) as arrays:
        return dict(arrays) | {"path": out}


def run_both(folder: Path, one: list[str], other: list[str], *, backend: str = "tensorflow") -> list[dict]:
    """Run two cases at a time."""
    with ThreadPoolExecutor() as pool:
        return list(pool.map(lambda options: run(folder, *options, backend=backend), (one, other)))


def weights_at(arrays: dict, step: int, kind: str = "trained") -> list[np.ndarray]:
    return [array.astype(np.float64) for name, array in arrays.items() if name.startswith(f"step{step}/{kind}/")]


def gradients(arrays: dict) -> list[np.ndarray]:
    """Return what SGD took off in the first step: the gradients times the rate."""
    before, after = weights_at(arrays, 0), weights_at(arrays, 1)
    return [new - old for old, new in zip(before, after, strict=True)]


def largest(arrays: list[np.ndarray]) -> float:
    return max(np.abs(array).max() for array in arrays)


def norm(arrays: list[np.ndarray]) -> float:
    return float(np.sqrt(sum((array**2).sum() for array in arrays)))


def gradient_difference(one: dict, other: dict) -> float:
    """Return the largest difference of a gradient as a share of the largest gradient."""
    pairs = zip(gradients(one), gradients(other), strict=True)
    return largest([a - b for a, b in pairs]) / largest(gradients(one))


def weight_difference(one: dict, other: dict, step: int = 5, kind: str = "trained") -> float:
    """Return the norm of the difference of all weights as a share of their norm."""
    expected, found = weights_at(one, step, kind), weights_at(other, step, kind)
    return norm([a - b for a, b in zip(expected, found, strict=True)]) / norm(expected)


def assert_same_losses(one: dict, other: dict, tolerance: float) -> None:
    names = [name for name in one if name.startswith("log/")]
    assert len(names) == 6
    for name in names:
        np.testing.assert_allclose(other[name], one[name], rtol=tolerance, err_msg=name)


@pytest.fixture(scope="module")
def one(tmp_path_factory) -> dict:
    """Five steps of one replica. The images have 3, 1, 0 and 0 objects."""
    arrays = run(tmp_path_factory.mktemp("one"))
    assert norm([b - a for a, b in zip(weights_at(arrays, 0), weights_at(arrays, 5), strict=True)]) > 100 * (
        TOLERANCE * norm(weights_at(arrays, 0))
    ), "the weights hardly move: nothing would be tested"
    return arrays


@pytest.mark.slow
def test_two_replicas_of_which_one_has_no_object_give_what_one_gives(one, tmp_path):
    two = run(tmp_path, *TWO)
    assert two["replicas"] == 2
    assert_same_losses(one, two, TOLERANCE)
    assert gradient_difference(one, two) < TOLERANCE
    for kind in ("trained", "statistics"):
        assert weight_difference(one, two, kind=kind) < TOLERANCE


@pytest.mark.slow
def test_gradients_are_clipped_after_they_are_added_up(one, tmp_path):
    options = ["clip=1.0", "learning_rate=0.1", "l2=0"]  # what decays is added after the clipping
    clipped = run_both(tmp_path, options, [*options, *TWO])
    assert norm(gradients(one)) > 0.02, "at a rate of 0.01: nothing would be clipped"
    assert norm(gradients(clipped[0])) == pytest.approx(0.1, rel=1e-4)
    assert gradient_difference(*clipped) < TOLERANCE
    assert weight_difference(*clipped) < TOLERANCE


@pytest.mark.slow
def test_plain_normalisation_differs_by_the_statistics_of_the_parts(one, tmp_path):
    """Not equal by construction; the replicas must still agree with each other on the moving statistics."""
    plain = run(tmp_path, *TWO, "synchronized=false")
    assert TOLERANCE < gradient_difference(one, plain) < 0.5
    assert TOLERANCE < weight_difference(one, plain) < 0.02
    means, expected = weights_at(plain, 1, "statistics"), weights_at(one, 1, "statistics")
    for mean, whole in list(zip(means, expected, strict=True))[::2][:1]:  # of the first layer: the same inputs
        np.testing.assert_allclose(mean, whole, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_bfloat16_replicas_agree_as_far_as_its_digits_go(tmp_path):
    policy = "policy=mixed_bfloat16"
    one, two = run_both(tmp_path, [policy], [policy, *TWO])
    assert_same_losses(one, two, 4 * BFLOAT16)
    assert gradient_difference(one, two) < 4 * BFLOAT16
    assert weight_difference(one, two) < BFLOAT16


@pytest.mark.slow
def test_accumulation_is_the_larger_batch_where_counts_are_equal_and_statistics_frozen(tmp_path):
    """Elsewhere it is not: every part is normalised by its own objects and statistics."""
    frozen = ["frozen=true", "steps=1"]
    equal = [*frozen, "objects=2,1,1,2"]
    assert gradient_difference(*run_both(tmp_path, equal, [*equal, "accumulation=2"])) < TOLERANCE
    assert gradient_difference(*run_both(tmp_path, frozen, [*frozen, "accumulation=2"])) > 0.01


@pytest.mark.slow
def test_jax_compiled_takes_the_steps_of_tensorflow(one, tmp_path):
    pytest.importorskip("jax")
    jax = run(tmp_path, f"weights={one['path']}", "jit_compile=true", backend="jax")
    assert_same_losses(one, jax, BACKENDS_TOLERANCE)
    assert gradient_difference(one, jax) < BACKENDS_TOLERANCE
    assert weight_difference(one, jax) < TOLERANCE


@pytest.mark.slow
def test_jax_on_two_devices_takes_the_steps_of_one(one, tmp_path):
    pytest.importorskip("jax")
    options = [f"weights={one['path']}", *TWO, "jit_compile=true"]
    two = run(tmp_path, *options, backend="jax")
    assert two["replicas"] == 2
    assert gradient_difference(one, two) < BACKENDS_TOLERANCE
    assert weight_difference(one, two) < TOLERANCE


# At a rate of 1 the new weights hold the digits of the gradients. In the batch of step 0 a value lies so near to the
# kink of a ReLU that rounding decides on which side, and with it over percents of the gradients.
BUILT = ["steps=1", "learning_rate=1", "first=100"]


@pytest.fixture(scope="module", params=["built", "fcos"])
def built(request, tmp_path_factory) -> dict:
    """A step of DLA with all heads, or of FCOS, of one replica and not compiled."""
    options = [*BUILT, f"model={request.param}"]
    return run(tmp_path_factory.mktemp("built"), *options) | {"options": options}


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_the_detector_of_a_configuration_compiles_and_agrees(built, backend, tmp_path):
    """Both detectors with all heads: XLA on TensorFlow, JAX, and two replicas."""
    pytest.importorskip(backend)
    options = [*built["options"], f"weights={built['path']}"]
    compiled, two = run_both(tmp_path, [*options, "jit_compile=true"], [*options, *TWO], backend=backend)
    assert_same_losses(built, compiled, BACKENDS_TOLERANCE)
    assert gradient_difference(built, compiled) < BACKENDS_TOLERANCE
    assert gradient_difference(built, two) < (DEEP_TOLERANCE if backend == "tensorflow" else BACKENDS_TOLERANCE)


def test_one_device_is_one_replica_and_batches_are_shared_evenly():
    config = load_config(DEMO, ['distribution="mirrored"', "train.batch_size=3"])
    with start_replicas(config, "mine.json") as replicas:
        assert replicas.count == 1 and replicas.scope() is not None


def test_a_batch_that_does_not_divide_is_an_error_that_names_the_replicas(monkeypatch):
    from centermask_keras.training import distribution

    config = load_config(DEMO, ['distribution="mirrored"', "train.batch_size=3"])
    with pytest.raises(ConfigError, match=r"mine.json: train.batch_size: expected a multiple of 2 .*, received 3"):
        distribution._checked(distribution.Replicas(2), config, "mine.json")


class SecondOfTwo(Replicas):
    """A worker whose chief holds other values."""

    def __init__(self, of_chief: list):
        super().__init__(2, None, 1, 2)
        object.__setattr__(self, "rows", of_chief)

    def _gather(self, values):
        return np.stack([np.array(self.rows, values.dtype), values])


@pytest.mark.parametrize(("chief", "worker"), [(False, False), (False, True), (True, False), (True, True)])
def test_what_one_worker_wants_all_know(chief, worker):
    assert SecondOfTwo([chief]).any_worker(worker) is (chief or worker)
    assert Replicas().any_worker(worker) is worker


@pytest.mark.parametrize("value", [0.1 + 0.2, -1.0, 1e-300, float("inf")])
def test_the_value_of_the_chief_arrives_exactly(value):
    assert SecondOfTwo(np.array([value]).view(np.int64)).of_chief(0.25) == value
    assert Replicas().of_chief(value) == value


@pytest.mark.parametrize("backend", ["torch", "numpy", "openvino"])
def test_other_backends_do_not_train(backend, monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: backend)
    with (
        pytest.raises(
            ConfigError, match=f"mine.json: KERAS_BACKEND: expected tensorflow or jax .*, received {backend}"
        ),
        start_replicas(load_config(DEMO), "mine.json"),
    ):
        pass

"""States: what is written comes back, damage is seen, the good one before is used and kept."""

import errno
from pathlib import Path

import keras
import numpy as np
import pytest

from centermask_keras.config import load_config
from centermask_keras.errors import CenterMaskError
from centermask_keras.files import digest_of
from centermask_keras.training import state
from centermask_keras.training.optimizer import build_optimizer
from centermask_keras.training.state import RunProgress, StateFiles

DEMO = Path(__file__).parents[2] / "configs" / "demo.json"


def named(name: str, value, dtype: str | None = None) -> keras.Variable:
    return keras.Variable(value, dtype=dtype, name=name)


def variables_of(*values: float) -> dict[str, list[keras.Variable]]:
    return {"model": [named(str(index), np.full(3, value, "float32")) for index, value in enumerate(values)]}


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_state_comes_back_exactly(tmp_path):
    written = [named("a", np.random.rand(2, 3).astype("float32")), named("b", 7, "int64")]
    progress = RunProgress(3, 12, best_mask_ap=0.1 + 0.2, best_epoch=2, validations_since_best=1, seconds=1 / 3)
    counter = [named("c", 2**40, "int64")]
    StateFiles(tmp_path).save(progress, {"model": written, "optimizer": counter})
    read = [named("a", np.zeros((2, 3), "float32")), named("b", 0, "int64")]
    again = [named("c", 0, "int64")]
    assert StateFiles(tmp_path).load({"model": read, "optimizer": again}) == progress
    np.testing.assert_array_equal(read[0], written[0])
    assert int(read[1]) == 7 and int(again[0]) == 2**40


def test_no_state_is_a_fresh_start(tmp_path):
    (tmp_path / "state_mine.npz").write_bytes(b"none of ours")
    assert StateFiles(tmp_path).load({"model": []}) == RunProgress()


def test_the_newest_two_are_kept_in_the_order_of_their_numbers(tmp_path):
    states = StateFiles(tmp_path)
    (tmp_path / "state_999999_0123456789abcdef.npz").write_bytes(b"damaged")
    for step in range(4):
        states.save(RunProgress(step=step), variables_of(step))
    numbers = sorted(path.name.split("_")[1] for path in tmp_path.iterdir())
    assert numbers == ["1000002", "1000003"]
    assert StateFiles(tmp_path).load(variables_of(0)).step == 3


@pytest.mark.parametrize(
    "damage", [flip_a_bit, lambda path: path.write_bytes(b""), lambda path: path.write_bytes(b"PK")]
)
def test_a_damaged_state_is_seen_and_the_one_before_is_used_and_kept(tmp_path, damage):
    states = StateFiles(tmp_path)
    states.save(RunProgress(step=1), variables_of(1))
    states.save(RunProgress(step=2), variables_of(2))
    first, second = sorted(tmp_path.iterdir())
    damage(second)
    again, read = StateFiles(tmp_path), variables_of(0)
    assert again.load(read).step == 1 and again.damaged == [second]
    np.testing.assert_array_equal(read["model"][0], [1, 1, 1])
    again.save(RunProgress(step=3), variables_of(3))
    assert first.exists() and not second.exists() and len(list(tmp_path.iterdir())) == 2
    assert StateFiles(tmp_path).load(variables_of(0)).step == 3


def test_only_damaged_states_are_an_error(tmp_path):
    StateFiles(tmp_path).save(RunProgress(), variables_of(1))
    flip_a_bit(next(tmp_path.iterdir()))
    with pytest.raises(CenterMaskError, match=r"state_000001_\w+\.npz: expected a file of the digest.*--overwrite"):
        StateFiles(tmp_path).load(variables_of(0))


def test_a_file_of_another_kind_is_an_error(tmp_path):
    (tmp_path / "other").write_bytes(b"no zip at all")
    digest = state.digest_of(tmp_path / "other")
    (tmp_path / "other").rename(tmp_path / f"state_000001_{digest}.npz")
    with pytest.raises(CenterMaskError, match=r"expected the state of a run, received.*--overwrite"):
        StateFiles(tmp_path).load({"model": []})


def test_state_of_another_model_is_refused(tmp_path):
    StateFiles(tmp_path).save(RunProgress(), {"model": [keras.Variable(np.zeros(3, "float32"))]})
    with pytest.raises(CenterMaskError, match="expected the 1 variables of this configuration's model"):
        StateFiles(tmp_path).load({"model": [keras.Variable(np.zeros(4, "float32"))]})


def test_a_state_in_another_order_is_refused(tmp_path):
    """Two kernels of one shape: without their paths one would silently get the values of the other."""
    ones, twos = named("first", [1.0]), named("second", [2.0])
    StateFiles(tmp_path).save(RunProgress(), {"model": [ones, twos]})
    with pytest.raises(CenterMaskError, match=r"\.npz: model/0: expected the variable second, received first.*--overw"):
        StateFiles(tmp_path).load({"model": [twos, ones]})
    assert float(ones[0]) == 1 and float(twos[0]) == 2


def test_a_state_without_paths_is_read_by_its_order(tmp_path):
    """Those of the first version."""
    StateFiles(tmp_path).save(RunProgress(step=5), {"model": [named("old", [1.0])]})
    (path,) = tmp_path.iterdir()
    with np.load(path) as stored:
        entries = {key: stored[key] for key in stored.files if key != "paths"}
    path.unlink()
    np.savez(tmp_path / "written.npz", **entries)
    written = tmp_path / "written.npz"
    written.rename(tmp_path / f"state_000001_{digest_of(written)}.npz")
    new = named("new", [0.0])
    assert StateFiles(tmp_path).load({"model": [new]}).step == 5 and float(new[0]) == 1


def test_paths_are_those_of_every_process(tmp_path):
    """Keras counts the random generators and the optimizers of a program."""
    settings = load_config(DEMO).train

    def build():
        inputs = keras.Input((3,))
        layer = keras.layers.Dropout(0.5, seed=1, name="dropout")
        model = keras.Model(inputs, layer(keras.layers.Dense(2, name="dense")(inputs)))
        optimizer = build_optimizer(settings, 0.1)
        optimizer.build(model.trainable_variables)
        return {"model": model.variables, "optimizer": optimizer.variables}

    StateFiles(tmp_path).save(RunProgress(step=1), build())
    assert StateFiles(tmp_path).load(build()).step == 1


def test_a_write_that_dies_halfway_is_never_the_newest(tmp_path, monkeypatch):
    StateFiles(tmp_path).save(RunProgress(step=1), variables_of(1))

    def die(path, **entries):
        path.write_bytes(b"half a file")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(state.np, "savez", die)
        with pytest.raises(KeyboardInterrupt):
            StateFiles(tmp_path).save(RunProgress(step=2), variables_of(2))
    again = StateFiles(tmp_path)
    assert again.load(variables_of(0)).step == 1 and not again.damaged
    again.save(RunProgress(step=2), variables_of(2))  # in the place of what was left behind
    assert not list(tmp_path.glob("partial.*"))


def test_a_state_that_the_disk_cannot_read_is_passed_over(tmp_path, monkeypatch):
    states = StateFiles(tmp_path)
    variables = variables_of(1)
    states.save(RunProgress(step=1), variables)
    states.save(RunProgress(step=2), variables)
    newest = max(tmp_path.glob("state_*.npz"))

    def digest(path):
        if path == newest:
            raise OSError(errno.EIO, "Input/output error")
        return digest_of(path)

    monkeypatch.setattr(state, "digest_of", digest)
    again = StateFiles(tmp_path)
    assert again.load(variables).step == 1 and again.damaged == [newest]

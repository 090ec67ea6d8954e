"""The precision of layers is set for a moment only."""

import keras
import pytest

from centermask_keras.ops.dtype_policy import global_policy


def test_the_policy_before_comes_back_also_after_an_error():
    before = keras.config.dtype_policy()
    with pytest.raises(RuntimeError), global_policy("mixed_bfloat16"):
        assert keras.config.dtype_policy().compute_dtype == "bfloat16"
        raise RuntimeError
    assert keras.config.dtype_policy() == before

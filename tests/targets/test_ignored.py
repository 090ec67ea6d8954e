"""Class lists become flags of channels."""

import numpy as np
from keras import ops

from centermask_keras.targets.ignored import find_unknown_classes


def test_classes_that_are_not_listed_are_unknown():
    batch = {
        "known_classes": np.array([[2, 0, 0], [1, 3, 3], [0, 0, 0]], np.int32),  # padding holds 0
        "known_valid": np.array([[True, False, False], [True, True, True], [False, False, False]]),
    }
    received = ops.convert_to_numpy(find_unknown_classes(batch, 4))
    np.testing.assert_array_equal(received, [[1, 1, 0, 1], [1, 0, 1, 0], [1, 1, 1, 1]])
    assert received.dtype == np.bool_

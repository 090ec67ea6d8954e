"""What tests of the data take of a dataset, and how they hold batches to each other."""

import numpy as np

from centermask_keras.data.feeding.pipeline import make_train_dataset


def take_batches(config, annotations, count, **options):
    """Take the first batches of a training as arrays; the dataset is gone afterwards."""
    return list(make_train_dataset(config, annotations, **options).take(count).as_numpy_iterator())


def assert_same_batch(found, expected):
    assert found.keys() == expected.keys()
    for key in expected:
        assert found[key].dtype == expected[key].dtype, key
        np.testing.assert_array_equal(found[key], expected[key], err_msg=key)


def assert_same_batches(found, expected):
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert_same_batch(one, other)

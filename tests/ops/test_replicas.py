"""On one device nothing is added up; tests/training/test_distribution.py has two."""

import numpy as np
import tensorflow as tf

from centermask_keras.ops.replicas import count_over_replicas, num_replicas, sum_over_replicas


def test_on_one_device_sums_are_the_values():
    values = [tf.constant([1.0, 2.0]), tf.constant(3.0)]
    assert num_replicas() == 1
    assert sum_over_replicas(values) is values


def test_objects_are_counted_and_none_counts_as_one():
    assert float(count_over_replicas(np.array([[True, False], [True, True]]))) == 3.0
    assert float(count_over_replicas(np.zeros((2, 3), bool))) == 1.0


def test_between_replicas_there_is_one():
    with tf.distribute.MirroredStrategy(["CPU:0"]).scope():
        assert num_replicas() == 1

"""Cores are those that the process may use, not those of the machine."""

import os

import pytest

from centermask_keras.cores import count_cores


def test_all_cores_or_those_of_the_affinity():
    assert 1 <= count_cores() <= os.cpu_count()
    if not hasattr(os, "sched_setaffinity"):
        pytest.skip("the system has no affinity")
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert count_cores() == 1
    finally:
        os.sched_setaffinity(0, before)


def test_a_system_without_affinity_has_its_cores(monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 7)
    assert count_cores() == 7
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert count_cores() == 1

"""Processor cores that this process may use."""

import os


def count_cores() -> int:
    """Count the cores that the system gives to this process: those of its affinity where there is one."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1

"""The machine that figures depend on: accelerators, cores, versions."""

from __future__ import annotations

import platform
import shutil
import subprocess
from importlib import import_module
from typing import Any

import keras

from centermask_keras.cores import count_cores


def describe_device() -> dict[str, Any]:
    """Name what the figures depend on: accelerators, cores in use, versions."""
    backend = keras.backend.backend()
    devices = keras.distribution.list_devices() if backend in ("tensorflow", "jax") else []  # no other has them
    gpus = [device for device in devices if device.partition(":")[0].lower() in ("gpu", "cuda", "tpu")]
    return {
        "device": ", ".join([*gpus, *_gpu_models(), f"{count_cores()} CPU cores ({platform.machine()})"]),
        "backend": f"{backend} {import_module(backend).__version__}",
        "keras": keras.__version__,
        "python": platform.python_version(),
    }


def _gpu_models() -> list[str]:
    """Ask the driver for the names of the NVIDIA GPUs; backends only number them."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    query = [program, "--query-gpu=name", "--format=csv,noheader"]
    return subprocess.run(query, capture_output=True, text=True, check=False).stdout.split("\n")[:-1]

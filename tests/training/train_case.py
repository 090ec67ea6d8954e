"""Train the small detector of `replica_case.py` as the command would, in a process with a number of logical devices.

`python train_case.py RUN DEVICES KEY=VALUE...`. The backend comes from `KERAS_BACKEND`, the workers from `TF_CONFIG`;
the clock that saves by minutes go by is `CLOCK_RATE` times as fast as it should be; `START_SECONDS`, `LOST_SECONDS`
and `HEARTBEAT_SECONDS` are those of `extra/workers/connect.py`. A `CenterMaskError` goes to standard error and ends the
process as in the command.
"""

import os
import sys
import time
from pathlib import Path
from types import SimpleNamespace

DEMO = Path(__file__).parents[2] / "configs" / "demo.json"

if __name__ == "__main__":
    run, devices, *overrides = sys.argv[1:]
    os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={devices}"
    import tensorflow as tf

    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * int(devices))
    from replica_case import build_tiny

    from centermask_keras.config import load_config
    from centermask_keras.errors import CenterMaskError, InterruptedTraining
    from centermask_keras.extra.workers import connect
    from centermask_keras.training import checkpoints, fit
    from centermask_keras.training.train import train

    fit.build_detector = build_tiny
    rate = float(os.environ.get("CLOCK_RATE", 1))
    for name in ("START_SECONDS", "LOST_SECONDS", "HEARTBEAT_SECONDS"):
        setattr(connect, name, int(os.environ.get(name, getattr(connect, name))))
    checkpoints.time = SimpleNamespace(perf_counter=lambda: rate * time.perf_counter())
    try:
        train(load_config(DEMO, overrides), name="case", run_dir=run)
    except CenterMaskError as error:
        print(error, file=sys.stderr)
        raise SystemExit(143 if isinstance(error, InterruptedTraining) else 2) from None

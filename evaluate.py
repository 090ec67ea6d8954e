"""Evaluate a model: `python evaluate.py --run runs/mine` is `centermask evaluate --run runs/mine`."""

import sys

from centermask_keras.cli import main

if __name__ == "__main__":
    main(["evaluate", *sys.argv[1:]])

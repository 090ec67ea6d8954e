"""Train a model: `python train.py --config configs/dla34.json` is `centermask train --config configs/dla34.json`."""

import sys

from centermask_keras.cli import main

if __name__ == "__main__":
    main(["train", *sys.argv[1:]])

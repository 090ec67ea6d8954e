"""`python -m centermask_keras.cli` is `centermask`."""

from centermask_keras.cli import main

main()

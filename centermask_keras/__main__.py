"""`python -m centermask_keras` is `centermask`."""

from centermask_keras.cli import main

main()

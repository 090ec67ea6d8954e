"""Training: the fit loop, its schedule, averaged weights, callbacks and the run folder.

Entry point: `centermask_keras.train`, which is `train.train`.
"""

"""Training: the fit loop, its schedule, averaged weights, callbacks and the run folder.

Entry point: `centermask_keras.training.fit.train`.
"""

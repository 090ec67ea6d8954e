"""Runtimes: the ways to run the one inference graph, each a `Predictor`.

Stage: after the detectors. Each module imports its own runtime and no other: `tflite` and `onnx` work where neither
TensorFlow nor Keras can be imported, `saved_model` where Keras cannot.
"""

"""Runtimes: the ways to run the one inference graph, each a `Predictor`.

Stage: after the detectors. Each module imports its own runtime and no other: `tflite` and `onnx` work where neither
TensorFlow nor Keras can be imported, `saved_model` where Keras cannot.
"""

FILE_RUNTIMES = {".tflite": "TFLitePredictor", ".onnx": "ONNXPredictor"}
"""Suffix of an exported file -> the class that runs it, in the module of the suffix's name."""

"""Export: SavedModel, TFLite and ONNX of the one inference graph.

Stage: after everything that runs a model; see `runtimes/` for the other end.
"""

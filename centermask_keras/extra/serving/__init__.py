"""TensorFlow Serving: the files that the model server reads, and a client for it."""

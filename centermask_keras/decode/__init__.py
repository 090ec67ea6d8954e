"""Decoding: dense outputs to detections of fixed size. The inverse of targets."""

"""From annotation files and images to batches of ground truth: `files` are read, `samples` made, batches `feeding`.

Stage: data.
"""

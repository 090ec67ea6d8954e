"""Data: annotation files and images on disk -> ground-truth batches.

Stage: data. annotations (COCO json), images (decoding), transform, preprocess, augment, rasterize, pipeline, check,
shapes (the generated demo set).
"""

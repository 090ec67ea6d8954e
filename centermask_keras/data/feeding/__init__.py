"""Rows of ground truth become batches, in the order that the seed decides. Stage: data."""

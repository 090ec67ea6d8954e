"""An image and its annotations become one row of ground truth. Stage: data."""

"""Heads: dense maps for heatmap and saliency, point heads for what is read at object centres only."""

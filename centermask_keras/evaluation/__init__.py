"""Scoring: the COCO measure of a detector or of a file of results, the representation ceiling, and their reports."""

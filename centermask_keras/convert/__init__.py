"""Annotations as other tools write them -> COCO json. A file per format; `formats` has the table of them."""

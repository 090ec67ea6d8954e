"""From a path to objects in original pixels, whatever runs the inference graph."""

"""CenterMask (Wang et al., CVPR 2020, arXiv 2004.04446): single-shot instance segmentation in Keras 3.

    import centermask_keras as cm

    model = cm.load("runs/mine")
    result = model.predict("photo.jpg")[0]

Importing the package imports neither TensorFlow nor Keras; they come in with the first use of `load`, `build`
or `train`.
"""

import importlib

__version__ = "0.1.0"

_HOMES = {  # public name -> module that defines it
    "load": "inference.load",
    "build": "inference.load",
    "load_config": "config",
    "train": "training.train",
}

__all__ = ["__version__", "build", "load", "load_config", "train"]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)

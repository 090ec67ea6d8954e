"""What the tests of all formats share: photos of one colour, and a conversion into a fresh folder."""

import json

import numpy as np
import pytest
from PIL import Image

from centermask_keras.convert.convert import convert


@pytest.fixture
def photo():
    """Write an image of a size; its folder is made."""

    def write(path, height=48, width=64):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((height, width, 3), 90, np.uint8)).save(path)
        return path

    return write


@pytest.fixture
def converted(tmp_path):
    """Convert sources; return the result and the documents by the name of their file."""

    def run(*sources, **options):
        out = tmp_path / "converted"
        result = convert(sources, out, **options)
        return result, {name: json.loads((out / name).read_text()) for name in result.files}

    return run

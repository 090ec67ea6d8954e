"""The keys of a batch, with dtype and axes, as the stages between them read them."""

from pathlib import Path

import numpy as np

from centermask_keras.config import load_config
from centermask_keras.data.feeding.rows import OBJECTS, make_train_row
from centermask_keras.data.files.annotations import load_annotations
from centermask_keras.data.samples.sample import SampleCounters
from centermask_keras.structures import GroundTruth, ground_truth_forms


def test_forms_are_those_of_the_keys():
    forms = ground_truth_forms()
    assert set(forms) == set(GroundTruth.__annotations__)
    assert forms["masks"] == ("uint8", ("B", "N", "M", "M"))
    assert forms["known_classes"] == ("int32", ("B", "L"))
    assert forms["position"] == ("int64", ("B",))
    assert OBJECTS == ("boxes", "classes", "valid", "masks")


def test_a_sample_has_the_keys_types_and_axes_of_the_ground_truth(coco_tiny):
    annotations = load_annotations(coco_tiny / "annotations" / "instances.json", coco_tiny / "images")
    config = load_config(Path(__file__).parents[1] / "configs" / "dla34.json", ["data.input_hw=[64, 96]"])
    row = make_train_row(config, annotations, 0, SampleCounters())
    forms = {name: form for name, form in ground_truth_forms().items() if "L" not in form[1]}
    assert row.keys() == forms.keys()
    sizes = {"H": 64, "W": 96, "h": 16, "w": 24, "N": 128, "M": 64, "2": 2, "3": 3, "4": 4}
    for name, (dtype, (_, *axes)) in forms.items():
        value = np.asarray(row[name])
        assert (value.dtype, value.ndim) == (np.dtype(dtype), len(axes)), name
        for side, axis in zip(value.shape, axes, strict=True):
            assert side == sizes.setdefault(axis, side), name

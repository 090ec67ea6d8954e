"""The proof of an export finds what is wrong, each fault by its name."""

import numpy as np
import pytest

from centermask_keras.config import load_config
from centermask_keras.errors import CenterMaskError
from centermask_keras.export.parity import TOLERANCES, compare, find_rows, finds_objects, match
from centermask_keras.inference.predictor import Predictor

CANVASES = [np.zeros((128, 128, 3), np.uint8)] * 2
BOXES = np.float32([[8, 8, 40, 40], [50, 10, 90, 70], [20, 80, 60, 120], [90, 90, 110, 120]])


class Given(Predictor):
    """Find the same four objects in every image; `change` alters a copy of them."""

    def __init__(self, change=lambda found: None):
        super().__init__(load_config("demo"), [])
        self._change = change

    def detect(self, images):
        masks = np.zeros((1, 5, 16, 16), np.float32)
        masks[..., 4:12, 4:12] = 1.0
        found = {
            "boxes": np.concatenate([BOXES, [[0, 0, 1, 1]]]).astype(np.float32)[None],
            "scores": np.float32([[0.9, 0.8, 0.7, 0.6, 0.5]]),
            "classes": np.int32([[0, 1, 2, 0, 0]]),
            "valid": np.array([[True, True, True, True, False]]),
            "masks": masks,
        }
        self._change(found)
        return found


def put(name, where, value):
    def change(found):
        found[name][where] = value

    return change


def add(name, value):
    def change(found):
        found[name] = found[name] + np.asarray(value, found[name].dtype)

    return change


def shift_masks(found):
    found["masks"] = np.roll(found["masks"], 1, axis=3)


def surplus(found):
    found["valid"][0, 4], found["boxes"][0, 4] = True, [100, 20, 120, 40]


def lose_all(found):
    found["valid"][:] = False


@pytest.mark.parametrize(
    ("change", "faults"),
    [
        (lambda found: None, []),
        (add("boxes", 0.04), []),
        (add("scores", -5e-5), []),
        (add("boxes", 0.1), ["boxes: expected within 0.05 px, received 0.1"]),
        (put("boxes", (0, 2, 3), 120.1), ["boxes: expected within 0.05 px, received 0.1"]),
        (add("scores", 1e-3), ["scores: expected within 0.0001, received 0.001"]),
        (put("classes", (0, 1), 4), ["classes: expected at most 0.0 others, received 2"]),
        (put("valid", (0, 1), False), ["objects without a counterpart: expected at most 0.0, received 2"]),
        (surplus, ["objects without a counterpart: expected at most 0.0, received 2"]),
        (shift_masks, ["mask IoU: expected at least 0.999, received 0.7778"]),
        (lose_all, ["expected the 8 objects that Keras finds, received none of them"]),
        (put("boxes", (0, 0), np.inf), ["received 2 objects with others", "objects without a counterpart"]),
        (put("boxes", (0, 0), np.nan), ["received 2 objects with others", "objects without a counterpart"]),
        (put("scores", (0, 0), np.nan), ["received 2 objects with others", "scores: expected within 0.0001"]),
        (put("masks", (0, 0), np.nan), ["received 2 objects with others", "mask IoU: expected at least 0.999"]),
    ],
)
def test_every_fault_is_found_and_no_other(change, faults):
    found = compare(find_rows(Given(), CANVASES), Given(change), CANVASES).faults(TOLERANCES["fp32"])
    assert len(found) == len(faults)
    assert all(fault in text for fault, text in zip(faults, found, strict=True)), found


def test_nothing_to_compare_is_the_fault_of_the_images():
    with pytest.raises(CenterMaskError, match="Pass --images"):
        compare(find_rows(Given(lose_all), CANVASES), Given(), CANVASES)


def test_of_a_model_that_finds_nothing_all_rows_but_the_last_are_compared():
    def faint(found):
        found["scores"] *= 0.1

    def without_the_last(found):
        faint(found)
        found["valid"][0, 3] = False

    reference = find_rows(Given(faint), CANVASES)
    assert not finds_objects(reference) and finds_objects(find_rows(Given(), CANVASES))
    same = compare(reference, Given(without_the_last), CANVASES)
    assert same.objects == 6 and not same.faults(TOLERANCES["fp32"])
    moved = compare(reference, Given(lambda found: (faint(found), add("boxes", 0.1)(found))), CANVASES)
    assert moved.faults(TOLERANCES["fp32"]) == ["boxes: expected within 0.05 px, received 0.1"]


def test_lower_precisions_are_judged_by_their_means():
    one_of_four = compare(find_rows(Given(), CANVASES), Given(put("boxes", (0, 0, 0), 8.2)), CANVASES)
    np.testing.assert_allclose(one_of_four.figures(worst=True)[0], 0.2, rtol=1e-4)
    np.testing.assert_allclose(one_of_four.figures(worst=False)[0], 0.05, rtol=1e-4)
    assert one_of_four.faults(TOLERANCES["fp32"]) and not one_of_four.faults(TOLERANCES["fp16"])


def test_no_object_is_the_counterpart_of_two():
    found = {"boxes": BOXES[[0, 0]], "scores": np.float32([0.9, 0.8]), "classes": np.int32([1, 0])}
    one = {name: value[1:] for name, value in found.items()}
    assert match(found, found, 0.3) == ([(0, 0), (1, 1)], 0)
    assert match(found, one, 0.3) == ([(0, 0)], 1)

"""A reply is used only if its outputs are those of an exported model, for as many images as were sent."""

import numpy as np
import pytest

from centermask_keras.errors import ServingError
from centermask_keras.extra.serving.replies import OUTPUTS, check_reply

B, K, M = 2, 3, 4


def reply(**changes):
    outputs = {
        "boxes": np.zeros((B, K, 4), "float32"),
        "scores": np.zeros((B, K)),
        "classes": np.zeros((B, K), "int64"),
        "valid": np.zeros((B, K), bool),
        "masks": np.zeros((B, K, M, M), "uint8"),
        "image_hw": np.zeros((B, 2), "int32"),
        "error": np.array(["", "no image"], object),
    }
    return {**outputs, "more": np.zeros(1), **changes}


def test_the_outputs_of_a_right_reply_come_through():
    assert set(check_reply(reply(), B, "url")) == set(OUTPUTS)


def test_a_model_of_no_detections_is_no_fault():
    empty = {name: np.zeros((B, 0)) for name in ("scores", "classes", "valid")}  # JSON knows no type for them
    check_reply(reply(**empty, boxes=np.zeros((B, 0, 4)), masks=np.zeros((B, 0, M, M))), B, "url")


@pytest.mark.parametrize(
    ("changes", "count", "message"),
    [
        ({}, 3, r"url: expected boxes of floating \[3, 'K', 4\], received float32 \[2, 3, 4\]"),
        ({"scores": np.zeros((B, 2))}, B, r"scores of floating \[2, 3\], received float64 \[2, 2\]"),
        ({"valid": np.zeros((B, K))}, B, "valid of bool"),
        ({"masks": np.zeros((B, K, M, M))}, B, "masks of integer"),
        ({"masks": np.zeros((B, K, M, 1), "uint8")}, B, "square masks"),
        ({"error": np.zeros(B)}, B, "error of object"),
        ({"boxes": np.float32(1)}, B, "boxes of floating"),
    ],
)
def test_what_does_not_fit_is_named(changes, count, message):
    with pytest.raises(ServingError, match=message):
        check_reply(reply(**changes), count, "url")


def test_a_missing_output_is_named():
    with pytest.raises(ServingError, match="expected an output boxes, received only scores"):
        check_reply({"scores": np.zeros((B, K))}, B, "url")

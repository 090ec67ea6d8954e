"""What prediction and evaluation read of a configuration, and nothing else of it."""

import json

import pytest
from pydantic import ValidationError

from centermask_keras.config import load_config
from centermask_keras.export.saved_model import MOST_PIXELS, image_limit
from centermask_keras.inference.runtimes.description import describe_input
from centermask_keras.inference_config import InferenceConfig, to_inference_config
from centermask_keras.shipped import find_model


@pytest.mark.parametrize(("name", "network_hw"), [("mobile", (320, 320)), ("demo", (128, 128))])
def test_the_values_are_those_of_the_configuration(name, network_hw):
    config = load_config(name)
    stored = to_inference_config(config)
    for section, keys in stored.model_dump().items():
        assert all(getattr(getattr(config, section), key) == value for key, value in keys.items())
    assert stored.network_hw == network_hw
    assert InferenceConfig.model_validate_json(stored.model_dump_json()) == stored


def test_an_image_decides_where_it_is_kept_as_it_is():
    stored = to_inference_config(load_config(find_model("nuclei") / "config.json"))
    assert stored.network_hw == (None, None) and stored.model.input_multiple == 32


def test_an_image_is_turned_at_one_of_two_sizes():
    stored = to_inference_config(load_config("fcos_resnet101"))
    assert stored.eval.resize == "turned" and stored.network_hw == (None, None)
    height, width = stored.data.input_hw
    assert f"{height} x {width} or {width} x {height}" in describe_input(stored)
    assert image_limit(stored) == {"most_pixels": MOST_PIXELS}


def test_wrong_values_are_refused():
    values = to_inference_config(load_config("demo")).model_dump()
    values["eval"]["mask_threshold"] = 1.5
    with pytest.raises(ValidationError, match="mask_threshold"):
        InferenceConfig.model_validate_json(json.dumps(values))

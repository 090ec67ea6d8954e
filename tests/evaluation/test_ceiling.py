"""The representation ceiling on real photos: how much mask AP the outputs can carry, and that it is no constant."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from centermask_keras._cv2 import cv2
from centermask_keras.config import load_config
from centermask_keras.data.feeding.rows import make_train_transform
from centermask_keras.data.files.annotations import load_annotations
from centermask_keras.data.samples.transform import make_eval_transform, make_letterbox
from centermask_keras.evaluation.ceiling import (
    detect_encoded,
    encode_image,
    make_ceiling_sample,
    measure_ceiling,
    threshold_of,
)
from centermask_keras.evaluation.coco import evaluate_coco
from centermask_keras.geometry.transform import to_matrix
from centermask_keras.inference.objects import categories_of, to_objects

CONFIGS = Path(__file__).parents[2] / "configs"
IDENTITY = np.array([1.0, 1.0, 0.0, 0.0])


def load_folder(folder: Path, config):
    return load_annotations(folder / "annotations" / "instances.json", folder / "images")


@pytest.fixture(scope="module")
def config():
    return load_config(CONFIGS / "dla34.json")


def mask_ap(config, annotations, *, change=lambda encoded: encoded) -> float:
    """Measure the ceiling with both factors after a change to the encoded outputs."""
    results = []
    for index in range(len(annotations)):
        hw = tuple(int(side) for side in annotations.image_hw[index])
        transform, input_hw = make_eval_transform(hw, config)
        sample = make_ceiling_sample(annotations, index, config=config, transform=transform, input_hw=input_hw)
        detections = detect_encoded(change(encode_image(sample, config, "both")), config)
        found = to_objects(detections, 0, transform, hw, categories_of(annotations), threshold_of("both", config))
        results += found.to_coco(int(annotations.image_ids[index]))
    return evaluate_coco(annotations.path, results, iou_type="segm")["mask_ap"]


def shift_saliency(encoded):
    """Move the saliency by half a cell to the right and down."""
    logits = encoded.outputs["saliency_logits"]
    for axis in (1, 2):
        logits = (logits + np.roll(logits, 1, axis)) / 2
    return dataclasses.replace(encoded, outputs={**encoded.outputs, "saliency_logits": logits})


def flatten_saliency(encoded):
    """Replace the saliency by a constant that carries nothing."""
    logits = np.full_like(encoded.outputs["saliency_logits"], 3.0)
    return dataclasses.replace(encoded, outputs={**encoded.outputs, "saliency_logits": logits})


@pytest.mark.slow
def test_ceiling_of_16_photos_is_high_and_needs_the_saliency(coco_tiny, config):
    annotations = load_folder(coco_tiny, config)
    whole = mask_ap(config, annotations)
    assert whole >= 0.92
    assert mask_ap(config, annotations, change=flatten_saliency) < whole - 0.01


@pytest.mark.slow
def test_ceiling_of_fcos(coco_tiny):
    """At a stride of 4: the cells of 8 pixels are made for 800 x 1344."""
    overrides = ["data.input_hw=[512, 512]", "data.multi_scale_hw=null", "eval.resize=letterbox", "model.stride=4"]
    config = load_config(CONFIGS / "fcos_resnet101.json", overrides)
    annotations = load_folder(coco_tiny, config)
    whole = mask_ap(config, annotations)
    assert whole >= 0.90
    assert mask_ap(config, annotations, change=flatten_saliency) < whole - 0.01


@pytest.mark.slow
def test_ceiling_on_real_photos(coco_train, config):
    annotations = load_folder(coco_train, config)
    figures = measure_ceiling(config, annotations)
    print(figures)
    assert figures["both"] >= 0.94
    assert figures["local_shape"] >= 0.96
    assert 0.5 <= figures["saliency"] <= 0.85
    assert mask_ap(config, annotations) == figures["both"]


@pytest.mark.slow
def test_half_a_cell_of_misalignment_is_seen(coco_train, config):
    annotations = load_folder(coco_train, config)
    loss = mask_ap(config, annotations) - mask_ap(config, annotations, change=shift_saliency)
    print("half a cell costs", loss)
    assert loss >= 0.05


def warp_full_size(annotations, index: int, transform: np.ndarray, hw: tuple[int, int]) -> list[dict]:
    """Decode the masks of an image at full size and warp them: nothing of the pipeline is used but the matrix."""
    data = json.loads(Path(annotations.path).read_text())
    image_id = int(annotations.image_ids[index])
    height, width = (int(side) for side in annotations.image_hw[index])
    rows = []
    for row in (row for row in data["annotations"] if row["image_id"] == image_id):
        rles = row["segmentation"]
        if isinstance(rles, list):
            rles = coco_mask.frPyObjects(rles, height, width)
        elif isinstance(rles["counts"], list):
            rles = [coco_mask.frPyObjects(rles, height, width)]
        else:
            rles = [rles]
        mask = coco_mask.decode(coco_mask.merge(rles))
        warped = cv2.warpAffine(255 * mask, to_matrix(transform), (hw[1], hw[0]), flags=cv2.INTER_LINEAR) >= 128
        if warped.any():
            ys, xs = np.nonzero(warped)
            rle = coco_mask.encode(np.asfortranarray(warped.astype(np.uint8)))
            rows.append(
                {
                    "category_id": row["category_id"],
                    "iscrowd": row["iscrowd"],
                    "segmentation": {"size": list(hw), "counts": rle["counts"].decode()},
                    "bbox": [int(xs.min()), int(ys.min()), int(np.ptp(xs)) + 1, int(np.ptp(ys)) + 1],
                    "area": int(warped.sum()),
                }
            )
    return rows


def ceiling_on_canvas(config, annotations, folder: Path, make_transform, passes: int) -> float:
    """Encode transformed samples and score them, on the input canvas, against masks warped at full size by OpenCV."""
    hw, categories = config.data.input_hw, categories_of(annotations)
    truth = json.loads(Path(annotations.path).read_text()) | {"images": [], "annotations": []}
    results = []
    for index in [*range(len(annotations))] * passes:
        image_id = len(truth["images"]) + 1
        transform = make_transform(tuple(int(side) for side in annotations.image_hw[index]))
        sample = make_ceiling_sample(annotations, index, config=config, transform=transform, input_hw=hw)
        detections = detect_encoded(encode_image(sample, config, "both"), config)
        results += to_objects(detections, 0, IDENTITY, hw, categories, config.eval.mask_threshold).to_coco(image_id)
        truth["images"].append({"id": image_id, "height": hw[0], "width": hw[1], "file_name": f"{image_id}.png"})
        for row in warp_full_size(annotations, index, transform, hw):
            truth["annotations"].append({**row, "image_id": image_id, "id": len(truth["annotations"]) + 1})
    path = folder / "warped.json"
    path.write_text(json.dumps(truth))
    return evaluate_coco(path, results, iou_type="segm")["mask_ap"]


@pytest.mark.slow
def test_random_crop_and_flip_cost_little(coco_train, config, tmp_path):
    """Three random views of every photo against the plain letterbox, by the same measure at the same resolution."""
    annotations = load_folder(coco_train, config)
    hw = config.data.input_hw
    rng = np.random.default_rng(7)
    plain = ceiling_on_canvas(config, annotations, tmp_path, lambda image_hw: make_letterbox(image_hw, hw), passes=1)
    augmented = ceiling_on_canvas(
        config,
        annotations,
        tmp_path,
        lambda image_hw: make_train_transform(image_hw, hw, config.data.augmentation, rng),
        passes=3,
    )
    print("augmented", augmented, "plain", plain)
    assert plain >= 0.9  # on the canvas, where objects are smaller than in the original images
    assert augmented >= plain - 0.015

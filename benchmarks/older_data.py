"""The annotations that `older_runs.py` gives to both sides: crowds, LVIS, and objects that a model finds nearly."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
from pycocotools import mask as coco_mask
from small_training import ROOT

sys.path.insert(0, str(ROOT / "tests"))
from lvis_case import as_coco, as_lvis, make_case


def annotate_shapes(folder: Path) -> None:
    """Turn every fifth object of generated shapes into a crowd, and write `lvis.json`, the same as LVIS."""
    (folder / "images").symlink_to("train")  # where the addresses in the LVIS file lead
    document = json.loads((folder / "train.json").read_text())
    (folder / "lvis.json").write_text(json.dumps(as_lvis(document)))
    for number, row in enumerate(document["annotations"]):
        row["iscrowd"] = int(number % 5 == 4)
    (folder / "train.json").write_text(json.dumps(document))


def annotate_samples(folder: Path, samples: Path, found: dict[str, dict]) -> None:
    """Write `crowds.json` and `lvis.json` for the samples of a model, of what was found in each file."""
    folder.mkdir()
    (folder / "images").symlink_to(samples)
    document = move_objects(found)
    (folder / "crowds.json").write_text(json.dumps(document))
    (folder / "lvis.json").write_text(json.dumps(as_lvis(document)))


def move_objects(found: dict[str, dict]) -> dict[str, list]:
    """Make annotations of what was found: some are left out, the others moved by up to 3 pixels, some are crowds."""
    images, annotations = [], []
    for image_id, (name, objects) in enumerate(found.items(), 1):
        height, width = objects["masks"][0]["size"]
        images.append({"id": image_id, "file_name": f"images/{name}", "height": height, "width": width})
        for number, mask in enumerate(objects["masks"]):
            pixels = np.roll(coco_mask.decode(mask), number % 4, axis=1)
            if number % 5 == 0 or not pixels.any():
                continue
            rle = coco_mask.encode(np.asfortranarray(pixels))
            row = {"id": len(annotations) + 1, "image_id": image_id, "category_id": 1, "iscrowd": int(number % 7 == 1)}
            row |= {"bbox": coco_mask.toBbox(rle).tolist(), "area": int(pixels.sum())}
            annotations.append(row | {"segmentation": {"size": [height, width], "counts": rle["counts"].decode()}})
    return {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "nucleus"}]}


def write_lvis_case(folder: Path) -> tuple[Path, Path, Path]:
    """Write LVIS annotations, results, and the results of a model of COCO for them; return the files."""
    truth, results = make_case()
    files = {"truth": truth, "results": results, "from_coco": as_coco(results)}
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return tuple(folder / f"{name}.json" for name in files)

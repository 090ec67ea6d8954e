"""A small LVIS dataset and results for it, made by a fixed rule: every federated situation, many times over.

`lvis_reference.json` holds what the `lvis` package makes of it.
"""

import random

from pycocotools import mask as coco_mask

HW = (200, 240)
IMAGES = 16
CROWDED = 3  # this image has more than 300 results

# Synsets of LVIS; the first six are those of COCO classes. Version 0.5 calls the first one baby.
CATEGORIES = [
    ("baby", "person.n.01", "f"),
    ("cat", "cat.n.01", "c"),
    ("wineglass", "wineglass.n.01", "f"),
    ("doughnut", "doughnut.n.02", "r"),
    ("flowerpot", "pot.n.04", "c"),
    ("ski", "ski.n.01", "r"),
    ("acorn", "acorn.n.01", "r"),
    ("aerosol_can", "aerosol.n.02", "c"),
    ("awning", "awning.n.01", "f"),
]
COCO_IDS = {1: 1, 2: 17, 3: 46, 4: 60, 5: 64, 6: 35}  # by category id of the list above
WITHOUT_COUNTERPART = 58  # COCO's hot dog


def make_case() -> tuple[dict, list[dict]]:
    """Return the LVIS document and the results with its category ids, masks as compressed RLE."""
    draw = random.Random(20190808)  # only random() is drawn, whose sequence Python guarantees
    images, annotations, results = [], [], []
    for image in range(1, IMAGES + 1):
        absent, partial = [], []
        for category in range(1, len(CATEGORIES) + 1):
            situation = ("present", "absent", "partial", "unknown")[int(4 * draw.random())]
            shapes = [_draw_box(draw) for _ in range(1 + int(3 * draw.random()))]
            if situation in ("present", "partial"):
                annotations += [
                    _make_annotation(box, image, category, len(annotations) + i) for i, box in enumerate(shapes)
                ]
            if situation == "absent":
                absent.append(category)
            if situation == "partial":
                partial.append(category)
            for box in shapes[: 1 + int(3 * draw.random())]:
                results += [
                    _make_result(_move(box, draw), image, category, draw) for _ in range(1 + int(2 * draw.random()))
                ]
            results += [_make_result(_draw_box(draw), image, category, draw) for _ in range(int(3 * draw.random()))]
        if image == CROWDED:
            results += [_make_result(_draw_box(draw), image, 1 + index % 9, draw) for index in range(320)]
        image_row = {"id": image, "height": HW[0], "width": HW[1], "coco_url": f"http://x/val2017/{image:012d}.jpg"}
        images.append({**image_row, "neg_category_ids": absent, "not_exhaustive_category_ids": partial})
    categories = [
        {"id": number, "name": name, "synset": synset, "frequency": frequency}
        for number, (name, synset, frequency) in enumerate(CATEGORIES, 1)
    ]
    return {"images": images, "categories": categories, "annotations": annotations}, results


def as_coco(results: list[dict]) -> list[dict]:
    """Return results as a COCO model would have them: COCO's ids, and a class that LVIS lacks for the others."""
    return [{**row, "category_id": COCO_IDS.get(row["category_id"], WITHOUT_COUNTERPART)} for row in results]


def _draw_box(draw: random.Random) -> list[int]:
    width, height = (6 + int(side * draw.random() ** 2) for side in (150, 130))
    return [int((HW[1] - width) * draw.random()), int((HW[0] - height) * draw.random()), width, height]


def _move(box: list[int], draw: random.Random) -> list[int]:
    x, y, width, height = box
    return [x + int(width * draw.random() ** 3), y, max(1, width - int(width * draw.random() ** 3)), height]


def _make_annotation(box: list[int], image: int, category: int, number: int) -> dict:
    row = {"id": number + 1, "image_id": image, "category_id": category, "bbox": box, "area": 0.875 * box[2] * box[3]}
    return {**row, "segmentation": [_cut_corner(*box)]}


def _cut_corner(x: int, y: int, w: int, h: int) -> list[float]:
    """Return a polygon of 7/8 of a box, so that masks and boxes overlap differently."""
    return [x, y, x + w / 2, y, x + w, y + h / 2, x + w, y + h, x, y + h]


def _make_result(box: list[int], image: int, category: int, draw: random.Random) -> dict:
    x, y, w, h = box[0], box[1], min(box[2], HW[1] - box[0]), box[3]
    (rle,) = coco_mask.frPyObjects([_cut_corner(x, y, w, h)], *HW)
    row = {"image_id": image, "category_id": category, "score": round(draw.random(), 2), "bbox": [x, y, w, h]}
    return {**row, "segmentation": {"size": list(HW), "counts": rle["counts"].decode()}}


def as_lvis(document: dict, *, version: str = "1.0") -> dict:
    """Return a COCO document (no crowds) in the form of LVIS: of each image some classes are absent or partial.

    Of the classes that are present every third is partial; three of the others are absent; the rest is unknown.
    """
    classes = sorted(row["id"] for row in document["categories"])
    present: dict[int, set[int]] = {image["id"]: set() for image in document["images"]}
    for row in document["annotations"]:
        present[row["image_id"]].add(row["category_id"])
    images = []
    for image in document["images"]:
        others = [category for category in classes if category not in present[image["id"]]]
        row = {key: image[key] for key in ("id", "height", "width")}
        row["neg_category_ids"] = [others[(image["id"] + 7 * step) % len(others)] for step in range(3 if others else 0)]
        row["not_exhaustive_category_ids"] = sorted(present[image["id"]])[::3]
        if version == "1.0":
            row["coco_url"] = f"http://images.cocodataset.org/images/{image['file_name']}"
        else:
            row["file_name"] = f"COCO_val2014_{image['file_name']}"
        images.append(row)
    categories = [
        {**row, "synset": f"{row['name']}.n.01", "frequency": "rcf"[index % 3]}
        for index, row in enumerate(document["categories"])
    ]
    annotations = [{key: value for key, value in row.items() if key != "iscrowd"} for row in document["annotations"]]
    return {"images": images, "categories": categories, "annotations": annotations}

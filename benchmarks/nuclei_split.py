"""Split the nuclei images into train, val and test, so that near-duplicates stay in one part.

    python benchmarks/nuclei_split.py --data nuclei_train --out data/nuclei

writes `train.json`, `val.json` and `test.json` by the committed list `nuclei_split.json`, and a link to the images.
`--make-list` chooses the list anew and writes it.

Images of one size and staining are near-duplicates: many are fields of one slide. They are found as `centermask data
split` finds them (`data/files/image_groups.py`), and a group is never divided.
"""

import argparse
import json
from collections import defaultdict
from pathlib import Path

import numpy as np

from centermask_keras.data.files.image_groups import describe_colors, group_near_duplicates

LIST = Path(__file__).with_suffix(".json")
PARTS = ("train", "val", "test")
SHARES = {"test": 0.2, "val": 0.1}  # of the images of each size; the rest is for training
SEED = 0


def make_list(data: dict, images: Path) -> dict[str, list[str]]:
    """Choose the part of every image: file names by part."""
    by_size = defaultdict(list)
    for row in data["images"]:
        by_size[row["height"], row["width"]].append(row["file_name"])
    parts: dict[str, list[str]] = {part: [] for part in PARTS}
    rng = np.random.default_rng(SEED)
    for size in sorted(by_size):
        names = sorted(by_size[size])
        groups = group_near_duplicates(np.stack([describe_colors(images / name) for name in names]))
        wanted = {part: share * len(names) for part, share in SHARES.items()}
        for group in rng.permutation(len(groups)):
            members = [names[index] for index in groups[group]]
            # A group that does not fit into what a part still lacks is learned from.
            part = next((p for p in SHARES if len(members) <= wanted[p] + 0.5), "train")
            if part != "train":
                wanted[part] -= len(members)
            parts[part] += members
    return {part: sorted(names) for part, names in parts.items()}


def write_parts(data: dict, parts: dict[str, list[str]], images: Path, out: Path) -> None:
    """Write one COCO json per part, and a link to the images."""
    out.mkdir(parents=True, exist_ok=True)
    for part, names in parts.items():
        rows = [row for row in data["images"] if row["file_name"] in set(names)]
        ids = {row["id"] for row in rows}
        objects = [row for row in data["annotations"] if row["image_id"] in ids]
        (out / f"{part}.json").write_text(json.dumps({**data, "images": rows, "annotations": objects}))
        print(f"{part:<6} {len(rows)} images, {len(objects):,} objects")
    link = out / "images"
    link.unlink(missing_ok=True)
    link.symlink_to(images.resolve(), target_is_directory=True)


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with annotations/ and images/")
    parser.add_argument("--out", type=Path, default=Path("data/nuclei"))
    parser.add_argument("--make-list", action="store_true", help="choose the parts anew")
    arguments = parser.parse_args()
    data = json.loads((arguments.data / "annotations" / "instances.json").read_text())
    if arguments.make_list:
        LIST.write_text(json.dumps(make_list(data, arguments.data / "images"), indent=1) + "\n")
    write_parts(data, json.loads(LIST.read_text()), arguments.data / "images", arguments.out)


if __name__ == "__main__":
    main()

"""Split the facades into train, val and test by base photo: `NAME_scaled_0` and `NAME_scaled_1` are crops of one.

    python benchmarks/facades_split.py --data facades_train --out data/facades

writes `train.json`, `val.json` and `test.json` by the committed list `facades_split.json`, and a link to the images.
`--make-list` chooses the list anew, as `centermask data split` with the options below does, and writes it.
"""

import argparse
import json
import tempfile
from pathlib import Path

from nuclei_split import write_parts

from centermask_keras.data.files.split import split_dataset

LIST = Path(__file__).with_suffix(".json")
OPTIONS = {"val": 0.15, "test": 0.2, "group": r"(.+)_scaled_\d", "seed": 0}


def make_list(annotations: Path, images: Path) -> dict[str, list[str]]:
    """Choose the part of every image: file names by part."""
    with tempfile.TemporaryDirectory() as folder:
        split = split_dataset(annotations, folder, images=images, **OPTIONS)
    print(split)
    return {part: sorted(names) for part, names in split.names.items()}


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with annotations/ and images/")
    parser.add_argument("--out", type=Path, default=Path("data/facades"))
    parser.add_argument("--make-list", action="store_true", help="choose the parts anew")
    arguments = parser.parse_args()
    annotations, images = arguments.data / "annotations" / "instances.json", arguments.data / "images"
    if arguments.make_list:
        LIST.write_text(json.dumps(make_list(annotations, images), indent=1) + "\n")
    write_parts(json.loads(annotations.read_text()), json.loads(LIST.read_text()), images, arguments.out)


if __name__ == "__main__":
    main()

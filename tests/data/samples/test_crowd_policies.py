"""What samples and the record of a run hold under each crowd policy, on files with everything that is left out.

The expected values were written down when the policy still belonged to the reading of the file.
"""

import json
from pathlib import Path

import lvis_case
import numpy as np
import pytest

from centermask_keras.config import load_config
from centermask_keras.data.feeding.pipeline import steps_per_epoch
from centermask_keras.data.feeding.rows import make_train_batch
from centermask_keras.data.files.annotations import load_annotations
from centermask_keras.data.samples.sample import SampleCounters

CONFIG = Path(__file__).parents[3] / "configs" / "dla34.json"
FCOS = CONFIG.with_name("fcos_resnet101.json")
BATCHES = 3


def spoil(document: dict) -> dict:
    """Leave out objects for every reason, and make every seventh one a crowd region, some of these among them."""
    for number, row in enumerate(document["annotations"]):
        outline = [1, 1, 9, 1, 9, 9]
        changes = {
            1: {"bbox": [5, 5, 0, 4]},
            2: {"segmentation": []},
            3: {"segmentation": [[1, 2, 3, 4], outline]},
            4: {"bbox": [-50, -50, 10, 10]},
            5: {"segmentation": [[3, 4]]},
        }
        row.update(changes.get(number % 11, {}))
        row["iscrowd"] = int(number % 7 == 0)
    return document


DOCUMENTS = {"coco": lambda document: document, "spoiled": spoil, "lvis": lambda d: lvis_case.as_lvis(spoil(d))}


def describe(dataset, config) -> list:
    """Return figures that any object which is added, lost or counted otherwise changes."""
    counters, sums = SampleCounters(), {}
    for step in range(BATCHES):
        positions = range(step * config.train.batch_size, (step + 1) * config.train.batch_size)
        batch = make_train_batch(config, dataset, positions, counters)
        for name in ("image_id", "valid", "classes", "masks", "saliency_planes", "ignore_planes", "known_classes"):
            sums[name] = sums.get(name, 0) + int(np.sum(batch.get(name, 0), dtype=np.int64))
    sums["P, Q"] = [batch["saliency_planes"].shape[1], batch["ignore_planes"].shape[1]]
    return [steps_per_epoch(config, dataset), sums, counters.to_dict()]


def configure(policy: str, path: Path = CONFIG):
    fixed = ["data.input_hw=[64, 128]", "train.batch_size=4", "data.max_objects=12", f"data.crowd={policy}"]
    return load_config(path, [*fixed, "data.multi_scale_hw=null"])


@pytest.mark.parametrize("policy", ["ignore", "train", "drop"])
@pytest.mark.parametrize("kind", DOCUMENTS)
def test_samples_counters_and_records_of_each_policy(coco_tiny, tmp_path, kind, policy):
    document = json.loads((coco_tiny / "annotations" / "instances.json").read_text())
    path = tmp_path / "my.json"
    path.write_text(json.dumps(DOCUMENTS[kind](document)))
    read = load_annotations(path, coco_tiny if kind == "lvis" else coco_tiny / "images")
    expected = json.loads(Path(__file__).with_name("crowd_policies.json").read_text())[f"{kind} {policy}"]
    recorded = read.under(policy)  # what a run writes down
    assert [len(recorded.boxes), recorded.dropped] == expected[0]
    for dataset in (read, recorded):
        assert describe(dataset, configure(policy)) == expected[1]
    assert describe(read, configure(policy, FCOS)) == expected[2]


def test_a_policy_that_drops_lists_the_regions_by_their_ids(coco_tiny, tmp_path):
    document = spoil(json.loads((coco_tiny / "annotations" / "instances.json").read_text()))
    (tmp_path / "my.json").write_text(json.dumps(document))
    drops = load_annotations(tmp_path / "my.json", coco_tiny / "images").under("drop").drops
    named = {problem.where for problem in drops if problem.received == "a crowd region"}
    crowds = [row for row in document["annotations"] if row["iscrowd"]]
    assert named == {f"annotation {row['id']} (image {row['image_id']})" for row in crowds}
    assert len(drops) == len({problem.where for problem in drops})  # what is dropped as a crowd is not counted twice

"""`data split`: every image in one part, groups whole, classes and sizes balanced, rows as they are."""

import json
import re

import numpy as np
import pytest

from centermask_keras.cli import main
from centermask_keras.data.files.annotations import read_annotations
from centermask_keras.data.files.split import assign_groups, count_labels, split_dataset, write_parts
from centermask_keras.errors import CenterMaskError, DataError


def make_document(images: int = 100, seed: int = 0) -> dict:
    """Images in pairs (`p0_a`, `p0_b`) with up to 5 objects of three classes, one in ten of them of the third one."""
    rng = np.random.default_rng(seed)
    document = {
        "info": {"kept": "as it is"},
        "images": [
            {"id": 1000 - i, "file_name": f"p{i // 2}_{'ab'[i % 2]}.png", "height": 100, "width": 100, "date": "d"}
            for i in range(images)
        ],
        "categories": [{"id": 5, "name": "small"}, {"id": 2, "name": "images"}, {"id": 9, "name": "rare"}],
        "annotations": [],
    }
    for image in document["images"]:
        for _ in range(rng.integers(0, 6)):
            side = float(rng.integers(2, 60))
            category = int(rng.choice([5, 2, 9], p=[0.6, 0.3, 0.1]))
            document["annotations"].append(
                {
                    "id": len(document["annotations"]) + 7,
                    "image_id": image["id"],
                    "category_id": category,
                    "bbox": [1, 1, side, side],
                    "area": side**2,
                    "iscrowd": 0,
                    "segmentation": [[1, 1, 1 + side, 1, 1 + side, 1 + side, 1, 1 + side]],
                    "own": {"key": 1},
                }
            )
    return document


def write(folder, document):
    path = folder / "all.json"
    path.write_text(json.dumps(document))
    return path


def read_parts(folder) -> dict[str, dict]:
    return {path.stem: json.loads(path.read_text()) for path in folder.glob("*.json")}


def test_the_parts_are_the_rows_of_the_file(tmp_path):
    document = make_document()
    split = split_dataset(write(tmp_path, document), tmp_path / "out", val=0.2, test=0.1)
    parts = read_parts(tmp_path / "out")
    assert parts.keys() == {"train", "val", "test"} == split.names.keys()
    for key in ("images", "annotations"):
        together = [row for part in parts.values() for row in part[key]]
        assert sorted(together, key=lambda row: row["id"]) == sorted(document[key], key=lambda row: row["id"])
    for part, rows in parts.items():
        assert (rows["info"], rows["categories"]) == (document["info"], document["categories"])
        assert [row["file_name"] for row in rows["images"]] == split.names[part]
        assert [row["id"] for row in rows["images"]] == sorted((row["id"] for row in rows["images"]), reverse=True)
        assert {row["image_id"] for row in rows["annotations"]} <= {row["id"] for row in rows["images"]}


def test_groups_are_whole_and_counted(tmp_path):
    split = split_dataset(write(tmp_path, make_document()), tmp_path / "out", val=0.3, group=r"(p\d+)_")
    part_of = {name: part for part, names in split.names.items() for name in names}
    assert all(part_of[f"p{pair}_a.png"] == part_of[f"p{pair}_b.png"] for pair in range(50))
    assert (split.groups, split.grouped_images) == (50, 100)
    alone = split_dataset(tmp_path / "all.json", tmp_path / "alone", val=0.3)
    part_of = {name: part for part, names in alone.names.items() for name in names}
    assert any(part_of[f"p{pair}_a.png"] != part_of[f"p{pair}_b.png"] for pair in range(50))
    assert (alone.groups, alone.grouped_images) == (100, 0)


def test_classes_and_sizes_are_balanced(tmp_path):
    """The table counts what is in the files, and every share is near to the one asked for."""
    split = split_dataset(write(tmp_path, make_document()), tmp_path / "out", val=0.2, test=0.2, group=r"(p\d+)_")
    parts = read_parts(tmp_path / "out")
    rows = dict(split.table[:4])  # by category id: images, rare, and the class that is called small
    assert [name for name, _ in split.table] == ["images", "images", "small", "rare", "small", "medium", "large"]
    assert split.table[0][1] == {part: len(document["images"]) for part, document in parts.items()}
    for name, category in (("small", 5), ("rare", 9)):
        counts = {
            part: sum(row["category_id"] == category for row in rows["annotations"]) for part, rows in parts.items()
        }
        assert rows[name] == counts
    low, high = split.size_borders
    sides = {part: np.array([row["bbox"][2] for row in rows["annotations"]]) for part, rows in parts.items()}
    assert split.table[5][1] == {part: int(((side >= low) & (side < high)).sum()) for part, side in sides.items()}
    for name, counts in split.table:
        total = sum(counts.values())
        assert abs(counts["val"] - 0.2 * total) <= max(2, 0.03 * total), name
        assert abs(counts["test"] - 0.2 * total) <= max(2, 0.03 * total), name


def test_what_cannot_be_divided_goes_where_it_disturbs_least():
    """A group of half of all images is learned from; a class of three images gives one to validation."""
    labels = np.ones((40, 2), int)
    labels[:, 1] = 0
    labels[[0, 25, 30], 1] = 1
    groups = [list(range(5, 25)), *([index] for index in (*range(5), *range(25, 40)))]
    for seed in range(5):
        part_of = assign_groups(labels, groups, [0.7, 0.3], seed)
        assert (part_of[5:25] == 0).all()
        assert (part_of == 1).sum() == 12 and part_of[[0, 25, 30]].sum() == 1


def test_the_seed_decides_and_nothing_else(tmp_path):
    path = write(tmp_path, make_document())
    names = [
        split_dataset(path, tmp_path / f"{run}", val=0.2, seed=seed).names["val"] for run, seed in enumerate((3, 3, 4))
    ]
    assert names[0] == names[1] != names[2]
    assert (tmp_path / "0" / "val.json").read_bytes() == (tmp_path / "1" / "val.json").read_bytes()


def test_crowds_count_and_images_without_objects_are_divided_too(tmp_path):
    document = make_document(20)
    for row in document["annotations"]:
        row["iscrowd"] = 1
    dataset, _ = read_annotations(write(tmp_path, document))
    labels, _ = count_labels(dataset)
    assert labels[:, 0].sum() == 20 and labels[:, 1:].sum() == len(document["annotations"])
    document["annotations"] = []
    split = split_dataset(write(tmp_path, document), tmp_path / "out", val=0.25)
    assert split.table[0] == ("images", {"train": 15, "val": 5})


@pytest.mark.parametrize(("val", "test"), [(0, 0), (1, 0), (0.5, 0.5), (0.2, 1), (-0.1, 0)])
def test_shares_that_leave_a_part_empty_are_refused(tmp_path, val, test):
    with pytest.raises(CenterMaskError, match="--val, --test"):
        split_dataset(write(tmp_path, make_document(4)), tmp_path, val=val, test=test)


def test_one_group_cannot_be_split(tmp_path):
    with pytest.raises(CenterMaskError, match=r"20 in 1 groups that may not be divided: val gets none"):
        split_dataset(write(tmp_path, make_document(20)), tmp_path / "out", val=0.2, group=r"(p)\d")
    assert not (tmp_path / "out").exists()


def test_no_file_is_replaced_or_contradicted(tmp_path):
    source = write(tmp_path, make_document()).rename(tmp_path / "train.json")
    with pytest.raises(CenterMaskError, match=r"train\.json: expected another folder"):
        split_dataset(source, tmp_path, val=0.2)
    split_dataset(source, tmp_path / "out", val=0.2, test=0.2)
    split_dataset(source, tmp_path / "out", val=0.2, test=0.2, seed=1)  # the same parts anew
    with pytest.raises(CenterMaskError, match=r"test\.json: expected no such file"):
        split_dataset(source, tmp_path / "out", val=0.2)


def test_faults_of_the_file_are_listed(tmp_path):
    document = make_document(10)
    document["annotations"][0]["image_id"] = 1
    with pytest.raises(DataError, match="image_id of an image in this file"):
        split_dataset(write(tmp_path, document), tmp_path / "out", val=0.2)
    with pytest.raises(DataError, match="no such folder"):
        split_dataset(write(tmp_path, make_document(10)), tmp_path / "out", val=0.2, images=tmp_path / "none")


def test_the_command_prints_a_table_and_names_what_it_wrote(tmp_path, capsys):
    document = make_document()
    document["categories"].append({"id": 11, "name": "never"})
    out = tmp_path / "out"
    files = ["--annotations", str(write(tmp_path, document)), "--out", str(out), "--json", str(tmp_path / "split.json")]
    with pytest.raises(SystemExit) as stop:
        main(["data", "split", *files, "--val", "0.2"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert re.search(r"^ +train +val$", text, re.MULTILINE)
    assert re.search(r"^images +80  80\.0% +20  20\.0%$", text, re.MULTILINE)
    assert "no object in val: never" in text and "--images FOLDER" in text
    assert f"written: {out / 'train.json'}, {out / 'val.json'}" in text
    assert len(json.loads((tmp_path / "split.json").read_text())["names"]["val"]) == 20


def test_parts_of_image_ids_are_written(tmp_path):
    write_parts(write(tmp_path, make_document(4)), {"val": {1000, 997}}, tmp_path / "out")
    assert [row["id"] for row in json.loads((tmp_path / "out" / "val.json").read_text())["images"]] == [1000, 997]


@pytest.mark.slow
def test_nuclei_are_split_without_dividing_near_duplicates(nuclei_train, tmp_path):
    """The largest group, more than a quarter of all, is learned from; small, medium and large are a fifth each."""
    source = nuclei_train / "annotations" / "instances.json"
    split = split_dataset(source, tmp_path, val=0.2, images=nuclei_train / "images")
    assert (split.groups, split.grouped_images) == (167, 371)
    shares = [counts["val"] / sum(counts.values()) for _, counts in split.table]
    np.testing.assert_allclose(shares, 0.2, atol=0.02)
    dataset, faults = read_annotations(tmp_path / "val.json", nuclei_train / "images")
    assert not faults and len(dataset) == split.table[0][1]["val"]

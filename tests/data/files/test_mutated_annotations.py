"""A thousand annotation files in which some records are changed: each change has its verdict, the others are kept."""

import json
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from centermask_keras.data.files.annotations import read_annotations
from centermask_keras.errors import DataError

FILES = 1000
IMAGES, OBJECTS = 4, 12
HEIGHT, WIDTH = 20, 30
MISSING = object()
FIRST_ID = 11

pixels = st.floats(1, 15)
texts = st.text(max_size=4)
odd = st.one_of(st.none(), st.booleans(), texts, st.just(10**400), st.just({}), st.just([]))
many = st.integers(HEIGHT * WIDTH + 1, 10**6)
flat = st.one_of(st.just(0), st.floats(-9, 0))
beyond = st.floats(WIDTH, 1e5)
size = st.just([HEIGHT, WIDTH])
short_polygon = st.lists(pixels, max_size=2).map(lambda xy: xy + xy)
outline = st.lists(pixels, min_size=6, max_size=6)
uneven = st.lists(pixels, min_size=7, max_size=7)
vast = st.lists(st.just(1e7), min_size=6, max_size=6)
no_masks = st.one_of(texts, st.booleans(), st.integers(1), st.lists(texts, min_size=1))
runs = st.integers(0, HEIGHT * WIDTH).map(lambda run: [run, HEIGHT * WIDTH - run])


def rle(counts, size=size):
    return st.fixed_dictionaries({"size": size, "counts": counts})


def changes(**values):
    return st.fixed_dictionaries(values)


absent = st.sampled_from([MISSING, None])
present = odd.filter(lambda value: value is not None)
KEPT, DROPPED, REPORTED = "kept", "dropped", "reported"
MUTATIONS = {
    "another key": (KEPT, changes(note=odd)),
    "whole numbers": (KEPT, changes(bbox=st.lists(st.integers(1, 9), min_size=4, max_size=4), area=st.integers(0, 99))),
    "box over the edge": (KEPT, changes(bbox=st.tuples(flat, flat, beyond, beyond))),
    "no crowd flag": (KEPT, changes(iscrowd=st.just(MISSING))),
    "crowd": (KEPT, changes(iscrowd=st.sampled_from([1, True]), segmentation=rle(runs))),
    "other category": (KEPT, changes(category_id=st.just(9))),
    "a short polygon more": (KEPT, changes(segmentation=st.tuples(outline, short_polygon))),
    "box without width": (DROPPED, changes(bbox=st.tuples(pixels, pixels, flat, pixels))),
    "box without height": (DROPPED, changes(bbox=st.tuples(pixels, pixels, pixels, flat))),
    "box outside": (DROPPED, changes(bbox=st.tuples(beyond, pixels, pixels, pixels))),
    "short polygons": (DROPPED, changes(segmentation=st.lists(short_polygon, min_size=1, max_size=3))),
    "no mask": (DROPPED, changes(segmentation=st.sampled_from([MISSING, None, [], {}]))),
    "box and area that follow from the mask": (KEPT, changes(bbox=absent, area=absent)),
    "odd box": (REPORTED, changes(bbox=st.one_of(present, st.tuples(pixels, pixels, pixels), st.tuples(*[odd] * 4)))),
    "neither box nor mask": (REPORTED, changes(bbox=absent, segmentation=absent)),
    "odd area": (REPORTED, changes(area=st.one_of(present, st.floats(max_value=-1, min_value=-1e9)))),
    "neither area nor mask": (REPORTED, changes(area=absent, segmentation=absent)),
    "odd crowd flag": (REPORTED, changes(iscrowd=st.one_of(st.integers(2, 9), texts, st.just([])))),
    "odd category": (REPORTED, changes(category_id=st.one_of(odd, st.just(MISSING), st.integers(10, 99)))),
    "odd image": (REPORTED, changes(image_id=st.one_of(odd, st.just(MISSING), st.integers(10, 99)))),
    "odd id": (REPORTED, changes(id=st.one_of(odd, st.just(MISSING), st.floats(1, 9)))),
    "repeated id": (REPORTED, changes(id=st.just(FIRST_ID))),
    "odd mask": (REPORTED, changes(segmentation=no_masks)),
    "uneven polygon": (REPORTED, changes(segmentation=st.tuples(uneven))),
    "polygon beyond all images": (REPORTED, changes(segmentation=st.tuples(vast))),
    "rle of another size": (REPORTED, changes(segmentation=rle(runs, st.tuples(st.integers(21, 40), st.just(WIDTH))))),
    "rle of too many pixels": (REPORTED, changes(segmentation=rle(st.tuples(many, st.integers(0, 9))))),
    "rle of negative runs": (REPORTED, changes(segmentation=rle(st.tuples(st.integers(-9, -1), many)))),
    "rle of no runs": (REPORTED, changes(segmentation=rle(st.one_of(st.none(), st.text("ü {~", min_size=1))))),
    "no object at all": (REPORTED, st.one_of(st.none(), st.integers(), texts, st.just([]))),
}


def make_record(row: int) -> dict:
    box = [2.5, 3, 9.5, 6.5]
    mask = [[2.5, 3, 12, 3, 12, 9.5]] if row % 2 else {"size": [HEIGHT, WIDTH], "counts": [100, 50, 450]}
    keys = {"id": FIRST_ID + row, "image_id": 1 + row % IMAGES, "category_id": 7, "iscrowd": 0}
    return {**keys, "bbox": box, "area": 30.9, "segmentation": mask}


def make_text(mutations: dict[int, tuple[str, object]]) -> str:
    records = [make_record(row) for row in range(OBJECTS)]
    for row, (_, change) in mutations.items():
        changed = {**records[row], **change} if type(change) is dict else change
        if type(change) is dict:
            changed = {key: value for key, value in changed.items() if value is not MISSING}
        records[row] = changed
    images = [{"id": i + 1, "file_name": f"{i}.png", "height": HEIGHT, "width": WIDTH} for i in range(IMAGES)]
    categories = [{"id": 7, "name": "cat"}, {"id": 9, "name": "dog"}]
    return json.dumps({"images": images, "categories": categories, "annotations": records})


mutation = st.sampled_from(sorted(MUTATIONS)).flatmap(lambda kind: st.tuples(st.just(kind), MUTATIONS[kind][1]))
some_mutations = st.dictionaries(st.integers(1, OBJECTS - 1), mutation, max_size=8)  # the first record stays as it is


def rows_of(places: list[str]) -> set[int]:
    """Return the rows of the file that places speak of: by their number, or by the id of the annotation."""
    rows = set()
    for place in places:
        if place.startswith("annotations["):
            rows.add(int(place.removeprefix("annotations[").partition("]")[0]))
        elif place.startswith("annotation "):
            rows.add(int(place.split()[1]) - FIRST_ID)
        else:
            assert place == "annotations"  # of a repeated id, which names no row
    return rows


@pytest.mark.slow
def test_every_change_has_its_verdict_and_what_is_untouched_is_kept(tmp_path_factory):
    path, seen = tmp_path_factory.mktemp("mutated") / "my.json", Counter()

    @settings(max_examples=FILES)
    @given(some_mutations)
    def check(mutations):
        path.write_text(make_text(mutations))
        seen.update([kind for kind, _ in mutations.values()] + ["files"])
        expected = {verdict: set() for verdict in (KEPT, DROPPED, REPORTED)}
        for row in range(OBJECTS):
            expected[MUTATIONS[mutations[row][0]][0] if row in mutations else KEPT].add(row)

        dataset, problems = read_annotations(path, path.parent)
        kept = {int(number) - FIRST_ID for number in dataset.annotation_ids}
        repeated = {row for row, (kind, _) in mutations.items() if kind == "repeated id"}
        reported = rows_of([problem.where for problem in problems]) | repeated
        dropped = rows_of([drop.where for drop in dataset.drops]) - kept  # a part of an object can be dropped alone
        assert {KEPT: kept, DROPPED: dropped, REPORTED: reported} == expected
        assert len(kept) + len(dropped) + len(reported) == OBJECTS
        assert bool(repeated) == any(problem.where == "annotations" for problem in problems)
        assert sum(dataset.dropped.values()) == len(dataset.drops)
        assert len(dataset.annotation_ids) == len(kept) == len(dataset.segmentations[:])
        untouched = [int(number) - FIRST_ID not in mutations for number in dataset.annotation_ids]
        assert (dataset.boxes[untouched] == [2.5, 3, 12, 9.5]).all() and sum(untouched) == OBJECTS - len(mutations)

    check()
    assert seen.pop("files") >= FILES and seen.keys() == MUTATIONS.keys()


@pytest.mark.parametrize("name", ["images", "categories", "annotations"])
def test_a_file_without_a_list_is_an_error_that_names_it(tmp_path, name):
    document, path = json.loads(make_text({})), tmp_path / "my.json"
    del document[name]
    path.write_text(json.dumps(document))
    with pytest.raises(DataError, match=rf"my\.json: {name}: expected a list of objects, received nothing"):
        read_annotations(path, tmp_path)


def test_a_file_that_is_cut_anywhere_is_an_error_with_a_place(tmp_path):
    text, path = make_text({}), tmp_path / "my.json"
    for end in range(0, len(text) - 1, 7):
        path.write_text(text[:end])
        with pytest.raises(DataError, match=r"my\.json: line 1, column \d+: expected json"):
            read_annotations(path, tmp_path)

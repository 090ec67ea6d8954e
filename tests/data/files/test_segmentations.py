"""Packed masks come out as they went in; the size of an RLE is found without decoding it. Oracle: pycocotools."""

import json
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from centermask_keras.data.files.segmentations import (
    Segmentations,
    compress_rle,
    find_polygon_fault,
    find_rle_fault,
    rle_pixels,
    rle_runs,
)

TRIANGLE, SQUARE = [0, 0, 9.5, 0, 4, 8], [1, 1, 5, 1, 5, 5, 1, 5]
RLE = {"size": [10, 12], "counts": b"P155000000000l0"}


def test_indexing_gives_each_mask_as_it_was():
    packed = Segmentations([[TRIANGLE, SQUARE], RLE, [SQUARE]])
    assert len(packed) == 3
    assert [part.tolist() for part in packed[0]] == [TRIANGLE, SQUARE]
    assert packed[0][0].dtype == np.float32
    assert packed[1] == RLE
    assert [part.tolist() for part in packed[-1]] == [SQUARE]
    assert packed[1:][0] == RLE
    assert len(packed[0:2]) == 2
    assert [type(entry) for entry in packed] == [list, dict, list]
    with pytest.raises(IndexError):
        packed[3]


def test_no_masks_at_all():
    assert list(Segmentations([])) == []
    assert Segmentations([])[0:0] == []


def test_packed_masks_survive_the_way_between_processes_in_little_space(coco_train):
    document = json.loads((coco_train / "annotations" / "instances.json").read_bytes())
    polygons = [a["segmentation"] for a in document["annotations"] if isinstance(a["segmentation"], list)]
    copy = pickle.dumps(Segmentations(polygons))
    numbers = sum(len(part) for entry in polygons for part in entry)
    assert len(copy) < 4 * numbers + 64 * len(polygons)
    for entry, expected in zip(pickle.loads(copy), polygons, strict=True):
        for part, numbers in zip(entry, expected, strict=True):
            np.testing.assert_array_equal(part, np.float32(numbers))


@pytest.mark.parametrize("polygons", [[], [[]], [[1, 2]], [TRIANGLE], [TRIANGLE, SQUARE], [[-5, 0.5, 1, 2, 3, 4]]])
def test_well_formed_polygons(polygons):
    assert find_polygon_fault(polygons) is None


@pytest.mark.parametrize(
    "polygons",
    [
        TRIANGLE,  # not nested
        [TRIANGLE, [0, 0, 1, 1, 2]],
        [[0, 0, "1", 1, 2, 2]],
        [[0, 0, None, 1, 2, 2]],
        [[0, 0, True, 1, 2, 2]],
        [[0, 0, float("inf"), 1, 2, 2]],
        [[0, 0, float("nan"), 1, 2, 2]],
        [[0, 0, 10**400, 1, 2, 2]],
        [[[0, 0], [1, 1], [2, 2]]],
    ],
    ids=["flat", "odd", "text", "null", "bool", "infinite", "nan", "huge", "points"],
)
def test_malformed_polygons(polygons):
    expected, _ = find_polygon_fault(polygons)
    assert "polygon" in expected


def test_rle_of_run_lengths_is_compressed():
    bitmap = np.zeros((10, 12), np.uint8, order="F")
    bitmap[2:7, 3:9] = 1
    flat = bitmap.ravel(order="F")
    counts = np.diff(np.flatnonzero(np.diff(flat, prepend=2, append=2))).tolist()
    rle = {"size": [10, 12], "counts": counts}
    assert find_rle_fault(rle, [10, 12]) is None
    np.testing.assert_array_equal(coco_mask.decode(compress_rle(rle)), bitmap)
    assert compress_rle({"size": [10, 12], "counts": "P155000000000l0"}) == RLE


@pytest.mark.parametrize(
    ("rle", "expected"),
    [
        ({"counts": [120]}, "RLE size [10, 12]"),
        ({"size": [12, 10], "counts": [120]}, "RLE size [10, 12]"),
        ({"size": [10, 12]}, "RLE counts"),
        ({"size": [10, 12], "counts": 5}, "RLE counts"),
        ({"size": [10, 12], "counts": [60, 60.0]}, "RLE counts"),
        ({"size": [10, 12], "counts": [121, -1]}, "RLE counts"),
        ({"size": [10, 12], "counts": "ü"}, "RLE counts"),
        ({"size": [10, 12], "counts": [2**32, 1]}, "RLE run lengths"),
    ],
)
def test_malformed_rle(rle, expected):
    assert find_rle_fault(rle, [10, 12])[0].startswith(expected)


@given(st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32 - 1)), max_size=8))
def test_pixels_of_random_masks(shapes):
    rles = [
        coco_mask.encode(np.asfortranarray(np.random.default_rng(seed).integers(0, 2, (height, width), np.uint8)))
        for height, width, seed in shapes
    ]
    expected = [height * width for height, width, _ in shapes]
    assert rle_pixels([rle["counts"] for rle in rles]).tolist() == expected


@given(
    st.lists(
        st.tuples(
            st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32), st.sampled_from([None, 0, 0.02, 0.5, 1])
        ),
        max_size=6,
    )
)
def test_runs_of_random_masks_equal_the_decoder_of_pycocotools(shapes):
    """None stands for a string that is no RLE: it has no runs, and does not disturb its neighbours."""
    bitmaps = [
        None
        if density is None
        else (np.random.default_rng(seed).random((height, width)) < density).astype(np.uint8, order="F")
        for height, width, seed, density in shapes
    ]
    counts = [b"P1 5" if bitmap is None else coco_mask.encode(bitmap)["counts"] for bitmap in bitmaps]
    runs, starts = rle_runs(counts)
    assert len(starts) == len(counts) + 1 and starts[0] == 0 and starts[-1] == len(runs)
    for bitmap, begin, end in zip(bitmaps, starts[:-1], starts[1:], strict=True):
        own = runs[begin:end]
        decoded = np.repeat(np.arange(len(own)) % 2, own)
        np.testing.assert_array_equal(decoded, [] if bitmap is None else bitmap.ravel(order="F"))


def test_pixels_of_long_runs():
    rles = [
        coco_mask.frPyObjects({"size": [40_000, 50_000], "counts": counts}, 40_000, 50_000)["counts"]
        for counts in ([2 * 10**9], [0, 2 * 10**9], [10**9, 5, 1, 10**9 - 6], [3, 10**9, 2, 7, 10**9 - 12])
    ]
    assert rle_pixels(rles).tolist() == [2 * 10**9] * 4


SOUND = RLE["counts"]


@pytest.mark.parametrize(
    "broken",
    [b"", b"\x00", b"P1 5", SOUND + b"P", SOUND[:-1] + b"\x7f", SOUND[:3] + b"\x1f" + SOUND[3:], b"PPPPPPPPPP1", b"N"],
    ids=["empty", "zero", "space", "cut", "beyond", "below", "long", "negative"],
)
def test_strings_that_are_no_rle_are_found_between_sound_ones(broken):
    assert rle_pixels([SOUND, broken, SOUND]).tolist() == [120, -1, 120]


def test_strings_for_another_size_are_found():
    pixels = rle_pixels([SOUND[:-2], SOUND + b"5"])
    assert (pixels >= 0).all()
    assert (pixels != 120).all()


def test_pixels_of_real_masks(nuclei_train):
    document = json.loads((nuclei_train / "annotations" / "instances.json").read_bytes())
    rles = [annotation["segmentation"] for annotation in document["annotations"]]
    pixels = rle_pixels([rle["counts"].encode() for rle in rles])
    np.testing.assert_array_equal(pixels, [rle["size"][0] * rle["size"][1] for rle in rles])

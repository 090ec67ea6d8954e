"""A folder of images and a folder of shards are told apart by the index alone."""

from centermask_keras.data.files.shards import ImageShards
from centermask_keras.data.files.storage import ImageFolder, open_images

EMPTY = '{"format": 1, "written_from": "a.json", "shard_bytes": [], "images": {%s}}'
COLUMNS = ("file_name", "shard", "offset", "length", "crc32", "height", "width")


def test_a_folder_with_an_index_is_one_of_shards(tmp_path):
    assert open_images(str(tmp_path)) == ImageFolder(tmp_path)
    assert open_images(tmp_path / "none") == ImageFolder(tmp_path / "none")
    (tmp_path / "shards.json").write_text(EMPTY % ", ".join(f'"{name}": []' for name in COLUMNS))
    assert isinstance(open_images(tmp_path), ImageShards)


def test_files_of_a_folder_are_paths_in_it(tmp_path):
    assert ImageFolder(tmp_path).file("val2017/1.jpg") == tmp_path / "val2017" / "1.jpg"


def test_a_folder_that_is_not_there_is_one_fault(tmp_path):
    (problem,) = ImageFolder(tmp_path / "none").find_faults(tmp_path / "a.json", ["1.jpg", "2.jpg"])
    assert str(problem) == f"{tmp_path / 'none'}: expected a folder with the images, received no such folder"
    assert not ImageFolder(tmp_path).find_faults(tmp_path / "a.json", ["1.jpg"])


def test_shards_without_their_index_are_no_folder_of_images(tmp_path):
    (tmp_path / "images-00000.tfrecord").write_bytes(b"")
    (problem,) = ImageFolder(tmp_path).find_faults(tmp_path / "a.json", ["1.jpg"])
    assert str(problem).startswith(f"{tmp_path / 'shards.json'}: expected the index of the shards, received no such")
    assert "centermask data shard" in str(problem)

"""Events of TensorBoard beyond the point where a run continues go, the others stay as they are."""

import tensorflow as tf

from centermask_keras.training.tensorboard import drop_events, holds_events


def write_events(folder, steps):
    writer = tf.summary.create_file_writer(str(folder))
    with writer.as_default():
        for step in steps:
            tf.summary.scalar("loss", step, step=step)
    writer.close()
    return next(folder.glob("events.out.*"))


def steps_in(path):
    records = tf.data.TFRecordDataset(str(path)).as_numpy_iterator()
    events = [tf.compat.v1.Event.FromString(record) for record in records]
    return [event.step for event in events if event.summary.value]


def test_later_events_go(tmp_path):
    path = write_events(tmp_path, [3, 6, 9, 12])
    drop_events(tmp_path, after=6)
    assert steps_in(path) == [3, 6]
    drop_events(tmp_path / "not there", after=6)


def test_nothing_to_drop_leaves_the_file_alone(tmp_path):
    path = write_events(tmp_path, [3, 6])
    before = path.stat().st_ino
    drop_events(tmp_path, after=6)
    assert path.stat().st_ino == before and steps_in(path) == [3, 6]


def test_a_half_written_event_goes_with_the_later_ones(tmp_path):
    path = write_events(tmp_path, [3, 6, 9])
    path.write_bytes(path.read_bytes()[:-5])
    drop_events(tmp_path, after=3)
    assert steps_in(path) == [3]


def test_what_was_not_written_is_found_out(tmp_path):
    path = write_events(tmp_path, [3, 6, 9])
    content = path.read_bytes()
    assert holds_events(path, start=0, count=4)  # TensorFlow begins with one that says which version it is
    size = len(content)
    assert not holds_events(path, start=0, count=3) and not holds_events(path, start=0, count=5)
    path.write_bytes(content[: size - 5])
    assert not holds_events(path, start=0, count=4)
    path.write_bytes(content[: size - 5] + content)
    assert not holds_events(path, start=0, count=8)

"""A C++ program linked against TensorFlow runs the SavedModel: the nearest to the model server that pip can install."""

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from centermask_keras.extra.in_graph.image_files import NO_IMAGE

SOURCE = Path(__file__).with_name("run_saved_model.cc")


@pytest.fixture(scope="module")
def program(tmp_path_factory) -> Path:
    """Compile the program against the headers and libraries of the installed package."""
    if shutil.which("g++") is None:
        assert not os.environ.get("CI"), "expected a C++ compiler where changes are judged"
        pytest.skip("no C++ compiler")
    path = tmp_path_factory.mktemp("cpp") / "run_saved_model"
    library = tf.sysconfig.get_lib()
    command = ["g++", "-O0", *tf.sysconfig.get_compile_flags(), "-std=c++17", str(SOURCE), "-o", str(path)]
    # As needed, the linker would drop the library whose operations nothing in the program names.
    command += [f"-L{library}", f"-Wl,-rpath,{library}", "-Wl,--no-as-needed"]
    command += ["-l:libtensorflow_cc.so.2", "-l:libtensorflow_framework.so.2"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return path


@pytest.mark.slow
def test_a_cpp_program_runs_the_saved_model(program, nuclei, tmp_path):
    junk = tmp_path / "junk.jpg"
    junk.write_bytes(b"no image")
    paths = [nuclei.images["portrait"], junk, nuclei.images["turned"]]
    done = subprocess.run([program, nuclei.folder / "1", *paths], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    first, error, last = done.stdout.strip().splitlines()
    assert error == NO_IMAGE
    files = tf.constant([path.read_bytes() for path in paths])
    exact = tf.saved_model.load(str(nuclei.folder / "1")).signatures["serving_default"](image_bytes=files)
    scores = np.where(exact["valid"], exact["scores"], 0.0)
    for line, row in ((first, 0), (last, 2)):
        shown, score = line.split()
        assert int(shown) == (scores[row] >= 0.3).sum() >= 20
        np.testing.assert_allclose(float(score), scores[row].max(), atol=1e-5)

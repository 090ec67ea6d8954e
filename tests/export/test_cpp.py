"""A C++ program linked against TensorFlow runs the SavedModel: the nearest to the model server that pip can install."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from centermask_keras.export.image_files import NO_IMAGE
from centermask_keras.inference import load

SOURCE = Path(__file__).with_name("run_saved_model.cc")


@pytest.fixture(scope="module")
def program(tmp_path_factory) -> Path:
    """Compile the program against the headers and libraries of the installed package."""
    if shutil.which("g++") is None:
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
    predictor = load(nuclei.folder)
    for line, path in ((first, paths[0]), (last, paths[2])):
        (expected,) = predictor.predict(path, score_threshold=0.0)
        valid, score = line.split()
        assert abs(int(valid) - len(expected)) <= 3 and len(expected) >= 20  # a peak more or less in the noise
        np.testing.assert_allclose(float(score), expected.scores[0], atol=1e-3)

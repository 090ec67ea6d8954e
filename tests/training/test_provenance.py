"""What `run.json` says of the code that ran; the rest of it is looked at in `test_fit.py`."""

import subprocess

from centermask_keras.training import provenance


def git(folder, *arguments):
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    return subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout


def test_commit_of_a_checkout_and_its_changes(tmp_path):
    assert provenance._git_commit(tmp_path) is None
    git(tmp_path, "init", "-q")
    assert provenance._git_commit(tmp_path) is None  # without a commit
    (tmp_path / "a.py").write_text("1")
    git(tmp_path, "add", "a.py")
    git(tmp_path, "commit", "-qm", "a")
    commit = git(tmp_path, "rev-parse", "HEAD").strip()
    assert provenance._git_commit(tmp_path) == commit
    (tmp_path / "b.py").write_text("2")
    assert provenance._git_commit(tmp_path) == commit
    (tmp_path / "a.py").write_text("2")
    assert provenance._git_commit(tmp_path) == commit + "+changes"

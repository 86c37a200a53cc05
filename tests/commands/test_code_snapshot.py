"""The code of a run: its revision, what was changed, a copy."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from commands import code_snapshot
from commands.code_snapshot import copy_code, current_revision, record_revision


def git(home: Path, *words: str) -> str:
    identity = ("-c", "user.name=a", "-c", "user.email=a@b")
    return subprocess.run(
        ["git", "-C", str(home), *identity, *words], check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A checkout with one commit."""
    folder = tmp_path / "home"
    for name in ("imago", "lightning_modules", "datamodules", "callbacks", "commands", "conf", "hydra_plugins"):
        (folder / name / "__pycache__").mkdir(parents=True)
        (folder / name / "a.py").write_text("a = 1\n")
        (folder / name / "__pycache__" / "a.pyc").write_text("")
    (folder / "train.py").write_text("train\n")
    (folder / ".gitignore").write_text("__pycache__/\nruns/\n")
    git(folder, "init", "-q")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "first")
    return folder


def test_unchanged_code_is_its_commit(home):
    revision = current_revision(home)
    assert revision.revision == git(home, "rev-parse", "HEAD")
    assert revision.diff == ""
    assert revision.name == revision.revision[:10]


def test_changes_and_new_files_make_a_patch_that_git_applies(home, tmp_path):
    (home / "imago" / "a.py").write_text("a = 2\n")
    (home / "imago" / "new.py").write_text("b = 1\nc = 2\n")
    (home / "runs").mkdir()
    (home / "runs" / "big.py").write_text("not code")
    revision = current_revision(home)
    assert revision.name.endswith("+")
    other = tmp_path / "other"
    git(tmp_path, "clone", "-q", str(home), str(other))
    (tmp_path / "patch").write_text(revision.diff)
    git(other, "apply", str(tmp_path / "patch"))
    for name in ("a.py", "new.py"):
        assert (other / "imago" / name).read_text() == (home / "imago" / name).read_text()
    assert not (other / "runs").exists()


def test_code_without_git_is_unknown(tmp_path):
    assert current_revision(tmp_path).name == "unknown"


def test_git_that_does_not_answer_costs_the_revision_only(home, tmp_path, monkeypatch):
    (tmp_path / "git").write_text("#!/bin/sh\nexec sleep 60\n")
    (tmp_path / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(code_snapshot, "_PATIENCE", 0.2)
    assert current_revision(home).name == "unknown"


def test_environment_inside_of_another_repository_is_not_taken_for_it(home):
    assert current_revision(home / "imago").name == "unknown"


def test_every_start_is_a_line_and_changes_are_kept_once(home, tmp_path):
    (home / "train.py").write_text("changed\n")
    run = tmp_path / "run"
    run.mkdir()
    for images_seen in (0, 100):
        record_revision(run, current_revision(home), images_seen=images_seen)
    lines = [json.loads(line) for line in (run / "starts.jsonl").read_text().splitlines()]
    assert [line["images_seen"] for line in lines] == [0, 100]
    (changes,) = run.glob("changes-*.diff")
    assert [line["changes"] for line in lines] == [changes.name] * 2
    assert "+changed" in changes.read_text()


def test_copy_is_the_code_with_its_revision_and_stays_as_it_is(home, tmp_path, caplog):
    before = current_revision(home)
    copy = copy_code(tmp_path / "code", home)
    (home / "train.py").write_text("edited later\n")
    assert caplog.text == ""
    assert copy_code(tmp_path / "code", home) == copy
    assert f"jobs run the code that was copied to {copy} before ({before.name}), not what is here now" in caplog.text
    assert (copy / "train.py").read_text() == "train\n"
    assert (copy / "imago" / "a.py").exists()
    assert not (copy / "imago" / "__pycache__").exists()
    assert current_revision(copy) == before

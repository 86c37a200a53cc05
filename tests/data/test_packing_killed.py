"""A pack that is killed, again and again, against one that is not."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from imago.data import pack
from imago.data.sources.folder import FolderSource

SCRIPT = """
import sys, time
from imago.data import pack, pack_writer
from imago.data.sources.folder import FolderSource

if __name__ == "__main__":
    pack_writer.COMMIT_SECONDS = 0.0
    folder, out, workers = sys.argv[1:]
    # Slowed down, so that the kill falls in the middle of the work whatever the machine.
    pack(FolderSource(folder), out, resolution=512, zip_from=256, workers=int(workers),
         progress=lambda done, total: time.sleep(0.05))
"""


def alive(process: int) -> bool:
    try:
        with open(f"/proc/{process}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("workers", [1, 2])
def test_killed_packs_continue_to_the_same_bytes(photo_folder: Path, tmp_path: Path, contents, workers: int):
    whole = pack(FolderSource(photo_folder), tmp_path / "whole", resolution=512, zip_from=256)
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    journal = tmp_path / "out.partial" / "journal.jsonl"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, str(script), str(photo_folder), str(tmp_path / "out"), str(workers)]
    for lines in (2, 3):
        process = subprocess.Popen(command, env=environment)
        deadline = time.monotonic() + 60
        while not journal.exists() or journal.read_bytes().count(b"\n") < lines:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.002)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        workers_left = [int(child) for child in children.read_text().split()] if children.exists() else []
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not (tmp_path / "out").exists()
        while any(alive(worker) for worker in workers_left):  # they must notice that nobody waits for them
            assert time.monotonic() < deadline
            time.sleep(0.01)
    assert not (tmp_path / "out.partial" / "dataset.json").exists()
    started_with = journal.read_bytes()
    resumed = pack(FolderSource(photo_folder), tmp_path / "out", resolution=512, zip_from=256)
    assert started_with.count(b"\n") >= 3
    assert contents(resumed.path) == contents(whole.path)

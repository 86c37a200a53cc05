"""The code that a run is made with: its git revision, what was changed since, and copies for jobs that wait."""

import json
import logging
import os
import shutil
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path

logger = logging.getLogger("imago")

HOME = Path(__file__).resolve().parents[1]
_FOLDERS = ("imago", "lightning_modules", "datamodules", "callbacks", "commands", "conf", "hydra_plugins")
_RECORD = "revision.json"  # of a copy of the code
_LARGEST_DIFF = 4_000_000  # bytes
_PATIENCE = 60.0  # seconds that git has for an answer


@dataclass(frozen=True)
class Revision:
    """What the code is.

    Attributes:
        revision: The git commit; None: the code is not in a git repository.
        diff: What was changed since, new files included, as ``git diff`` has it; "" if nothing.
    """

    revision: str | None
    diff: str = ""

    @property
    def name(self) -> str:
        """The first characters of the commit, with a plus sign if the code was changed since."""
        return "unknown" if self.revision is None else f"{self.revision[:10]}{'+' * bool(self.diff)}"


def current_revision(home: Path = HOME) -> Revision:
    """Of the code that runs: asked of git, or read from the record of a copy."""
    try:
        return Revision(**json.loads((home / _RECORD).read_text()))
    except FileNotFoundError:
        pass
    try:
        if Path(_git(home, "rev-parse", "--show-toplevel").strip()) != home:
            return Revision(None)  # installed into an environment that lies in somebody's repository
        commit = _git(home, "rev-parse", "HEAD").strip()
        diff = _git(home, "diff", "HEAD")
        new = _git(home, "ls-files", "--others", "--exclude-standard", "--", *_FOLDERS, "*.py").splitlines()
        if new:
            diff += "".join(_as_new_file(home, name) for name in new)
    except (OSError, subprocess.SubprocessError):  # no git, no repository, or one that does not answer
        return Revision(None)
    if len(diff) > _LARGEST_DIFF:
        diff = diff[:_LARGEST_DIFF] + "\n… cut off\n"
    return Revision(commit, diff)


def record_revision(run_dir: Path, revision: Revision, **start: object) -> None:
    """Adds a line to ``starts.jsonl`` in a run directory, and keeps what was changed since the commit.

    Args:
        run_dir: The run directory.
        revision: Of the code.
        **start: What else is to be known of this start.

    Raises:
        OSError: The disk is full or not writable.
    """
    changes = None
    if revision.diff:
        import hashlib

        changes = f"changes-{hashlib.sha256(revision.diff.encode()).hexdigest()[:10]}.diff"
        (run_dir / changes).write_text(revision.diff)
    line = {"revision": revision.revision, "changes": changes, **start}
    with open(run_dir / "starts.jsonl", "a") as file:
        file.write(json.dumps(line) + "\n")


def copy_code(folder: Path, home: Path = HOME) -> Path:
    """Copies the code that runs, for jobs that begin later: what is edited meanwhile does not reach them.

    Args:
        folder: Where to; a copy that is there already is kept.
        home: The code.

    Returns:
        ``folder``.
    """
    revision = current_revision(home)
    if (folder / _RECORD).exists():
        copied = current_revision(folder)
        if copied != revision:
            logger.warning(
                "jobs run the code that was copied to %s before (%s), not what is here now (%s); remove that folder to "
                "have it copied again",
                folder,
                copied.name,
                revision.name,
            )
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    ignored = shutil.ignore_patterns("__pycache__", "*.pyc")
    for name in _FOLDERS:
        shutil.copytree(home / name, folder / name, ignore=ignored)
    for path in home.glob("*.py"):
        shutil.copy2(path, folder / path.name)
    (folder / _RECORD).write_text(json.dumps(asdict(revision)))
    return folder


def _git(home: Path, *arguments: str) -> str:
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
    done = subprocess.run(
        ["git", "-C", str(home), *arguments], capture_output=True, check=True, env=environment, timeout=_PATIENCE
    )
    return done.stdout.decode(errors="replace")


def _as_new_file(home: Path, name: str) -> str:
    try:
        lines = (home / name).read_text().splitlines()
    except (OSError, UnicodeDecodeError):
        return f"Binary file {name} is new\n"
    return f"--- /dev/null\n+++ b/{name}\n@@ -0,0 +1,{len(lines)} @@\n" + "".join(f"+{line}\n" for line in lines)

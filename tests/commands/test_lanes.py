"""Commands beside each other, with small programs in place of imago's own."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from commands import lanes
from commands.lanes import Command, run_lanes
from imago.errors import UserError
from training_runs import REPOSITORY

PROGRAMS = {
    "note": "import sys, time, pathlib; pathlib.Path(sys.argv[1]).open('a').write(f'{sys.argv[2]} {time.time()}\\n')",
    "wait": "import sys, time; print('waiting', flush=True); time.sleep(60)",
    "fail": "import sys; print('so far'); print('error: it is broken', file=sys.stderr); sys.exit(2)",
    "die": "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
    "threads": "import os; print(os.environ['OMP_NUM_THREADS'])",
    "stubborn": "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); print('deaf', flush=True); "
    "time.sleep(60)",
}


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    """A place with these programs, where run_lanes looks for imago's."""
    for name, text in PROGRAMS.items():
        (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.setattr(lanes, "_HOME", tmp_path)
    return tmp_path


def test_a_lane_is_in_order_and_lanes_are_at_once(home, tmp_path):
    meeting = (
        "import sys, time, pathlib\n"
        "mine, other = map(pathlib.Path, sys.argv[1:])\n"
        "mine.touch()\n"
        "while not other.exists(): time.sleep(0.01)\n"  # ends only if the other one is there at the same time
    )
    (home / "meet.py").write_text(meeting)
    a, b, notes = (str(tmp_path / name) for name in ("a", "b", "notes"))
    run_lanes(
        [
            [Command("x", "note", [notes, "first"]), Command("x", "meet", [a, b]), Command("x", "note", [notes, "x"])],
            [Command("y", "meet", [b, a])],
        ],
        lambda line: None,
    )
    assert [line.split()[0] for line in Path(notes).read_text().splitlines()] == ["first", "x"]


def test_lines_bear_the_name_of_their_command(home):
    said: list[str] = []
    with pytest.raises(UserError, match=r"^low: it is broken$"):
        run_lanes([[Command("low", "fail", ["a=1"])]], said.append)
    assert said[0] == "$ python fail.py a=1"
    assert "low    so far" in said


def test_when_one_fails_the_others_end(home):
    began = time.monotonic()
    with pytest.raises(UserError, match="broken"):
        run_lanes([[Command("a", "wait", [])], [Command("b", "fail", []), Command("b", "wait", [])]], lambda line: None)
    assert time.monotonic() - began < 20


def test_a_command_that_is_killed_is_told(home):
    with pytest.raises(UserError, match="a: ended with signal 9"):
        run_lanes([[Command("a", "die", [])]], lambda line: None)


def test_one_that_does_not_listen_is_killed(home, monkeypatch):
    monkeypatch.setattr(lanes, "_PATIENCE", 0.2)

    def tell(line: str) -> None:
        if "deaf" in line:
            raise KeyboardInterrupt

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run_lanes([[Command("a", "stubborn", [])]], tell)
    assert time.monotonic() - began < 20


@pytest.mark.parametrize(("given", "expected"), [(None, {1, 2}), ("3", {3})])
def test_lanes_share_the_cores(home, monkeypatch, given, expected):
    monkeypatch.setattr(lanes, "_cores", lambda: 2)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if given:
        monkeypatch.setenv("OMP_NUM_THREADS", given)
    seen = set()
    for count in (1, 2):
        said: list[str] = []
        run_lanes([[Command("a", "threads", [])]] * count, said.append)
        numbers = {int(line.split()[1]) for line in said if line.startswith("a") and line.split()[1].isdigit()}
        assert len(numbers) == 1
        seen |= numbers
    assert seen == expected


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_nothing_outlives_it(home, sent, code):
    """A process of its own is sent a signal; the command that it has started must be gone."""
    starter = (
        f"import signal, sys; sys.path[:0] = [{str(REPOSITORY)!r}]\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # ignored, where a script runs the tests
        "from pathlib import Path\n"
        "from commands import lanes\n"
        f"lanes._HOME = Path({str(home)!r})\n"
        "try:\n"
        "    lanes.run_lanes([[lanes.Command('a', 'pid', [])]], lambda line: print(line, flush=True))\n"
        "except KeyboardInterrupt:\n"
        "    sys.exit(130)\n"
    )
    (home / "pid.py").write_text("import os, time; print(os.getpid(), flush=True); time.sleep(60)")
    process = subprocess.Popen([sys.executable, "-c", starter], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()  # the command
    child = int(process.stdout.readline().split()[1])
    process.send_signal(sent)
    assert process.wait(30) == code
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)

"""Ctrl-C before a command has begun."""

import os
import signal
import subprocess
import sys

import pytest

from training_runs import REPOSITORY

# In the place of a package that all of them import: the interrupt comes while it is being imported.
INTERRUPT = "import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(30)\n"


def run(words, handler=signal.SIG_DFL, **environment):
    """A program as it is started from a terminal, or with SIG_IGN in the background, whatever has started the tests."""
    return subprocess.run(
        [sys.executable, *words],
        cwd=REPOSITORY,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        preexec_fn=lambda: signal.signal(signal.SIGINT, handler),
    )


@pytest.mark.parametrize("command", ["train", "generate", "prepare", "evaluate", "upres"])
def test_interrupt_while_importing_is_one_line(tmp_path, command):
    (tmp_path / "hydra.py").write_text(INTERRUPT)  # the folder of the script comes first, but holds no hydra
    result = run([f"{command}.py"], PYTHONPATH=str(tmp_path))
    assert (result.stderr, result.returncode) == ("error: interrupted\n", 130)


def test_afterwards_it_raises_as_always():
    program = (
        "import os, signal\nfrom commands.early_interrupt import *\nend_at_once()\nraise_again()\n"
        "try:\n os.kill(os.getpid(), signal.SIGINT)\nexcept KeyboardInterrupt:\n print('raised')\n"
    )
    assert run(["-c", program]).stdout == "raised\n"


def test_background_job_goes_on_ignoring_it():
    program = (
        "import os, signal\nfrom commands.early_interrupt import *\nend_at_once()\nraise_again()\n"
        "os.kill(os.getpid(), signal.SIGINT)\nprint('goes on')\n"
    )
    assert run(["-c", program], signal.SIG_IGN).stdout == "goes on\n"

"""A Slurm cluster of two nodes on this machine, for tests: no accounts, no data base, ports of its own."""

import getpass
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from training_runs import REPOSITORY, TINY

# About half a minute of steps, so that there is something to interrupt.
LONG = (
    *TINY,
    "total_images=4800",
    "growth.final_images=100000",
    "callbacks.scalar_log.every_images=800",
    "callbacks.snapshot.every_images=800",
    "callbacks.sample_grid=null",
    "callbacks.process_watch.lost_after_seconds=8",
)

NODES = ("n1", "n2")

_CONFIGURATION = """
ClusterName=local
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/none
CredType=cred/none
# A requeued job waits for so long, by default two minutes. It has to be longer than the 12 s that the srun of its first
# start may live on (linuxproc loses sight of it when the script ends first): its farewell would cancel the new step.
# Twice as long, because it lives longer where other work keeps the cores busy.
AuthInfo=cred_expire=24
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd-%n.log
SlurmctldPort={ports[0]}
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
SlurmdParameters=config_overrides
KillWait=10
InactiveLimit=0
# A dead node is noticed after so long, by default five minutes.
SlurmdTimeout=10
SlurmctldParameters=preempt_send_user_signal
SchedulerParameters=bf_interval=3
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=2 State=UNKNOWN
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=2 State=UNKNOWN
PartitionName=main Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> str | None:
    """What keeps a cluster from starting here; None: nothing."""
    programs = [name for name in ("slurmctld", "slurmd", "sbatch", "srun", "scontrol") if shutil.which(name) is None]
    return f"Slurm is not installed ({', '.join(programs)}); on Debian: apt-get install slurm-wlm" if programs else None


class Cluster:
    """Two nodes, one process or two on each.

    Args:
        folder: For its state and logs.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("state", "log"):
            (folder / name).mkdir(parents=True)
        ports = _free_ports(3)
        text = _CONFIGURATION.format(host=socket.gethostname(), user=getpass.getuser(), folder=folder, ports=ports)
        (folder / "slurm.conf").write_text(text)
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("SLURM")},
            "SLURM_CONF": str(folder / "slurm.conf"),
            "MASTER_ADDR": "127.0.0.1",  # the names of the nodes are known to Slurm alone
            "OMP_NUM_THREADS": "1",
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(REPOSITORY),
            "WANDB_MODE": "offline",
        }

    def start(self) -> None:
        """Starts the daemons and waits for the nodes."""
        self.run("slurmctld")
        for node in NODES:
            self.run("slurmd", "-N", node)
        self.wait_for(lambda: self.run("sinfo", "-h", "-o", "%T %D").split() == ["idle", "2"], 60)

    def stop(self) -> None:
        """Ends all jobs, and the daemons."""
        subprocess.run(["scancel", "--user", getpass.getuser()], env=self.environment, check=False)
        time.sleep(1)
        for path in self.folder.glob("*.pid"):
            _kill(int(path.read_text()))
        for node in NODES:
            self._kill_processes(node)

    def run(self, *words: str, cwd: Path = REPOSITORY) -> str:
        """What a command prints; it must succeed."""
        done = subprocess.run(words, cwd=cwd, env=self.environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, f"{words}: {done.stderr}"
        return done.stdout

    def submit(self, *words: str) -> str:
        """Submits a batch script; returns the job's number."""
        return self.run("sbatch", "--parsable", *words).strip()

    def state(self, job: str) -> str:
        """PENDING, RUNNING, COMPLETED, FAILED …"""
        shown = self.run("scontrol", "show", "job", job)
        return shown.partition("JobState=")[2].split()[0]

    def jobs(self) -> set[str]:
        """The numbers of the jobs that Slurm remembers; it forgets an ended one after five minutes."""
        return set(re.findall(r"\bJobId=(\d+)", self.run("scontrol", "-o", "show", "job")))

    def restarts(self, job: str) -> int:
        """How often a job was requeued."""
        return int(self.run("scontrol", "show", "job", job).partition("Restarts=")[2].split()[0])

    def wait(self, job: str, seconds: float = 180) -> str:
        """The state that a job ends in."""
        self.wait_for(lambda: self.state(job) not in ("PENDING", "RUNNING", "COMPLETING", "CONFIGURING"), seconds)
        return self.state(job)

    @staticmethod
    def wait_for(happened: Callable[[], bool], seconds: float) -> None:
        """Waits for something."""
        patience = time.monotonic() + seconds
        while not happened():
            assert time.monotonic() < patience, "it did not happen"
            time.sleep(0.3)

    def kill_node(self, node: str) -> None:
        """What a power cut does to a node: its daemon and all of its processes are gone at once."""
        _kill(int((self.folder / f"slurmd-{node}.pid").read_text()))
        self._kill_processes(node)

    def revive_node(self, node: str) -> None:
        """The node is there again."""
        self.run("slurmd", "-N", node)

    def kill_tasks(self, node: str) -> None:
        """Kills the processes of jobs on a node, and nothing else there."""
        for task in self._tasks(node):
            if _name(task).startswith("python"):
                _kill(task)

    def _kill_processes(self, node: str) -> None:
        """Kills the tasks that run on a node, and what has started them."""
        tasks = self._tasks(node)
        for task in tasks:
            parent = _parent(task)
            if parent is not None and _name(parent).startswith("slurmstepd"):
                _kill(parent)
        for task in tasks:
            _kill(task)

    def _tasks(self, node: str) -> list[int]:
        wanted = f"SLURMD_NODENAME={node}".encode()
        configuration = f"SLURM_CONF={self.folder / 'slurm.conf'}".encode()
        tasks = []
        for path in Path("/proc").glob("[0-9]*"):
            try:
                environment = (path / "environ").read_bytes().split(b"\0")
            except OSError:
                continue
            if wanted in environment and configuration in environment:
                tasks.append(int(path.name))
        return tasks


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def _kill(process: int) -> None:
    try:
        os.kill(process, signal.SIGKILL)
    except ProcessLookupError:
        return


def _parent(process: int) -> int | None:
    try:
        return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return None


def _name(process: int) -> str:
    try:
        return Path(f"/proc/{process}/comm").read_text().strip()
    except OSError:
        return ""

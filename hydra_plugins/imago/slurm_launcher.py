"""Jobs of a sweep on a Slurm cluster: hydra-submitit-launcher that checks first, copies the code and counts failures.

Needs ``imago[slurm]``.
"""

import copy
import logging
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus, filter_overrides
from omegaconf import OmegaConf

from commands.app import SweepError, job_failed, tell
from commands.code_snapshot import copy_code
from commands.config_checks import check_config, without_hydra
from imago.errors import MissingDependencyError

try:
    from hydra_plugins.hydra_submitit_launcher.config import BaseQueueConf
    from hydra_plugins.hydra_submitit_launcher.submitit_launcher import SlurmLauncher as PluginLauncher
except ModuleNotFoundError:  # Hydra looks through this package whether jobs are submitted or not
    PluginLauncher = object

logger = logging.getLogger("imago")

_OWN = ("copy_code", "wait", "poll_seconds")  # options that submitit does not know
_UNSEEN = 3  # looks at the queue without a job in it, after which it is gone


class SlurmLauncher(PluginLauncher):
    """Submits the jobs of a sweep as one array and waits for them; options as in conf/launcher_schema.py.

    Differences to the plugin's: what does not fit is refused before anything is submitted; jobs run a copy of the code;
    a job that fails does not stop the rest, and Slurm sees that it failed (hydra #1377, #1928); no ``sacct`` is needed.
    """

    def __init__(self, **params: Any) -> None:
        self.options = {name: params.pop(name) for name in _OWN if name in params}
        super().__init__(**params)

    def __call__(self, *args: Any) -> JobReturn:
        """In the job: runs it, and fails if it fails."""
        result = super().__call__(*args)
        if result.status != JobStatus.COMPLETED:
            raise result._return_value
        return result

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Submits the jobs; with ``wait``, until all of them have ended.

        Raises:
            UserError: Nodes and tasks do not fit the trainer's, or there is no Slurm here.
        """
        assert self.config is not None
        self._check(job_overrides, initial_job_idx)
        sweep_dir = Path(str(self.config.hydra.sweep.dir)).absolute()
        sweep_dir.mkdir(parents=True, exist_ok=True)
        submitted = copy.copy(self)  # what is pickled and runs in the job
        submitted.params = dict(self.params, setup=self._setup(sweep_dir))
        arguments = [
            (list(overrides), "hydra.sweep.dir", number, f"job_id_for_{number}", Singleton.get_state())
            for number, overrides in enumerate(job_overrides, initial_job_idx)
        ]
        executor = _executor(submitted.params)
        try:
            jobs = executor.map_array(submitted, *zip(*arguments, strict=True))
        except RuntimeError as error:  # submitit's FailedJobError: sbatch refused, a partition that is not there, say
            told = [line for line in str(error).splitlines() if line.strip()]
            raise SweepError(f"nothing was submitted: {told[-1] if told else 'sbatch failed'}") from error
        for number, (job, overrides) in enumerate(zip(jobs, job_overrides, strict=True), initial_job_idx):
            logger.info("job %d is %s: %s", number, job.job_id, " ".join(filter_overrides(overrides)))
        logger.info("run directories, logs and code in %s", sweep_dir)
        if not self.options.get("wait", True):
            return [JobReturn(status=JobStatus.COMPLETED, _return_value=None) for _ in jobs]
        try:
            return self._results(jobs, initial_job_idx)
        except KeyboardInterrupt:
            numbers = " ".join(sorted(_queue(jobs) or {job.job_id for job in jobs}))
            tell(f"interrupted; the jobs go on without this command, and end by: scancel {numbers}", None)
            sys.exit(130)

    def _check(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> None:
        """Composes each job's configuration, and compares what is asked of Slurm with what will train there."""
        if shutil.which("sbatch") is None or shutil.which("srun") is None:
            raise SweepError("sbatch was not found: jobs are submitted from a machine of the cluster")
        assert self.hydra_context is not None
        shapes = set()
        for number, overrides in enumerate(job_overrides, initial_job_idx):
            config = self.hydra_context.config_loader.load_sweep_config(self.config, list(overrides))
            HydraConfig.instance().set_config(config)  # names of runs are made of it
            check_config(without_hydra(config))
            trainer = config.get("trainer")
            shapes.add(None if trainer is None else (trainer.num_nodes, str(trainer.devices)))
            if len(shapes) > 1:
                raise SweepError(
                    "the jobs of one sweep are one array, of as many nodes and tasks each: give each number of "
                    "trainer.num_nodes and trainer.devices a command of its own"
                )
            asked = (self.params["nodes"], self.params["tasks_per_node"])
            wanted = (1, 1) if trainer is None else (trainer.num_nodes, _devices(trainer.devices))
            if asked != wanted:
                raise SweepError(
                    f"job {number}: Slurm is asked for nodes={asked[0]} and tasks_per_node={asked[1]}, the trainer has "
                    f"trainer.num_nodes={wanted[0]} and trainer.devices={wanted[1]}; the two must agree: "
                    "launcher=slurm_multinode takes the trainer's"
                )

    def _setup(self, sweep_dir: Path) -> list[str]:
        """Shell lines that come before ``srun`` in a job."""
        lines = list(self.params.get("setup") or [])
        if self.options.get("copy_code", True):
            folder = shlex.quote(str(copy_code(sweep_dir / "code")))
            lines += [f"export PYTHONPATH={folder}${{PYTHONPATH:+:$PYTHONPATH}}", "export PYTHONSAFEPATH=1"]
        return lines

    def _results(self, jobs: Sequence[Any], initial_job_idx: int) -> list[JobReturn]:
        waiting, unseen = dict(enumerate(jobs)), dict.fromkeys(range(len(jobs)), 0)
        results: dict[int, JobReturn] = {}
        while waiting:
            queue = _queue(jobs)
            for i, job in list(waiting.items()):
                tasks = [job.task(k) for k in range(job.num_tasks)]
                if queue is not None and job.job_id in queue:  # results that are there may be of an earlier start
                    unseen[i] = 0
                    continue
                ended = all(task.paths.result_pickle.exists() for task in tasks)
                unseen[i] += queue is not None
                if not ended and unseen[i] < _UNSEEN:
                    continue
                del waiting[i]
                results[i] = self._result(job, initial_job_idx + i)
            if waiting:
                time.sleep(float(self.options.get("poll_seconds", 5.0)))
        return [results[i] for i in range(len(jobs))]

    def _result(self, job: Any, number: int) -> JobReturn:
        tasks = [job.task(k) for k in range(job.num_tasks)]
        try:
            if all(task.paths.result_pickle.exists() for task in tasks):
                return job.results()[0]
            reason = "ended without a result: cancelled, out of memory, or killed"
        except Exception:  # submitit's FailedJobError, with the traceback of the job
            reason = "failed"
        print(f"job {number} ({job.job_id}): {_said(job) or reason}; log: {job.paths.stderr}", file=sys.stderr)
        job_failed(number)
        return JobReturn(status=JobStatus.COMPLETED, _return_value=None)


def _executor(params: dict[str, Any]) -> Any:
    try:
        import submitit
    except ModuleNotFoundError as error:
        raise MissingDependencyError("submitit", "to submit jobs", "slurm") from error
    executor = submitit.AutoExecutor(
        folder=params["submitit_folder"], cluster="slurm", slurm_max_num_timeout=params["max_num_timeout"]
    )
    shared = set(OmegaConf.structured(BaseQueueConf).keys())
    executor.update_parameters(
        **{
            name if name in shared else f"slurm_{name}": value
            for name, value in params.items()
            if name not in ("submitit_folder", "max_num_timeout")
        }
    )
    return executor


def _queue(jobs: Sequence[Any]) -> set[str] | None:
    """The jobs that are in the queue; None: it could not be asked."""
    ids = ",".join(sorted({job.job_id.partition("_")[0] for job in jobs}))
    try:
        done = subprocess.run(["squeue", "-h", "-r", "-j", ids, "-o", "%i"], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None
    if done.returncode and "Invalid job id" not in done.stderr:
        return None
    return set(done.stdout.split())


def _said(job: Any) -> str | None:
    """The line by which a command told its mistake."""
    try:
        lines = Path(job.paths.stderr).read_text(errors="replace").splitlines()
    except OSError:
        return None
    told = (line.removeprefix("error: ") for line in reversed(lines) if line.startswith("error: "))
    return next(told, None)


def _devices(devices: Any) -> int:
    if isinstance(devices, Sequence) and not isinstance(devices, str):
        return len(devices)
    if not str(devices).isdigit():
        raise SweepError(f"trainer.devices={devices}: on a cluster, give the number of devices of each node")
    return int(devices)

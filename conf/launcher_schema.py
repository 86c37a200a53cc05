"""The options of jobs on a Slurm cluster: those of hydra-submitit-launcher, and imago's own."""

from dataclasses import dataclass

from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins


def register() -> None:
    """Puts imago's launcher in the place of ``hydra/launcher=submitit_slurm``, where the plugin is installed."""
    Plugins.instance()  # registers the plugin's own option, once
    try:
        from hydra_plugins.hydra_submitit_launcher.config import SlurmQueueConf
    except ModuleNotFoundError:
        return

    @dataclass
    class SlurmJobs(SlurmQueueConf):
        _target_: str = "hydra_plugins.imago.slurm_launcher.SlurmLauncher"
        max_num_timeout: int = 100  # a job that met its time limit is requeued so often
        copy_code: bool = True  # jobs run the code as it is now, from a copy in the sweep's directory
        wait: bool = True  # for the jobs to end; false: submit and return
        poll_seconds: float = 5.0  # how often the queue is looked at

    ConfigStore.instance().store(group="hydra/launcher", name="submitit_slurm", node=SlurmJobs, provider="imago")

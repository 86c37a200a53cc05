"""The options of ``sweep=optuna``: those of hydra-optuna-sweeper, and the pruner."""

from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from omegaconf import MISSING

# Their steps are images_seen.
_PRUNERS: dict[str, dict[str, Any]] = {
    "none": {"_target_": "optuna.pruners.NopPruner"},
    "median": {"_target_": "optuna.pruners.MedianPruner", "n_startup_trials": 5, "n_warmup_steps": 0},
    "hyperband": {"_target_": "optuna.pruners.HyperbandPruner", "min_resource": 50_000, "reduction_factor": 3},
    "threshold": {"_target_": "optuna.pruners.ThresholdPruner", "lower": None, "upper": None, "n_warmup_steps": 0},
}


def register() -> None:
    """Puts imago's sweeper in the place of ``hydra/sweeper=optuna``, where the plugin is installed."""
    Plugins.instance()  # registers the plugin's own option, once
    try:
        from hydra_plugins.hydra_optuna_sweeper.config import OptunaSweeperConf
    except ModuleNotFoundError:
        return

    @dataclass
    class OptunaStudy(OptunaSweeperConf):
        _target_: str = "hydra_plugins.imago.optuna_sweeper.OptunaSweeper"
        n_jobs: int = 1
        max_failure_rate: float = 1.0  # a trial that fails does not stop the rest
        defaults: list[Any] = field(default_factory=lambda: [{"sampler": "tpe"}, {"pruner": "median"}])
        pruner: Any = MISSING  # of optuna.pruners: stops hopeless runs; hydra/sweeper/pruner=… chooses one

    store = ConfigStore.instance()
    store.store(group="hydra/sweeper", name="optuna", node=OptunaStudy, provider="imago")
    for name, pruner in _PRUNERS.items():
        store.store(group="hydra/sweeper/pruner", name=name, node=pruner, provider="imago")

"""Trials of an Optuna study as jobs: hydra-optuna-sweeper whose trials can be pruned and whose study can be shared.

Needs ``imago[sweep]``.
"""

from typing import Any

from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

try:
    from hydra_plugins.hydra_optuna_sweeper.optuna_sweeper import OptunaSweeper as PluginSweeper
except ModuleNotFoundError:  # Hydra looks through this package whether there is a study or not
    PluginSweeper = object  # type: ignore[assignment,misc]


class OptunaSweeper(PluginSweeper):
    """The sweeper of ``sweep=optuna``; options as in conf/sweeper_schema.py."""

    def __init__(self, pruner: Any = None, **options: Any) -> None:
        from commands.optuna_study import Study

        self.sweeper = Study(pruner, **options)

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Called by Hydra."""
        self.sweeper.setup(hydra_context=hydra_context, task_function=task_function, config=config)

    def sweep(self, arguments: list[str]) -> None:
        """Called by Hydra with the overrides of the command."""
        self.sweeper.sweep(arguments)

"""Features of two sets of images, as they come in batches and on several processes."""

from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities.data import dim_zero_cat

from imago.errors import UserError
from imago.metrics.checks import check_features


class FeatureSetsMetric(Metric):
    """Keeps the features of real and of generated images, for metrics that compare them one by one.

    Args:
        reset_real: Whether :meth:`reset` forgets the real features, too. False: several checkpoints are compared with
            one real set.
    """

    full_state_update = False
    is_differentiable = False
    real: list[Tensor]
    fake: list[Tensor]

    def __init__(self, reset_real: bool = True) -> None:
        super().__init__()
        self.reset_real = reset_real
        self.add_state("real", [], dist_reduce_fx="cat")
        self.add_state("fake", [], dist_reduce_fx="cat")

    def update(self, features: Tensor, real: bool) -> None:
        """Adds floating point features ``(N, D)``; `real` says to which set."""
        (self.real if real else self.fake).append(check_features(features).detach().to(self.device))

    def sets(self, missing: str) -> tuple[Tensor, Tensor]:
        """All real and all generated features.

        Args:
            missing: What to say where one of the sets is empty.

        Raises:
            UserError: It is.
        """
        if not len(self.real) or not len(self.fake):
            raise UserError(missing)
        return dim_zero_cat(self.real), dim_zero_cat(self.fake)

    def reset(self) -> None:
        """Forgets all features, or with ``reset_real=False`` the generated ones."""
        kept = {} if self.reset_real else {"real": self._defaults.pop("real")}  # without a default: left as it is
        super().reset()
        self._defaults.update(kept)

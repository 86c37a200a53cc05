"""The options of every loss: ``loss=…``."""

from dataclasses import dataclass

from omegaconf import MISSING


@dataclass
class LossConfig:
    """What all losses have: penalties, of which any may be added to any loss."""

    _target_: str = MISSING
    gradient_penalty: float = 0.0  # weight of (‖∇D‖ − target)²/target² between reals and fakes
    gradient_target: float = 1.0
    r1: float = 0.0  # weight of ½‖∇D‖² at reals
    r2: float = 0.0  # the same at fakes
    drift: float = 0.0  # weight of D(real)²
    penalty_interval: int = 1  # take the gradient penalties in every n-th step only, n times as strong


@dataclass
class MinimaxLoss(LossConfig):
    _target_: str = "imago.losses.Minimax"


@dataclass
class NonSaturatingLoss(LossConfig):
    _target_: str = "imago.losses.NonSaturating"


@dataclass
class HingeLoss(LossConfig):
    _target_: str = "imago.losses.Hinge"


@dataclass
class LsganLoss(LossConfig):
    _target_: str = "imago.losses.Lsgan"
    noise: float = 0.2  # of the adaptive noise in the discriminator; 0: none
    real_target: float = 1.0
    fake_target: float = 0.0
    real_weight: float = 0.5
    fake_weight: float = 0.5


@dataclass
class WganLoss(LossConfig):
    _target_: str = "imago.losses.Wgan"
    clip: float = 0.01  # weights stay within ± this


@dataclass
class WganGpLoss(LossConfig):
    _target_: str = "imago.losses.WganGp"
    gradient_penalty: float = 10.0
    gradient_target: float = 1.0  # 750 for CIFAR-10
    drift: float = 0.001


@dataclass
class CramerLoss(LossConfig):
    _target_: str = "imago.losses.Cramer"
    output_size: int = 256  # components of the discriminator's output
    gradient_penalty: float = 10.0


@dataclass
class BeganLoss(LossConfig):
    _target_: str = "imago.losses.Began"
    diversity: float = 0.5  # γ: lower makes better but more similar images
    k_rate: float = 0.001


@dataclass
class RelativisticLoss(LossConfig):
    _target_: str = "imago.losses.Relativistic"
    r1: float = 1.0
    r2: float = 1.0


LOSSES: dict[str, type[LossConfig]] = {
    "minimax": MinimaxLoss,
    "non_saturating": NonSaturatingLoss,
    "hinge": HingeLoss,
    "lsgan": LsganLoss,
    "wgan": WganLoss,
    "wgan_gp": WganGpLoss,
    "cramer": CramerLoss,
    "began": BeganLoss,
    "relativistic": RelativisticLoss,
}

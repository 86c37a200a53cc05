"""The options of the group ``model``: every key, its type and its default."""

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

from conf.classifier_schema import ClassifierOptions
from conf.portrait_demo_schema import PortraitDemoOptions


@dataclass
class ModelConfig:
    _target_: str = MISSING


@dataclass
class PgganModel(ModelConfig):
    _target_: str = "lightning_modules.pggan.PGGAN"
    latent_size: int = 512
    fmap_base: int = 8192  # feature maps at level s: min(fmap_base / 2^s, fmap_max)
    fmap_max: int = 512
    label_weight: float = 1.0  # of the auxiliary classifier's error, where data.labels are chosen
    n_critic: int = 1  # discriminator steps per generator step
    betas: list[float] = field(default_factory=lambda: [0.0, 0.99])  # Adam
    eps: float = 1e-8  # Adam
    ema_half_life: float | None = 10_000.0  # of the averaged generator, in images; null: use ema_decay
    ema_decay: float | None = None  # per training step, 0.999 in the paper
    ema_rampup: float | None = None  # half-life at most this share of images_seen: early averages follow faster
    micro_batch: int | None = None  # most images a process takes through a network at once; null: its whole share
    channels_last: bool = True  # memory format of weights and activations


@dataclass
class DcganModel(ModelConfig):
    _target_: str = "lightning_modules.dcgan.DCGAN"
    latent_size: int = 100
    filters: int = 64  # feature maps next to the image; twice as many at every smaller extent
    max_channels: int | None = None  # at most this many
    telescope: Any = 1  # ζ, or [ζ₁, ζ₂]: how much larger the networks see the images; powers of two
    telescope_mode: str = "bilinear"  # or nearest
    generator_norm: str = "batch"  # batch, layer or none
    discriminator_norm: str = "batch"
    batch_norm_group: int | None = None  # images that share batch statistics; null: a process's share of the batch
    sync_batch_norm: bool = False  # statistics over all processes (GPUs only)
    init: str = "normal"  # N(0, 0.02); or lecun: N(0, 1/fan-in)
    generator_noise: float = 0.0  # standard deviation of the noise on the generator's input
    discriminator_noise: float = 0.0  # the same for the discriminator
    noise_decay_images: int | None = None  # both fade out over so many images; null: never
    label_weight: float = 1.0  # of the auxiliary classifier's error, where data.labels are chosen
    n_critic: int = 1
    betas: list[float] = field(default_factory=lambda: [0.5, 0.999])
    eps: float = 1e-8
    ema_half_life: float | None = 10_000.0
    ema_decay: float | None = None  # 0: no averaging
    ema_rampup: float | None = 0.05
    micro_batch: int | None = None
    channels_last: bool = True


@dataclass
class AttributeClassifierModel(ClassifierOptions, ModelConfig):
    _target_: str = "imago.classification.options.ClassificationOptions"


@dataclass
class PortraitDemoModel(PortraitDemoOptions, ModelConfig):
    _target_: str = "commands.portrait_demo.Plan"


@dataclass
class HdcganModel(DcganModel):
    _target_: str = "lightning_modules.hdcgan.HDCGAN"
    bs_order: str = "bn_selu"  # or selu_bn
    generator_noise: float = 1.0
    discriminator_noise: float = 1.0


@dataclass
class UpresModel(ModelConfig):
    _target_: str = "lightning_modules.upres.Upres"
    low_size: int = 96  # height of the low-resolution pictures; resolution is 2, 4, 8 or 16 times that
    face_size: int = 128  # height of the pictures that these are shrunk from, with their guide
    crop: int = 32  # extent of the crops of the former that the networks see
    guide: str = "rgb"  # rgb, channels (one per feature) or none
    filters: int = 64  # feature maps next to the image; twice as many at every smaller extent
    max_channels: int = 512  # at most this many
    depth: int = 3  # how often the encoder halves the extent
    norm: str = "none"  # of the generator: none, batch, or sample (over the positions of one crop)
    inference_statistics: str = "running"  # of norm=batch: running averages, or those of the batch of tiles
    upsampling: str = "transposed"  # convolutions; or upconv: no checkerboards
    init: str = "he"  # or normal: N(0, 0.02)
    discriminator_filters: int = 64
    discriminator_norm: str = "batch"  # batch, layer or none
    batch_norm_group: int | None = None  # crops that share batch statistics; null: a process's share of the batch
    l1_weight: float = 100.0  # of the L1 distance at low resolution
    gan_weight: float = 1.0  # of the adversarial loss
    n_critic: int = 1
    betas: list[float] = field(default_factory=lambda: [0.5, 0.999])
    eps: float = 1e-8
    ema_half_life: float | None = 10_000.0
    ema_decay: float | None = None
    ema_rampup: float | None = 0.05
    micro_batch: int | None = None
    channels_last: bool = True

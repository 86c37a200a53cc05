"""The schemas of imago's configuration: every key, its type and its default, checked by Hydra.

Each option of a group (``model=pggan``) is a YAML file on top of one of these dataclasses, so a misspelt key or a
wrong type is refused, whether it comes from a file or from the command line.
"""

from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING

from conf import launcher_schema, sweeper_schema
from conf.evaluate_schema import EvaluateConfig
from conf.generate_schema import GenerateConfig
from conf.loss_schemas import LOSSES, LossConfig
from conf.model_schemas import (
    AttributeClassifierModel,
    DcganModel,
    HdcganModel,
    ModelConfig,
    PgganModel,
    PortraitDemoModel,
    UpresModel,
)
from conf.prepare_schema import PrepareConfig
from conf.source_schemas import ONLY_TO_PREPARE, SOURCES, data_schema
from conf.upres_schema import UpresConfig
from imago.evaluation.protocol import Protocol

# --- growth -----------------------------------------------------------------------------------------------------------


@dataclass
class GrowthConfig:
    _target_: str = "imago.growth.GrowthSchedule"
    start_resolution: int | None = None  # null: the height of `base`
    stabilize_images: int = 800_000
    fade_images: int = 800_000
    final_images: int = 6_200_000
    batch_size: Any = 16  # one number, or {height: number}
    learning_rate: Any = 0.001  # one number, or {height: number}
    mbstd_group: int = 4  # images per minibatch-stddev group; larger than the batch: the whole batch


# --- data -------------------------------------------------------------------------------------------------------------


@dataclass
class DataConfig:
    _target_: str = MISSING
    channels: int = 3
    mirror: bool | None = True  # flip half of the reals left to right
    workers: int = 0  # loader processes while training; 0: none
    threads: int = 2  # that decode PNGs ahead, in each loader process or in the main one
    prefetch: int = 2  # batches that are kept ready besides
    include_synthetic: Any = None  # a pack, or several, to train on besides; of data=curto also true: its own
    labels: list[str] | None = None  # label columns to condition on, [all] for all; null: none
    verify: bool = True  # compare arrays and labels with their checksums first; PNGs are checked as they are read


@dataclass
class PackedData(DataConfig):
    _target_: str = "datamodules.packed.PackedDataModule"
    path: str = MISSING


@dataclass
class DegradationConfig:
    """What is done to the low-resolution side of pairs; amounts are drawn between none and these."""

    strength: float = 1.0  # factor of all; 0: nothing is done
    blur: float = 0.8  # standard deviation, pixels
    shrink: float = 0.5  # share of the extent that some are shrunk to, and enlarged from again
    shrink_share: float = 0.3  # of the pictures
    noise: float = 0.01  # standard deviation, of the range from black to white
    blotches: float = 0.01  # likewise, smooth over 8 pixels
    checkerboard: float = 0.01  # amplitude of patterns with a period of two pixels
    jpeg_quality: float = 50.0  # the lowest; the highest is 98
    jpeg_share: float = 0.5  # of the pictures


@dataclass
class UpresPairsData(DataConfig):
    """Packs of large pictures, to train model=upres on."""

    _target_: str = "datamodules.upres_pairs.UpresPairsDataModule"
    path: Any = MISSING  # a pack, or several [a,b]; pictures of at least `resolution`
    held_out: int = 8  # the last so many pictures of each pack are not trained on, but shown and measured
    landmarks: str = "auto"  # auto: the pack's, or else found by dlib; pack, dlib, none
    guide_dropout: float = 0.1  # share of the pairs with an empty guide, as where no face is found
    degradation: DegradationConfig = field(default_factory=DegradationConfig)
    cache: str | None = None  # where landmarks that were found are kept; null: $IMAGO_CACHE or ~/.cache/imago


@dataclass
class PreparingData(DataConfig):
    """Packed on first use."""

    pack_workers: int | None = None  # processes while packing; null: one per core
    cache: str | None = None  # where packs are kept; null: $IMAGO_CACHE or ~/.cache/imago
    zip_from: int = 256  # levels from this height on are stored as PNGs
    png_level: int = 1  # compression of the PNGs, 0 to 9
    max_unreadable: float = 0.01  # larger share of unreadable files is an error


@dataclass
class DrawnPortraitsData(PreparingData):
    _target_: str = "datamodules.sources.DrawnPortraitsDataModule"
    count: int = 3000
    drawing_seed: int = 0
    size: int = 64  # the faces are drawn at least at this size


@dataclass
class SourceData(PreparingData):
    """Of ``data=<source>``, besides the options of the source in conf/source_schemas.py."""

    _target_: str = "datamodules.sources.SourceDataModule"
    path: str | None = None  # the same as root; or a pack that prepare.py made, which is used as it is


@dataclass
class LsunData(SourceData):
    _target_: str = "datamodules.sources.LsunDataModule"
    mirror: bool | None = None  # null: as in the paper, all but bedroom and dog


# --- callbacks, logger, trainer ---------------------------------------------------------------------------------------


@dataclass
class SnapshotConfig:
    _target_: str = "callbacks.snapshot.Snapshot"
    every_images: int = 10_000  # checkpoint and a generator file
    every_minutes: float | None = 15.0  # checkpoint only
    keep_generators: int | None = None  # newest generator files to keep; null: all


@dataclass
class SampleGridConfig:
    _target_: str = "callbacks.sample_grid.SampleGrid"
    every_images: int = 10_000
    columns: int | None = None  # null: about 16:9 for the final resolution
    rows: int | None = None


@dataclass
class DivergenceGuardConfig:
    _target_: str = "callbacks.divergence_guard.DivergenceGuard"
    max_skipped_in_a_row: int = 20
    collapse_ratio: float = 0.1  # warn when samples vary less than this share of the reals
    every_images: int = 5_000


@dataclass
class MetricsLogConfig:
    _target_: str = "callbacks.scalar_log.ScalarLog"
    every_images: int = 500


@dataclass
class ProgressConfig:
    _target_: str = "callbacks.progress.Progress"
    refresh_seconds: float = 0.5  # on a terminal
    line_seconds: float = 30.0  # one line this often elsewhere


@dataclass
class ShowcaseConfig:
    _target_: str = "callbacks.showcase.Showcase"
    film_seconds: float = 8.0
    fps: int = 25


@dataclass
class GanMetricsConfig:
    _target_: str = "callbacks.gan_metrics.GanMetrics"
    every_images: int = 50_000
    metrics: list[str] = field(default_factory=lambda: ["swd", "ms_ssim"])  # as in evaluate.py
    swd_images: int = 2048
    ms_ssim_images: int = 2000  # two to a pair
    feature_images: int = 1000
    face_images: int = 200
    modes_images: int = 25_600
    features: str = "face"  # inception, torchscript, vgg16 or face: what frechet, kernel, precision_recall look at
    weights: str | None = None  # of that network
    digits: str | None = None  # the folder of MNIST's files, for modes
    floor: bool = True  # measure real images against real images once, too
    best_by: str | None = "swd/avg"  # keep the best checkpoint by this metric; null: none
    batch_size: int = 64


@dataclass
class UpresMetricsConfig:
    _target_: str = "callbacks.upres_metrics.UpresMetrics"
    every_images: int = 20_000
    pictures: int = 8  # whole ones, kept out of training
    shown: int = 2  # of these in portraits/<images_seen>.png
    best_by: str | None = "swd/avg"  # keep the best checkpoint by this metric; null: none


@dataclass
class ActivationStatisticsConfig:
    _target_: str = "callbacks.activation_statistics.ActivationStatistics"
    every_images: int = 5_000


@dataclass
class PreemptionConfig:
    _target_: str = "callbacks.preemption.Preemption"
    requeue: bool = True  # in a Slurm job, SIGUSR1 and SIGUSR2 have it started again


@dataclass
class ProcessWatchConfig:
    _target_: str = "callbacks.process_watch.ProcessWatch"
    lost_after_seconds: float = 60.0  # without a sign of life from another process
    stalled_after_minutes: float = 30.0  # that the others wait for a process which does not move
    requeue: bool = True  # a Slurm job that lost a process, if it got further than it was


@dataclass
class PruningConfig:
    """Set by sweep=optuna for each of its trials."""

    _target_: str = "callbacks.pruning.Pruning"
    study: str | None = None
    trial: int = 0
    storage: str | None = None


@dataclass
class CallbacksConfig:
    gan_metrics: GanMetricsConfig | None = None
    upres_metrics: UpresMetricsConfig | None = None
    activation_statistics: ActivationStatisticsConfig | None = None
    scalar_log: MetricsLogConfig | None = field(default_factory=MetricsLogConfig)
    divergence_guard: DivergenceGuardConfig | None = field(default_factory=DivergenceGuardConfig)
    sample_grid: SampleGridConfig | None = field(default_factory=SampleGridConfig)
    progress: ProgressConfig | None = field(default_factory=ProgressConfig)
    showcase: ShowcaseConfig | None = field(default_factory=ShowcaseConfig)
    preemption: PreemptionConfig | None = field(default_factory=PreemptionConfig)
    process_watch: ProcessWatchConfig | None = field(default_factory=ProcessWatchConfig)
    pruning: PruningConfig = field(default_factory=PruningConfig)
    snapshot: SnapshotConfig = field(default_factory=SnapshotConfig)


@dataclass
class TensorBoardConfig:
    _target_: str = "callbacks.loggers.tensorboard_logger"


@dataclass
class WandbConfig:
    _target_: str = "callbacks.wandb_logger.wandb_logger"
    project: str = "imago"
    entity: str | None = None
    group: str | None = None  # null: the sweep, if the run belongs to one
    job_type: str = "train"
    tags: list[str] = field(default_factory=list)
    mode: str | None = None  # online, offline or disabled; null: online with an API key, else offline
    artifacts: str = "none"  # generators to upload at the end: none, last, best, all
    alerts: bool = True  # tell when training diverges or may have collapsed


@dataclass
class LoggerConfig:
    """metrics.csv is always written; these come in addition."""

    tensorboard: TensorBoardConfig | None = None
    wandb: WandbConfig | None = None


@dataclass
class TrainerConfig:
    accelerator: str = "auto"
    devices: Any = 1
    num_nodes: int = 1
    strategy: str = "auto"
    precision: Any = "32-true"  # 32-true, bf16-mixed, 64-true
    benchmark: bool = True  # let cuDNN time its algorithms at every resolution
    deterministic: bool = False  # refuse operations that are not; CPU runs repeat bit for bit either way
    tf32: bool = True  # TensorFloat-32 in float32 convolutions and products on GPUs that have it


@dataclass
class TrainConfig:
    model: ModelConfig = MISSING
    loss: LossConfig = MISSING
    growth: GrowthConfig = MISSING
    data: DataConfig = MISSING
    callbacks: CallbacksConfig = field(default_factory=CallbacksConfig)
    logger: LoggerConfig = field(default_factory=LoggerConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    experiment: Any = None
    launcher: Any = None
    sweep: Any = None
    name: str = MISSING  # names the run; part of the default run_dir
    run_dir: str = MISSING
    seed: int = 0
    resolution: int = 32  # final height of the images
    base: list[int] = field(default_factory=lambda: [4, 4])  # height, width of the smallest images
    objective: str | None = None  # what train.py gives to a sweeper: the best value of a metric, swd/avg
    total_images: int | None = None  # stop here; null: where the growth schedule ends
    resume: str = "auto"  # auto: go on from a checkpoint of the same configuration; never: refuse if there is one


def register() -> None:
    """Makes the schemas known to Hydra, as ``<option>_schema`` in their groups."""
    launcher_schema.register()
    sweeper_schema.register()
    store = ConfigStore.instance()
    store.store(name="train_schema", node=TrainConfig)
    store.store(name="generate_schema", node=GenerateConfig)
    store.store(name="evaluate_schema", node=EvaluateConfig)
    store.store(name="prepare_schema", node=PrepareConfig)
    store.store(name="upres_schema", node=UpresConfig)
    for group, option, node in (
        ("model", "pggan", PgganModel),
        ("model", "dcgan", DcganModel),
        ("model", "hdcgan", HdcganModel),
        ("model", "attribute_classifier", AttributeClassifierModel),
        ("model", "portrait_demo", PortraitDemoModel),
        ("model", "upres", UpresModel),
        ("growth", "growth", GrowthConfig),
        ("data", "drawn_portraits", DrawnPortraitsData),
        ("data", "packed", PackedData),
        ("data", "upres_pairs", UpresPairsData),
        ("callbacks", "callbacks", CallbacksConfig),
        ("logger", "logger", LoggerConfig),
        ("trainer", "trainer", TrainerConfig),
        ("protocol", "protocol", Protocol),
    ):
        store.store(group=group, name=f"{option}_schema", node=node)
    for name, loss in LOSSES.items():
        store.store(group="loss", name=f"{name}_schema", node=loss)
    for name, options in (SOURCES | ONLY_TO_PREPARE).items():
        store.store(group="source", name=f"{name}_schema", node=options)
    for name, options in SOURCES.items():
        data = data_schema(options, LsunData if name == "lsun" else SourceData)
        store.store(group="data", name=f"{name}_schema", node=data)

"""The attribute benchmark in a run directory: what ``train.py model=attribute_classifier`` does."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from hydra.utils import instantiate

from callbacks.best_classifier import BestClassifier
from callbacks.classifier_progress import ClassifierProgress
from commands.loggers import build_loggers
from commands.run_directory import RunDirectory
from commands.stopping import end_early, explain_failure, finish_wandb, obey
from commands.trainer import build_trainer
from conf.schemas import TrainConfig
from datamodules.attributes import AttributeDataModule
from datamodules.packed import PackedDataModule
from imago.atomic import atomic_path
from imago.classification.benchmark import Benchmark, build_benchmark
from imago.classification.classifier_file import CLASSIFIER_FILE, save_classifier
from imago.classification.figures import confusion_figure, figure_name
from imago.classification.images import LabelledImages
from imago.classification.loss import balanced_weights
from imago.classification.options import ClassificationOptions
from imago.classification.prediction import evaluate, probabilities, pseudo_labels
from imago.classification.report import REAL, WITH_SYNTHETIC, Row, report, report_json, report_table
from imago.errors import UserError
from imago.growth import GrowthSchedule
from imago.networks.attribute_classifier import AttributeClassifier
from lightning_modules.attribute_classifier import AttributeClassifierModule

logger = logging.getLogger("imago")

TABLE, NUMBERS = "classification.md", "classification.json"
SECOND_ROW = "with_synthetic"  # the folder of its run, in the run directory
_MOST_VALUES_DRAWN = 40  # of an attribute, for a confusion matrix that can be read


def classify(cfg: TrainConfig, config: dict[str, Any], run_dir: Path, processes: int) -> None:
    """Trains a network for all attributes, with and without synthetic images, and reports what it reads right.

    Args:
        cfg: The composed configuration, checked.
        config: The same, resolved, as plain containers.
        run_dir: Where to write; a run that was interrupted goes on there.
        processes: How many the trainer would start.

    Raises:
        UserError: A configuration or data that cannot be used, or a run directory that belongs to another one.
    """
    if processes != 1:
        raise UserError(
            f"a classifier is trained on one process, not {processes}; add trainer.devices=1 trainer.num_nodes=1"
        )
    options: ClassificationOptions = instantiate(config["model"], _convert_="all")
    schedule = _schedule(cfg, config)
    data: PackedDataModule = instantiate(
        config["data"], resolution=cfg.resolution, base=list(cfg.base), seed=cfg.seed, _convert_="all"
    )
    if data.synthetic:
        raise UserError(
            "data.include_synthetic: a classifier is given synthetic images as model.synthetic=[…], apart from those "
            "that it is tested on"
        )
    data.check()
    directory = RunDirectory(run_dir)
    with directory.locked():
        checkpoint = directory.checkpoint(config, cfg.resume)
        data.expected_checksum = checkpoint["data_checksum"] if checkpoint else None
        data.prepare_data()
        assert data.real is not None
        benchmark = build_benchmark(data.real, options, cfg.resolution)
        for reason in benchmark.skipped:
            logger.warning("left out: %s", reason)
        if benchmark.strange:
            logger.warning("values of synthetic labels that are not among the attributes': %s", benchmark.strange)
        total = cfg.total_images or max(1, round(options.epochs * len(benchmark.train)))
        _check_same_length(run_dir, checkpoint, total)
        if checkpoint and checkpoint["images_seen"] >= total and (run_dir / TABLE).exists():
            logger.info("%s is finished: %d images seen", run_dir, checkpoint["images_seen"])
            print((run_dir / TABLE).read_text())
            return
        directory.begin(config)
        rows = _rows(cfg, config, run_dir, options, schedule, benchmark, total, data)
        numbers = report(benchmark, rows, config)
        _write(run_dir, numbers)
    print(report_table(numbers))
    logger.info("wrote %s, %s and confusion-*.png in %s", TABLE, NUMBERS, run_dir)


def _schedule(cfg: TrainConfig, config: dict[str, Any]) -> GrowthSchedule:
    schedule: GrowthSchedule = instantiate(
        config["growth"],
        resolution=cfg.resolution,
        start_resolution=cfg.growth.start_resolution or cfg.base[0],
        _convert_="all",
    )
    if len(schedule.resolutions) != 1:
        raise UserError("a classifier does not grow: add growth=none, or take experiment=classify_attributes")
    return schedule


def _check_same_length(run_dir: Path, checkpoint: Mapping[str, Any] | None, total: int) -> None:
    """The learning rate falls to 0 at the end, so a longer run is another run."""
    if checkpoint is not None and checkpoint.get("total_images") != total:
        raise UserError(
            f"{run_dir} was trained to {checkpoint.get('total_images')} images, not {total}, which its learning rate "
            "depends on; choose another run_dir"
        )


def _rows(
    cfg: TrainConfig,
    config: dict[str, Any],
    run_dir: Path,
    options: ClassificationOptions,
    schedule: GrowthSchedule,
    benchmark: Benchmark,
    total: int,
    data: PackedDataModule,
) -> dict[str, Row]:
    """Trains the rows of the table that are not trained yet."""

    def trained(label: str, folder: Path, training: LabelledImages) -> tuple[AttributeClassifier, Row]:
        network = _new_network(cfg, options, benchmark)
        module = AttributeClassifierModule(
            network,
            schedule,
            total,
            cfg.seed,
            _weights(options, benchmark, training),
            options.dropout,
            options.decay,
            options.betas,
            options.eps,
            options.augment,
        )
        best = _train(cfg, config, label, folder, options, benchmark, module, training, data)
        network.load_state_dict(best["network"])
        network.eval().cpu()
        scores = evaluate(network, benchmark.test, benchmark.attributes)
        save_classifier(folder / CLASSIFIER_FILE, network, best["images_seen"])
        return network, Row(training, best["images_seen"], best["score"], scores)

    network, first = trained(REAL, run_dir, benchmark.train)
    rows = {REAL: first}
    if benchmark.synthetic is not None:
        folder = run_dir / SECOND_ROW
        synthetic, invented = _labelled(folder, options, benchmark, network)
        _, row = trained(WITH_SYNTHETIC, folder, benchmark.train + synthetic)
        rows[WITH_SYNTHETIC] = Row(row.training, row.best_images_seen, row.selection, row.test, invented)
    return rows


def _new_network(cfg: TrainConfig, options: ClassificationOptions, benchmark: Benchmark) -> AttributeClassifier:
    """The same initial weights for every row."""
    height, width = benchmark.dataset.extent(cfg.resolution)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(cfg.seed)
        return AttributeClassifier(
            {attribute.name: attribute.values for attribute in benchmark.attributes},
            height,
            width,
            cfg.data.channels,
            options.base_width,
            options.max_width,
        )


def _weights(
    options: ClassificationOptions, benchmark: Benchmark, training: LabelledImages
) -> list[torch.Tensor] | None:
    if options.class_weights == "none":
        return None
    return [balanced_weights(training.labels[:, k], a.values) for k, a in enumerate(benchmark.attributes)]


def _labelled(
    folder: Path, options: ClassificationOptions, benchmark: Benchmark, network: AttributeClassifier
) -> tuple[LabelledImages, int]:
    """The synthetic images with known labels and pseudo-labels, and how many the latter are.

    They are kept in a file: made again on another device, a label at the threshold could differ.
    """
    synthetic = benchmark.synthetic
    assert synthetic is not None
    labels = synthetic.labels
    if options.pseudo_labels:
        path = folder / "pseudo_labels.npy"
        if not path.exists():
            found = pseudo_labels(probabilities(network, synthetic), labels, options.confidence)
            with atomic_path(path) as temporary:
                np.save(temporary, found.astype(np.int16))
        labels = np.load(path).astype(np.int64)
    invented = int(((labels >= 0) & (synthetic.labels < 0)).sum())
    used = synthetic.those_with_labels(labels)
    if len(used) == 0:
        raise UserError(
            f"none of the {len(synthetic)} synthetic images has a label that the network is sure of; lower "
            f"model.confidence ({options.confidence})"
        )
    logger.info("%d of %d synthetic images with %d pseudo-labels", len(used), len(synthetic), invented)
    return used, invented


def _train(
    cfg: TrainConfig,
    config: dict[str, Any],
    label: str,
    folder: Path,
    options: ClassificationOptions,
    benchmark: Benchmark,
    module: AttributeClassifierModule,
    training: LabelledImages,
    data: PackedDataModule,
) -> dict[str, Any]:
    """Trains in `folder`, or goes on there; returns what the validation part liked best."""
    total = module.total_images
    directory = RunDirectory(folder)
    checkpoint = directory.checkpoint(config, "auto")
    _check_same_length(folder, checkpoint, total)
    if checkpoint is not None and checkpoint.get("synthetic") != sorted(benchmark.synthetic_sets.values()):
        raise UserError(f"{folder}: the synthetic sets are not those that this run began with; choose another run_dir")
    if checkpoint is not None and checkpoint["images_seen"] >= total:
        return checkpoint["best"]
    folder.mkdir(parents=True, exist_ok=True)
    directory.begin(config)
    directory.record_start(checkpoint["images_seen"] if checkpoint else 0, 1)

    watching = config["callbacks"]
    snapshot = watching["snapshot"]
    best = BestClassifier(
        benchmark.validation,
        benchmark.attributes,
        options.select_by,
        options.validate_every or len(benchmark.train),
        snapshot["every_images"],
        snapshot["every_minutes"],
        total,
        {
            "config": config,
            "data_checksum": benchmark.dataset.checksum,
            "synthetic": sorted(benchmark.synthetic_sets.values()),
            "total_images": total,
        },
        checkpoint,
    )
    callbacks: list[pl.Callback] = [best]
    if watching["scalar_log"]:
        callbacks.append(instantiate(watching["scalar_log"], _convert_="all"))
    if watching["preemption"]:
        callbacks.append(instantiate(watching["preemption"], _convert_="all"))
    if watching["progress"]:
        seconds = {key: value for key, value in watching["progress"].items() if key != "_target_"}
        progress = ClassifierProgress(label, **seconds)
        progress.total_images = total
        callbacks.append(progress)
    obey(module.stopping)
    trainer = build_trainer(cfg, folder, callbacks)
    begun = checkpoint["images_seen"] if checkpoint else 0
    logger.info(
        "%s: %s in %s from %d to %d images, on %d",
        label,
        "going on" if begun else "training",
        folder,
        begun,
        total,
        len(training),
    )
    images = AttributeDataModule(training, cfg.seed, data.mirror, data.workers, data.prefetch)
    try:
        trainer.loggers = build_loggers(config, folder, begun)
        trainer.fit(module, datamodule=images)
    except BaseException as error:
        finish_wandb(exit_code=1)
        explain_failure(error, trainer)
        raise
    module.stopping.count([module.stopping.wished, module.stopping.requeue_wished])  # since the last step
    if module.stopping.agreed:  # even at its end: the other row may take hours
        end_early(trainer, module.stopping, module.images_seen, total)
    finish_wandb(exit_code=0)
    assert best.best is not None
    return best.best


def _write(run_dir: Path, numbers: Mapping[str, Any]) -> None:
    """Figures and numbers first: a run with a table is a finished one."""
    for attribute in numbers["attributes"]:
        if len(attribute["values"]) <= _MOST_VALUES_DRAWN:
            confusions = {name: attribute[name]["confusion"] for name in numbers["rows"]}
            confusion_figure(
                run_dir / figure_name(attribute["name"]), attribute["name"], attribute["values"], confusions
            )
    for name, text in ((NUMBERS, report_json(numbers)), (TABLE, report_table(numbers))):
        with atomic_path(run_dir / name) as temporary:
            temporary.write_text(text)

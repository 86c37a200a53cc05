"""The picture of samples and their nearest training images: ``metrics=[neighbours]``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from conf.evaluate_schema import EvaluateConfig
from imago.distributed import gathered, rank_and_world_size
from imago.errors import UserError
from imago.evaluation.building import MeasureBuilder
from imago.evaluation.feature_measures import features_of_everything
from imago.evaluation.image_sets import ImageSet
from imago.evaluation.measure import Progress, Reals, go_through
from imago.images import save_image, upscale_nearest
from imago.metrics.nearest_images import Nearest, NearestImages, PixelDistance, VggDistance, merge_nearest
from imago.metrics.neighbour_figure import neighbour_figure, neighbour_images
from imago.metrics.neighbours import nearest_neighbours

if TYPE_CHECKING:
    from imago.metrics.nearest_images import ImageDistance

_SMALLEST_CELL = 128  # pixels: smaller pictures are enlarged, so that they can be looked at

DISTANCES = ("pixel", "vgg16", "face")


def check_neighbours(cfg: EvaluateConfig) -> None:
    """Refuses what cannot work before anything is measured.

    Raises:
        UserError: An unknown distance, or no weights for VGG16.
    """
    if cfg.neighbour_distance not in DISTANCES:
        raise UserError(f"neighbour_distance={cfg.neighbour_distance} is unknown; choose {', '.join(DISTANCES)}")
    if cfg.neighbour_distance == "vgg16" and not cfg.vgg16_weights:
        raise UserError(
            "neighbour_distance=vgg16 needs vgg16_weights=…: the file of VGG16's weights (vgg16-397923af.pth)"
        )


def check_enough(cfg: EvaluateConfig, reals: Reals | None) -> None:
    """Refuses real images among which nothing can be looked for.

    Raises:
        UserError: There are none, or too few.
    """
    if reals is None:
        raise UserError("neighbours looks among training images: add data.path=…, a folder, a zip or a pack")
    if len(reals) < cfg.neighbours:
        raise UserError(f"neighbours={cfg.neighbours}: there are only {len(reals)} training images")


def write_neighbours(
    cfg: EvaluateConfig, builder: MeasureBuilder, images: ImageSet, reals: Reals | None, out: Path, progress: Progress
) -> None:
    """Finds the training images nearest to the first samples, and writes them below each other; on all processes.

    Args:
        cfg: The options.
        builder: Has the networks.
        images: The generator's.
        reals: Every training image is looked at.
        out: The PNG to write.
        progress: Shows how far it is.

    Raises:
        UserError: There are no real images, or too few.
    """
    check_enough(cfg, reals)
    assert reals is not None
    samples = images.images(0, cfg.neighbour_samples).cpu()
    if cfg.neighbour_distance == "face":
        collector = builder.collector("face")
        queries = collector.extractor(collector.prepared(samples))
        training = features_of_everything(collector, reals, progress)
        nearest, crop = _nearest_of_both(queries, training.split(len(reals)), cfg.neighbours), 1.0
    else:
        crop = cfg.neighbour_crop
        search = NearestImages(samples, _distance(cfg, builder.device), cfg.neighbours, crop, reals.sample.mirror)
        go_through(reals.everything, len(reals), 256, search.update, "neighbours: all training images", progress)
        nearest = merge_nearest(gathered(search.so_far), cfg.neighbours)
    if rank_and_world_size()[0] != 0:
        return
    everything = reals.everything
    neighbours = neighbour_images(
        nearest, lambda indices: torch.from_numpy(everything.dataset.images(indices, everything.resolution))
    )
    enlarged = -(-_SMALLEST_CELL // samples.shape[2])
    figure = neighbour_figure(upscale_nearest(samples, enlarged), upscale_nearest(neighbours, enlarged), crop)
    path = save_image(out, figure)
    print(f"wrote {path}: {len(samples)} samples, below each its {cfg.neighbours} nearest of {len(reals):,} images")


def _nearest_of_both(queries: Tensor, halves: Sequence[Tensor], k: int) -> Nearest:
    """The nearest of images and, in a second half, their mirror images; each image counts once.

    Args:
        queries: Features ``(Q, D)``.
        halves: One or two of ``(N, D)``.
        k: How many.
    """
    parts = []
    for i, half in enumerate(halves):
        distances, indices = nearest_neighbours(queries, half, k)
        parts.append(Nearest(distances.double(), indices, torch.full_like(indices, i, dtype=torch.bool)))
    both = merge_nearest(parts, len(parts) * k)  # every image at most twice
    chosen = []
    for row in both.indices.tolist():
        first = {index: place for place, index in reversed(list(enumerate(row)))}
        chosen.append(sorted(first.values())[:k])
    places = torch.tensor(chosen)
    return Nearest(*(values.gather(1, places) for values in (both.distances, both.indices, both.mirrored)))


def _distance(cfg: EvaluateConfig, device: torch.device) -> ImageDistance:
    if cfg.neighbour_distance == "pixel":
        return PixelDistance()
    from imago.metrics.features.vgg16 import load_vgg16

    assert cfg.vgg16_weights is not None
    return VggDistance(load_vgg16(cfg.vgg16_weights, device))

"""A packed data set of generated pictures: what ``generate.py what=dataset`` makes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from commands.checkpoints import run_of
from datamodules.progress import PreparationProgress
from imago import __version__
from imago.atomic import atomic_path
from imago.data.pack_format import is_packed
from imago.data.packed import PackedDataset
from imago.data.packing import pack
from imago.data.synthetic import Filter, GeneratedPictures, Selection, faces_only, no_copies, select
from imago.errors import UserError
from imago.networks.serialization import find_generator

if TYPE_CHECKING:
    from commands.generate import Job

PROVENANCE = "provenance.json"


def generate_dataset(job: Job) -> list[Path]:
    """Chooses the pictures, packs them, records where they come from.

    The same command gives the same bytes; an interrupted one goes on where it stopped.

    Args:
        job: The checked request; ``job.out`` is the folder of the pack.

    Returns:
        The folder.

    Raises:
        UserError: Too few pictures pass the filters, the training images are not there, `out` holds something else.
    """
    cfg = job.cfg

    def pictures(numbers: Sequence[int]) -> Tensor:
        latents = (job.latents([(cfg.seed, number)])[0] for number in numbers)
        codes = (job.labels.codes(cfg.seed, number) for number in numbers)
        return torch.stack(list(job.pictures(latents, len(numbers), codes)))

    most = int(np.ceil(cfg.count * max(1.0, cfg.dataset.max_tries)))
    with PreparationProgress("choosing pictures") as progress:
        selection = select(pictures, cfg.count, _filters(job), cfg.batch_size, most, progress)
    origin = _origin(job, selection)
    conditional = job.loaded.labels is not None
    source = GeneratedPictures(
        "synthetic",
        pictures,
        (lambda number: job.labels.texts(cfg.seed, number)) if conditional else None,
        selection.numbers,
        json.dumps(origin, sort_keys=True),
        cfg.batch_size,
    )
    height, width = job.picture_extent
    network = job.loaded.config
    with PreparationProgress(f"packing {cfg.count} pictures") as progress:
        dataset = pack(
            source,
            job.out,
            resolution=height,
            base=_base(network.get("base", [4, 4]), height, width),
            channels=int(network.get("channels", 3)),
            zip_from=cfg.dataset.zip_from,
            progress=progress,
        )
    with atomic_path(job.out / PROVENANCE) as temporary:
        temporary.write_text(json.dumps(origin, indent=1, sort_keys=True) + "\n")
    print(
        f"wrote {len(dataset)} {'labelled' if conditional else 'unlabelled'} pictures of {height}×{width} to {job.out}"
    )
    for name, number in selection.left_out.items():
        print(f"left out: {number} {name}, of {selection.tried} pictures")
    print(f"to train on them besides real images: python train.py … data.include_synthetic={job.out}")
    return [job.out]


def _base(base: Sequence[int], height: int, width: int) -> tuple[int, int]:
    """The smallest level of a pack of enlarged pictures: their shape may differ from that of the training data."""
    if height * base[1] == width * base[0]:
        return (base[0], base[1])
    divisor = int(np.gcd(height, width))
    return (height // divisor, width // divisor)


def _filters(job: Job) -> list[Filter]:
    cfg = job.cfg.dataset
    filters = [faces_only()] if cfg.detect_faces else []
    if cfg.closest is not None:
        dataset = _training_data(job)
        filters.append(no_copies(dataset, job.picture_extent[0], cfg.closest, mirror=True))
    return filters


def _training_data(job: Job) -> PackedDataset:
    """The pack that pictures are compared with.

    Raises:
        UserError: It is not given and the run does not name one.
    """
    if job.cfg.dataset.data is not None:
        return PackedDataset(job.cfg.dataset.data)
    config = run_of(Path(job.cfg.checkpoint).expanduser()) / "config.yaml"
    if config.exists():
        from omegaconf import OmegaConf

        data: Any = OmegaConf.to_container(OmegaConf.load(config)).get("data", {})  # type: ignore[union-attr]
        path = data.get("path") or data.get("root")
        if path and is_packed(Path(path).expanduser()):
            return PackedDataset(path)
    raise UserError(
        "dataset.closest compares with the training images: give dataset.data=… (their pack; prepare.py makes one)"
    )


def _origin(job: Job, selection: Selection) -> dict[str, Any]:
    """Where the pictures come from: all that they depend on."""
    cfg = job.cfg
    file = find_generator(Path(cfg.checkpoint).expanduser())
    digest = hashlib.sha256()
    with open(file, "rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return {
        "made by": f"imago {__version__}",
        "generator": {
            "file": file.name,
            "sha256": digest.hexdigest(),
            "network": type(job.loaded.generator).__name__,
            "config": job.loaded.config,
            "resolution": job.loaded.resolution,
            "alpha": job.loaded.alpha,
            "images_seen": job.loaded.images_seen,
        },
        "seed": cfg.seed,
        "truncation": cfg.truncation,
        "read_back": cfg.read_back,
        "labels": {name: str(value) for name, value in sorted(cfg.labels.items())},
        "pictures": {
            "count": len(selection.numbers),
            "first": selection.numbers[0],
            "last": selection.numbers[-1],
            "tried": selection.tried,
            "left out": selection.left_out,
        },
        "filters": {"detect_faces": cfg.dataset.detect_faces, "closest": cfg.dataset.closest},
        "images are": "synthetic",
    }

"""A packed data set of generated pictures: what ``generate.py what=dataset`` makes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from commands.checkpoints import data_of_run
from commands.command_line import option_text
from datamodules.progress import PreparationProgress
from imago import __version__
from imago.atomic import atomic_path
from imago.data.pack_format import file_checksum, is_packed
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
    training = _training_data(job)
    request = _request(job, training)
    if _is_made(job, request):
        print(f"{job.out} holds this data set already")
        return [job.out]

    def pictures(numbers: Sequence[int]) -> Tensor:
        latents = (job.latents([(cfg.seed, number)])[0] for number in numbers)
        codes = (job.labels.codes(cfg.seed, number) for number in numbers)
        return torch.stack(list(job.pictures(latents, len(numbers), codes)))

    most = int(np.ceil(cfg.count * max(1.0, cfg.dataset.max_tries)))
    with PreparationProgress("choosing pictures") as progress:
        selection = select(pictures, cfg.count, _filters(job, training), cfg.batch_size, most, progress)
    origin = {**request, "pictures": _chosen(selection)}
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
    # Not part of what identifies the pictures: they are the same where the training data are not at hand.
    origin["training data"] = training and {"name": training.name, "checksum": training.checksum}
    with atomic_path(job.out / PROVENANCE) as temporary:
        temporary.write_text(json.dumps(origin, indent=1, sort_keys=True) + "\n")
    print(
        f"wrote {len(dataset)} {'labelled' if conditional else 'unlabelled'} pictures of {height}×{width} to {job.out}"
    )
    for name, number in selection.left_out.items():
        print(f"left out: {number} {name}, of {selection.tried} pictures")
    if tuple(dataset.base) == tuple(network.get("base", [4, 4])):
        option = option_text("data.include_synthetic", job.out)
        print(f"to train on them besides real images: python train.py … {option}")
    else:
        print("their shape is not that of the training data; read_back=true makes pictures of that shape")
    return [job.out]


def _base(base: Sequence[int], height: int, width: int) -> tuple[int, int]:
    """The smallest level of a pack of enlarged pictures: their shape may differ from that of the training data."""
    if height * base[1] == width * base[0]:
        return (base[0], base[1])
    divisor = int(np.gcd(height, width))
    return (height // divisor, width // divisor)


def _is_made(job: Job, request: dict[str, Any]) -> bool:
    """Whether `out` holds the data set that was asked for, before hours are spent on choosing pictures.

    Raises:
        UserError: It holds something else.
    """
    out = job.out
    if not out.exists() or not any(out.iterdir()):
        return False
    if not is_packed(out):
        raise UserError(f"{out}: exists and is not a packed data set; choose another place or move it away")
    try:
        made = json.loads((out / PROVENANCE).read_text())
        wanted = json.loads(
            json.dumps({**request, "pictures": made["pictures"], "training data": made["training data"]})
        )
        same = made == wanted and made["pictures"]["count"] == job.cfg.count
    except FileNotFoundError:  # interrupted just before it was written: pack() tells whether it is the same
        return False
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(f"{out / PROVENANCE}: damaged; choose another place or delete {out}") from error
    if not same:
        raise UserError(f"{out}: already holds pictures made otherwise; choose another place or delete it")
    PackedDataset(out)  # says so if files are missing
    return True


def _filters(job: Job, training: PackedDataset | None) -> list[Filter]:
    cfg = job.cfg.dataset
    filters = [faces_only()] if cfg.detect_faces else []
    if cfg.closest is not None:
        if training is None:
            raise UserError(
                "dataset.closest compares with the training images: give dataset.data=… (their pack; prepare.py makes "
                "one)"
            )
        height = job.picture_extent[0]
        if height not in training.resolutions:
            held = ", ".join(map(str, training.resolutions))
            raise UserError(
                f"dataset.closest: pictures are {height} high and {training.name} holds images of {held}; pack it at "
                f"{height}, or make smaller ones: {'resolution=…' if height == job.resolution else 'read_back=true'}"
            )
        filters.append(no_copies(training, height, cfg.closest, mirror=True))
    return filters


def _training_data(job: Job) -> PackedDataset | None:
    """The pack that the generator was trained on; None where nothing tells.

    Raises:
        UserError: The one that is given is not there.
    """
    if job.cfg.dataset.data is not None:
        return PackedDataset(job.cfg.dataset.data)
    data = data_of_run(Path(job.cfg.checkpoint).expanduser())
    path = Path(str(data.get("path") or data.get("root") or "")).expanduser()
    return PackedDataset(path) if path.name and is_packed(path) else None


def _request(job: Job, training: PackedDataset | None) -> dict[str, Any]:
    """Where the pictures come from: all that they depend on."""
    cfg, loaded = job.cfg, job.loaded
    file = find_generator(Path(cfg.checkpoint).expanduser())
    return {
        "made by": f"imago {__version__}",
        "generator": {
            "file": file.name,
            "sha256": file_checksum(file),
            "network": type(loaded.generator).__name__,
            "config": loaded.config,
            "resolution": loaded.resolution,
            "alpha": loaded.alpha,
            "images_seen": loaded.images_seen,
        },
        "resolution": job.resolution,
        "seed": cfg.seed,
        "truncation": cfg.truncation,
        "read_back": cfg.read_back,
        "labels": {name: str(value) for name, value in sorted(cfg.labels.items())},
        "batch_size": cfg.batch_size,  # floating-point sums of other batches may differ in the last bit
        "filters": {
            "detect_faces": cfg.dataset.detect_faces,
            "closest": cfg.dataset.closest,
            "compared with": training.checksum if training and cfg.dataset.closest is not None else None,
        },
        "images are": "synthetic",
    }


def _chosen(selection: Selection) -> dict[str, Any]:
    return {
        "count": len(selection.numbers),
        "first": selection.numbers[0],
        "last": selection.numbers[-1],
        "tried": selection.tried,
        "left out": selection.left_out,
    }

"""Generators and checkpoints on disk.

A generator file is one ``.safetensors`` that tells in its own metadata how to build the network: a registered name and
its arguments, never a path to import. A checkpoint (``.ckpt``) is what training resumes from; it holds plain containers
and tensors and is loaded as such.
"""

import json
import lzma
import pickle
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from imago.atomic import atomic_path
from imago.errors import UserError, first_line
from imago.labels import LabelDistribution
from imago.networks import registry

FORMAT_VERSION = 1
GENERATOR_FILE = "generator.safetensors"
CHECKPOINT_FILE = "checkpoints/last.ckpt"
PREVIOUS_CHECKPOINT_FILE = "checkpoints/previous.ckpt"


@dataclass
class LoadedGenerator:
    """A generator with what its file says about it.

    Attributes:
        generator: The network, in evaluation mode.
        resolution: Height to which it was trained.
        alpha: Fade-in weight of that resolution when it was saved.
        images_seen: Real images that its discriminator had seen.
        config: Arguments that build the network.
        labels: What it can be asked for, if it is conditional.
    """

    generator: nn.Module
    resolution: int
    alpha: float
    images_seen: int
    config: dict[str, Any]
    labels: LabelDistribution | None = None

    def pictures(self, latents: Tensor, codes: Tensor | None = None, read_back: bool = True) -> Tensor:
        """Images as the run had them when it was saved.

        Args:
            latents: (N, latent_size) on the generator's device.
            codes: (N, K) of the labels, for a conditional generator.
            read_back: As large as those of the data set, where the networks saw them enlarged (HDCGAN's Glasses).

        Returns:
            (N, C, H, W), about in [-1, 1].

        Raises:
            UserError: Latents of another size; labels are missing, or given without need.
        """
        labels = None
        if codes is not None:
            if self.labels is None:
                raise UserError("this generator was trained without labels")
            labels = self.labels.coding.one_hot(codes.to(latents.device))
        images = self.generator(latents, labels, resolution=self.resolution, alpha=self.alpha)
        return self.generator.read_back(images) if read_back else images  # type: ignore[operator]


def describe_generator(
    generator: nn.Module, resolution: int, alpha: float, images_seen: int, labels: LabelDistribution | None = None
) -> dict[str, Any]:
    """What a file says about a generator, as plain containers; of the labels it was trained with, a sample of rows."""
    described = {} if labels is None else {"labels": labels.summary().to_plain()}
    return {
        "format": FORMAT_VERSION,
        "network": type(generator).__name__,
        "config": generator.config,
        "resolution": resolution,
        "alpha": alpha,
        "images_seen": images_seen,
        **described,
    }


def save_generator(path: Path, generator: nn.Module, description: dict[str, Any]) -> None:
    """Writes a generator file; it appears whole or not at all.

    Args:
        path: Ending in ``.safetensors``.
        generator: A registered network.
        description: From :func:`describe_generator`.

    Raises:
        OSError: The disk is full or not writable.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in generator.state_dict().items()}
    with atomic_path(path) as temporary:
        # By hand: safetensors' own writer makes files that only their owner can read, and hides the system's errors.
        temporary.write_bytes(safetensors.torch.save(tensors, metadata={"imago": json.dumps(description)}))


def load_generator(path: str | Path, device: str | torch.device = "cpu") -> LoadedGenerator:
    """Loads a generator from a run directory, a ``.ckpt`` or a ``.safetensors`` file.

    Args:
        path: A run directory means its newest generator.
        device: Where to put the network.

    Raises:
        UserError: There is no such file, it is damaged, or it is not imago's.
    """
    path = find_generator(path)
    checkpoint: dict[str, Any] = {}
    if path.suffix == ".ckpt":
        checkpoint = load_checkpoint(path)
        description, tensors = checkpoint.get("description"), checkpoint.get("generator_ema")
    else:
        description, tensors = read_safetensors(path)
    refuse_classifier(path, description, checkpoint)
    if not isinstance(description, dict) or not isinstance(tensors, dict) or "network" not in description:
        raise UserError(f"{path}: not written by imago: nothing in it says how to build a network")
    if description.get("format") != FORMAT_VERSION:
        raise UserError(
            f"{path}: format {description.get('format')} of generator files; this version reads {FORMAT_VERSION}"
        )
    try:
        generator = registry.build(str(description["network"]), dict(description["config"]))
        if not hasattr(generator, "latent_size"):
            hint = ": it enlarges pictures, see upres.py" if hasattr(generator, "factor") else ""
            raise UserError(f"{description['network']} is not a generator{hint}")
        generator.load_state_dict(tensors)
        labels = LabelDistribution.from_plain(description["labels"]) if "labels" in description else None
        wanted = int(generator.label_size)  # type: ignore[arg-type]
        if wanted != (labels.coding.size if labels else 0):
            raise UserError(f"it takes labels of {wanted} components, the file describes {_described(labels)}")
        return LoadedGenerator(
            generator.to(device).eval().requires_grad_(False),
            int(description["resolution"]),
            float(description["alpha"]),
            int(description["images_seen"]),
            dict(description["config"]),
            labels,
        )
    except (RuntimeError, LookupError, TypeError, ValueError, ArithmeticError, AttributeError) as error:
        raise UserError(f"{path}: the network in it cannot be built: {first_line(error)}") from error


def _described(labels: LabelDistribution | None) -> str:
    return "none" if labels is None else str(labels.coding.size)


def read_description(path: str | Path) -> dict[str, Any]:
    """What a generator's file says about it (see :func:`describe_generator`), without building the network.

    Raises:
        UserError: There is no such file, it is damaged, or it is not imago's.
    """
    path = find_generator(path)
    checkpoint: dict[str, Any] = {}
    if path.suffix == ".ckpt":
        checkpoint = load_checkpoint(path)
        description = checkpoint.get("description")
    else:
        try:
            with safe_open(path, framework="pt") as file:
                description = json.loads((file.metadata() or {}).get("imago", "null"))
        except (SafetensorError, OSError, json.JSONDecodeError) as error:
            raise UserError(f"{path}: not a whole .safetensors file ({first_line(error)})") from error
    refuse_classifier(path, description, checkpoint)
    if not isinstance(description, dict) or not {"config", "resolution", "images_seen"} <= description.keys():
        raise UserError(f"{path}: not written by imago: nothing in it says how to build a network")
    return description


def refuse_classifier(path: Path, description: Any, checkpoint: Mapping[str, Any]) -> None:
    """Tells what is wrong with a file that is imago's and yet no use to who wants pictures.

    Args:
        path: Of the file.
        description: What it says about its network; the checkpoints of classifiers say nothing.
        checkpoint: What is in it, if it is a ``.ckpt``.

    Raises:
        UserError: It holds an attribute classifier.
    """
    named = isinstance(description, dict) and description.get("network") == "AttributeClassifier"
    if named or (description is None and {"network", "best"} <= checkpoint.keys()):
        raise UserError(f"{path}: holds an attribute classifier, which makes no pictures")


def find_generator(path: str | Path) -> Path:
    """The file that a user means: a file as it is, a run directory's newest generator or checkpoint.

    Raises:
        UserError: Nothing there.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        for name in (GENERATOR_FILE, CHECKPOINT_FILE, PREVIOUS_CHECKPOINT_FILE):
            if (path / name).exists():
                return path / name
        raise UserError(f"{path}: no {GENERATOR_FILE} in it; is it a run directory that has reached a snapshot?")
    if not path.exists():
        raise UserError(f"{path}: no such file or run directory")
    if path.suffix not in (".ckpt", ".safetensors"):
        raise UserError(f"{path}: a checkpoint is a run directory, a .ckpt or a .safetensors file")
    return path


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Loads a training checkpoint: plain containers and tensors, on the CPU.

    The archive's checksums are verified first; PyTorch itself does not, and a flipped bit would go unnoticed.

    Raises:
        UserError: Damaged, not a checkpoint, or it names code to run.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        state = torch.load(path, map_location="cpu", weights_only=True) if damaged is None else None
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{path}: refused, because it names code to import; imago's checkpoints hold plain containers only"
        ) from error
    # A flipped bit can also turn a stored member into a compressed one, or its name into no UTF-8 (a ValueError).
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, OSError, RuntimeError, EOFError, ValueError) as error:
        raise UserError(f"{path}: not a whole checkpoint ({first_line(error)})") from error
    if damaged is not None:
        raise UserError(f"{path}: damaged ({damaged} does not match its checksum)")
    if not isinstance(state, dict):
        raise UserError(f"{path}: not a checkpoint of imago")
    return state


def read_safetensors(path: Path) -> tuple[dict[str, Any] | None, dict[str, Tensor]]:
    """What a ``.safetensors`` file says about its network (None if nothing), and the network's tensors.

    Raises:
        UserError: The file is damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get("imago")
            return json.loads(text) if text else None, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, json.JSONDecodeError) as error:
        raise UserError(f"{path}: not a whole .safetensors file ({first_line(error)})") from error

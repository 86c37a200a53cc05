"""Trained up-resolution networks from their files."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from imago.errors import UserError, first_line
from imago.networks import registry
from imago.networks.jnet import JNet
from imago.networks.serialization import (
    CHECKPOINT_FILE,
    FORMAT_VERSION,
    find_generator,
    load_checkpoint,
    read_safetensors,
    refuse_classifier,
)
from imago.upres.selection import Score, patch_score
from imago.upres.stages import Stage


def load_stage(path: str | Path, device: str | torch.device = "cpu") -> Stage:
    """The stage that a run trained: its averaged network, its geometry, and its discriminator where there is one.

    Args:
        path: A run directory, a ``.ckpt`` or a ``.safetensors`` file. Only checkpoints hold a discriminator; of a run
            directory it is taken from its last one.
        device: Where to put the networks.

    Raises:
        UserError: There is no such file, it is damaged, or it holds no up-resolution network.
    """
    file = find_generator(path)
    checkpoint: dict[str, Any] | None = None
    if file.suffix == ".ckpt":
        checkpoint = load_checkpoint(file)
        description, tensors = checkpoint.get("description"), checkpoint.get("generator_ema")
    else:
        description, tensors = read_safetensors(file)
        beside = Path(path).expanduser() / CHECKPOINT_FILE
        if beside.is_file():
            checkpoint = load_checkpoint(beside)
    refuse_classifier(file, description, checkpoint or {})
    if not isinstance(description, dict) or not isinstance(tensors, dict) or "network" not in description:
        raise UserError(f"{file}: not written by imago: nothing in it says how to build a network")
    if description.get("format") != FORMAT_VERSION:
        raise UserError(f"{file}: format {description.get('format')}; this version reads {FORMAT_VERSION}")
    if description["network"] != JNet.__name__:
        raise UserError(
            f"{path}: holds a {description['network']}, which makes pictures from noise; checkpoint= takes "
            "up-resolution networks, generator= what makes the pictures"
        )
    network = _built(file, str(description["network"]), description.get("config"), tensors, device)
    assert isinstance(network, JNet)
    return Stage(
        network,
        factor=network.factor,
        tile=network.crop,
        guide_channels=network.guide_channels,
        guide_style=network.guide,
        score=None if checkpoint is None else _score(file, checkpoint, device),
        device=str(device),
        face_size=network.face_size,
        low_size=network.low_size,
    )


def _score(file: Path, checkpoint: dict[str, Any], device: str | torch.device) -> Score | None:
    description = checkpoint.get("discriminator_description")
    if not isinstance(description, dict):
        return None  # an autoencoder gives no score
    name, config = str(description.get("network")), description.get("config")
    return patch_score(_built(file, name, config, checkpoint.get("discriminator"), device))


def _built(file: Path, name: str, config: Any, tensors: Any, device: str | torch.device) -> nn.Module:
    try:
        network = registry.build(name, dict(config))
        network.load_state_dict(tensors)
        network = network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        return network.eval().requires_grad_(False)
    except (RuntimeError, LookupError, TypeError, ValueError, ArithmeticError, AttributeError) as error:
        raise UserError(f"{file}: the network in it cannot be built: {first_line(error)}") from error

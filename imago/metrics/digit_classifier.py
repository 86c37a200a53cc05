"""A small network that reads MNIST's digits, for the discrete mode test; trained once, in a few minutes on one core.

Karras et al. 2018, appendix E: "digits are classified using a pre-trained classifier (0.4% error rate in our case)".
Neither the paper nor Metz et al. 2016 says more about it, so this one is our own: four convolutions with BatchNorm,
trained with Adam on digits that are moved and turned a little.
"""

import hashlib
import itertools
import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from imago import randomness
from imago.atomic import atomic_path
from imago.data.locking import exclusive
from imago.data.packing import default_cache
from imago.data.sources.mnist import MNIST
from imago.errors import UserError, first_line

SIDE = 32  # pixels that the network sees
DIGITS = 10

_RECIPE = 1  # counts changes of the network and its training, so that an older file in the cache is not taken for it
_WIDTHS = (24, 48, 96, 128)
_POOLINGS = 3  # after the first convolutions
_BATCH = 128
_LEARNING_RATE = 4e-3  # at the peak of the schedule
_WARM_UP = 0.2  # share of the steps until the peak
_SMOOTHING = 0.05  # of the labels: some training digits are ambiguous, a few are wrong
_SHIFT, _TURN, _SCALE = 1.0, math.radians(7), 0.07  # most that a digit is moved (pixels), turned (radians), scaled
_CHUNK = 512  # digits classified at once

Progress = Callable[[int, int], None]


class DigitClassifier(nn.Module):
    """Digits to logits.

    Attributes:
        test_error: Share of MNIST's 10,000 test digits that are misread, in [0, 1]; NaN where it was not measured.
    """

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for position, (inputs, outputs) in enumerate(itertools.pairwise((1, *_WIDTHS))):
            convolution = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
            layers += [convolution, nn.BatchNorm2d(outputs), nn.ReLU()]
            if position < _POOLINGS:
                layers.append(nn.MaxPool2d(2))
        self.convolutions = nn.Sequential(*layers)
        self.output = nn.Linear(_WIDTHS[-1] * (SIDE // 2**_POOLINGS) ** 2, DIGITS)
        self.test_error = math.nan

    def forward(self, digits: Tensor) -> Tensor:
        """Logits of digits.

        Args:
            digits: float32 ``(N, 1, 32, 32)`` in [0, 1], white on black; see :func:`as_network_input`.

        Returns:
            ``(N, 10)``.
        """
        return self.output(self.convolutions(digits).flatten(1))

    @torch.inference_mode()
    def classify(self, images: Tensor) -> Tensor:
        """The digit that each channel of each image shows; always one of ten, however little it resembles any.

        Args:
            images: uint8 ``(N, C, H, W)`` of any size, see :func:`as_network_input`.

        Returns:
            int64 ``(N, C)`` on the CPU. Does not depend on how many are classified at once.
        """
        self.eval()
        device = self.output.weight.device
        digits = [
            self(as_network_input(part.to(device))).argmax(dim=1).view(part.shape[:2]).cpu()
            for part in images.split(_CHUNK)
        ]
        return torch.cat(digits) if digits else torch.zeros(images.shape[:2], dtype=torch.int64)


def as_network_input(images: Tensor) -> Tensor:
    """Every channel as a digit of the size that the network reads.

    28×28 digits get two black pixels on each side, as MNIST is prepared for 32×32 generators; 32×32 are taken as they
    are; any other size is taken as a picture of the padded digit, and resized to 32×32 (bilinear, without aliases).

    Args:
        images: uint8 ``(N, C, H, W)``.

    Returns:
        float32 ``(N · C, 1, 32, 32)`` in [0, 1].

    Raises:
        UserError: Not such a tensor, or not square.
    """
    if images.ndim != 4 or images.dtype != torch.uint8 or images.shape[2] != images.shape[3]:
        found = f"{str(images.dtype).removeprefix('torch.')} of shape {tuple(images.shape)}"
        raise UserError(f"digits must be square uint8 images (N, C, H, H), not {found}")
    digits = images.flatten(0, 1)[:, None].float() / 255
    side = digits.shape[-1]
    if side == 28:
        return F.pad(digits, (2, 2, 2, 2))
    if side == SIDE:
        return digits
    return F.interpolate(digits, (SIDE, SIDE), mode="bilinear", align_corners=False, antialias=True).clamp(0, 1)


def train_digit_classifier(
    images: Tensor, labels: Tensor, seed: int = 0, epochs: int = 4, progress: Progress | None = None
) -> DigitClassifier:
    """Trains a classifier of digits, on the CPU.

    The same arguments give the same weights on the same machine: starting weights, order and distortions are
    counter-based; floating point may differ between processors and with the number of threads.

    Args:
        images: uint8 ``(N, 1, H, H)``, white on black, any size (see :func:`as_network_input`).
        labels: Integers ``(N,)`` from 0 to 9.
        seed: Of everything random.
        epochs: Times that each digit is seen.
        progress: Called with (digits seen, digits to be seen) as the work goes on.

    Returns:
        The network, in evaluation mode; its `test_error` is NaN.

    Raises:
        UserError: Images and labels do not fit together, fewer than two digits, or no epoch.
    """
    digits = as_network_input(images)
    if len(digits) != len(labels) or len(digits) < 2 or images.shape[1] != 1 or epochs < 1:
        raise UserError(
            f"images {tuple(images.shape)}, labels {tuple(labels.shape)}, {epochs=}: "
            "training needs two grey digits or more, a label for each, and an epoch or more"
        )
    if not bool(((labels >= 0) & (labels < DIGITS)).all()):
        raise UserError("labels of digits must lie in [0, 9]")
    labels = labels.long().cpu()
    count = len(digits)
    network = _with_drawn_weights(DigitClassifier(), seed).train()
    optimizer = torch.optim.Adam(network.parameters(), betas=(0.9, 0.99))
    # `seen` is a position in the epochs laid end to end; a last digit alone is left out: BatchNorm needs two.
    for seen in range(0, count * epochs - 1, _BATCH):
        positions = np.arange(seen, min(seen + _BATCH, count * epochs))
        chosen = torch.from_numpy(_order(seed, positions, count))
        for group in optimizer.param_groups:
            group["lr"] = _LEARNING_RATE * _schedule(seen / (count * epochs))
        logits = network(_distorted(digits[chosen], seed, seen))
        loss = F.cross_entropy(logits, labels[chosen], label_smoothing=_SMOOTHING)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        if progress is not None:
            progress(int(positions[-1]) + 1, count * epochs)
    return network.eval().requires_grad_(False)


def digit_classifier(
    root: str | Path, cache: str | Path | None = None, seed: int = 0, epochs: int = 4, progress: Progress | None = None
) -> DigitClassifier:
    """The classifier trained on MNIST's 60,000 training digits: from the cache, or trained now and kept there.

    Args:
        root: MNIST's folder, see :class:`imago.data.sources.mnist.MNIST`.
        cache: A folder; :func:`imago.data.packing.default_cache` by default. A second process that wants the same
            classifier waits for the first.
        seed: See :func:`train_digit_classifier`, as for the following.
        epochs: Times that each digit is seen.
        progress: Called with (digits seen, digits to be seen) while it is trained.

    Returns:
        The network, with its `test_error`.

    Raises:
        UserError: MNIST is not there, or the cache cannot be written or holds a damaged file.
    """
    train, test = MNIST(root, "train"), MNIST(root, "test")
    identity = json.dumps([_RECIPE, seed, epochs, train.fingerprint(), test.fingerprint()])
    digest = hashlib.blake2b(identity.encode(), digest_size=6).hexdigest()
    path = Path(cache or default_cache()).expanduser() / f"digit-classifier-{digest}.safetensors"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            return load_digit_classifier(path)
        with exclusive(path.with_suffix(".lock")):
            if not path.exists():
                network = train_digit_classifier(*_tensors(train), seed, epochs, progress)
                images, labels = _tensors(test)
                network.test_error = float((network.classify(images)[:, 0] != labels).double().mean())
                save_digit_classifier(path, network)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror})") from error
    return load_digit_classifier(path)


def save_digit_classifier(path: Path, network: DigitClassifier) -> None:
    """Writes a classifier and, in the metadata, its error on the test set; the file appears whole or not at all."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    metadata = {"imago": json.dumps({"recipe": _RECIPE, "test_error": network.test_error})}
    with atomic_path(path) as temporary:
        temporary.write_bytes(safetensors.torch.save(tensors, metadata=metadata))


def load_digit_classifier(path: str | Path) -> DigitClassifier:
    """Reads a classifier that :func:`save_digit_classifier` wrote.

    Raises:
        UserError: It is not one, or damaged.
    """
    network = DigitClassifier()
    try:
        with safe_open(str(path), "pt") as file:
            description = json.loads((file.metadata() or {})["imago"])
            network.load_state_dict({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
        network.test_error = float(description["test_error"])
    except (OSError, SafetensorError, KeyError, ValueError, RuntimeError, TypeError) as error:
        raise UserError(f"{path}: not a whole digit classifier ({first_line(error)}); delete it") from error
    return network.eval().requires_grad_(False)


def _with_drawn_weights(network: DigitClassifier, seed: int) -> DigitClassifier:
    """He's initialisation, drawn by the seed."""
    for name, parameter in network.named_parameters():
        if parameter.ndim > 1:
            fan_in = parameter[0].numel()
            drawn = randomness.normal(seed, f"digits/weights/{name}", 0, 1, parameter.numel())[0]
            parameter.data = torch.from_numpy(drawn).float().view_as(parameter) * math.sqrt(2 / fan_in)
        elif name == "output.bias":
            nn.init.zeros_(parameter)
    return network


def _order(seed: int, positions: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """The digits at these positions of the epochs laid end to end, each a permutation of its own."""
    epochs = positions // count
    parts = [
        randomness.permutation(seed, "digits/order", int(epoch), count)[positions[epochs == epoch] % count]
        for epoch in np.unique(epochs)
    ]
    return np.concatenate(parts)


def _schedule(done: float) -> float:
    """Share of the peak learning rate: up and down along straight lines."""
    return min((done + 1e-3) / _WARM_UP, (1 - done) / (1 - _WARM_UP))


def _distorted(digits: Tensor, seed: int, position: int) -> Tensor:
    """Digits ``(N, 1, S, S)`` moved, turned and scaled at random, those at the given positions of the epochs."""
    draws = torch.from_numpy(randomness.uniform(seed, "digits/distortion", position, len(digits), 4)).float() * 2 - 1
    angle, scale = draws[:, 0] * _TURN, torch.exp(draws[:, 1] * _SCALE)
    shift = draws[:, 2:] * (2 * _SHIFT / SIDE)  # (N, 2), in units of half a side
    turn = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], dim=1).view(-1, 2, 2)
    matrices = torch.cat([turn * scale[:, None, None], shift[:, :, None]], dim=2)  # (N, 2, 3)
    grid = F.affine_grid(matrices, list(digits.shape), align_corners=False)
    return F.grid_sample(digits, grid, align_corners=False)


def _tensors(source: MNIST) -> tuple[Tensor, Tensor]:
    """All digits of a source: uint8 ``(N, 1, 32, 32)``, int64 ``(N,)``."""
    items = [source.read(index) for index in range(len(source))]
    images = np.stack([item.image for item in items]).transpose(0, 3, 1, 2)
    labels = np.array([int((item.labels or {})["digit"]) for item in items])
    return torch.from_numpy(np.ascontiguousarray(images)), torch.from_numpy(labels)

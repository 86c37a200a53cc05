"""Inception's features, which FID, KID and the Inception score of papers are made of, by torch-fidelity's network."""

import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from imago.errors import MissingDependencyError, UserError, first_line
from imago.metrics.checks import check_images
from imago.metrics.features.extractor import file_digest
from imago.metrics.precision import full_precision
from imago.metrics.resizing import WAYS, resize, to_bytes

WEIGHTS_FILE = "weights-inception-2015-12-05-6726825d.pth"
WEIGHTS_URL = f"https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/{WEIGHTS_FILE}"
# Also that of pytorch-fid's pt_inception-2015-12-05-6726825d.pth, which is the same file.
WEIGHTS_DIGEST = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"

_SIDE = 299  # pixels
_LAYERS = ["2048", "logits_unbiased"]  # torch-fidelity's names: the last pooling, and what is made of it without a bias


class InceptionFeatures:
    """The 2048 numbers after the last pooling of the Inception network of 2015, and its logits without their bias.

    The weights are converted from the TensorFlow graph of the original Inception score (Salimans et al. 2016) and FID
    (Heusel et al. 2017). On a GPU, convolutions run in float32, not TF32, to give the numbers of papers.

    Args:
        weights: The file of the weights, see `WEIGHTS_FILE`. None: where PyTorch keeps downloads; downloaded if it is
            not there.
        resize: How images are brought to 299². "tf1" (the default): inside the network, as in the TensorFlow graph.
            "clean" or "box" (:func:`imago.metrics.resizing.resize`): before it, then rounded to bytes, as
            torch-fidelity takes nothing else; clean-fid does not round.
        device: Where the network runs.

    Raises:
        MissingDependencyError: torch-fidelity is not installed.
        UserError: It cannot be imported, or the weights are not there, not the published ones or not to be had.
    """

    name = "inception"
    size = 2048
    has_logits = True

    def __init__(
        self, weights: str | Path | None = None, resize: str | None = None, device: str | torch.device = "cpu"
    ) -> None:
        how = resize or "tf1"
        if how not in WAYS:
            raise UserError(f"resize={how!r}: must be one of {', '.join(WAYS)}")
        fidelity = _import_fidelity()
        path = _find_weights(weights)
        self.resize = how
        self.device = torch.device(device)
        rounded = "" if how == "tf1" else ", rounded"
        self.protocol = f"Inception-v3 of 2015 (torch-fidelity), images at {_SIDE}² ({how}{rounded})"
        self.identity = f"inception/{WEIGHTS_DIGEST}/{how}"
        network = fidelity.FeatureExtractorInceptionV3(self.name, _LAYERS, feature_extractor_weights_path=str(path))
        self._network = network.eval().to(self.device)

    def __call__(self, images: Tensor) -> Tensor:
        """Features of images uint8 ``(N, 3, H, W)``: float32 ``(N, 2048)`` on the CPU."""
        return self.features_and_logits(images)[0]

    def features_and_logits(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Features, and logits float32 ``(N, 1008)`` of the same pass, on the CPU."""
        images = check_images(images)
        if self.resize != "tf1":
            images = to_bytes(resize(images, _SIDE, self.resize))  # at 299² the network's own resizing does nothing
        with torch.inference_mode(), full_precision(self.device):
            features, logits = self._network(images.to(self.device))
        return features.float().cpu(), logits.float().cpu()


def _import_fidelity() -> Any:
    try:
        import torch_fidelity
    except ModuleNotFoundError as error:
        if error.name == "torch_fidelity":
            raise MissingDependencyError("torch_fidelity", "for Inception's features", "fid") from error
        raise _unusable(error) from error
    except Exception as error:  # a torchvision of another torch raises what it likes: RuntimeError, OSError, …
        raise _unusable(error) from error
    return torch_fidelity


def _unusable(error: Exception) -> UserError:
    return UserError(
        f"torch_fidelity cannot be imported ({first_line(error)}); it needs the torchvision that was built for torch "
        f"{torch.__version__}, or take features=torchscript, which needs neither"
    )


def _find_weights(path: str | Path | None) -> Path:
    """The file of the weights, downloaded if need be, with its digest checked: it is a pickle, which can run code."""
    if path is None:
        found = Path(torch.hub.get_dir()) / "checkpoints" / WEIGHTS_FILE
        if not found.is_file():
            _download(found)
    else:
        found = Path(path).expanduser()
        if not found.is_file():
            raise UserError(f"weights={found}: no such file; expected {WEIGHTS_FILE} from {WEIGHTS_URL}")
    digest = file_digest(found)
    if digest != WEIGHTS_DIGEST:
        raise UserError(
            f"{found}: not the published Inception weights {WEIGHTS_FILE} (SHA-256 begins with {digest[:8]}, must be "
            f"{WEIGHTS_DIGEST[:8]}…); remove it and download it again"
        )
    return found


def _download(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Into a file of its own that is renamed when whole, so several processes may do so at once.
        torch.hub.download_url_to_file(WEIGHTS_URL, str(path), WEIGHTS_DIGEST, progress=sys.stderr.isatty())
    except (OSError, RuntimeError) as error:  # no network, no space; another digest
        raise UserError(
            f"cannot download the Inception weights ({first_line(error)}); fetch {WEIGHTS_URL} elsewhere and put it at "
            f"{path} or name it by weights="
        ) from error

"""Patches of images' Laplacian pyramids, drawn at random places, and where millions of them are kept.

A descriptor is a patch of 7×7 pixels in all channels of one level (Karras et al. 2018, section 5): 147 numbers.
"""

import tempfile
from collections.abc import Iterator

import torch
from torch import Tensor

from imago import randomness
from imago.errors import UserError

PATCH = 7

# Blocks of descriptors are joined until they have as many rows: few enough to pass over again and again (19 MB each).
BLOCK_ROWS = 1 << 15
_READ_ROWS = 1 << 14  # 10 MB


def draw_corners(
    seed: int, purpose: str, size: tuple[int, int], first: int, count: int, patches: int, device: torch.device
) -> Tensor:
    """Where the patches of the images [first, first + count) begin, uniform over a level, with replacement.

    Args:
        seed: The seed.
        purpose: What they are for; levels and sets of images have different ones.
        size: Height and width of the level, each ≥ 7.
        first: Index of the first image in its set.
        count: How many images.
        patches: Patches of an image.
        device: Where they are wanted; they are drawn on the CPU.

    Returns:
        int64 ``(count, patches, 2)``: row and column of a patch's first pixel. An image's depend on its index alone.
    """
    places = [side - PATCH + 1 for side in size]
    uniform = randomness.uniform(seed, purpose, first, count, 2 * patches).reshape(count, patches, 2)
    return torch.from_numpy((uniform * places).astype("int64")).to(device)


def extract_patches(level: Tensor, corners: Tensor) -> Tensor:
    """The patches of a level that begin at `corners`.

    Args:
        level: ``(N, C, H, W)``.
        corners: int64 ``(N, P, 2)``; see :func:`draw_corners`.

    Returns:
        ``(N · P, C · 49)``, image after image, each row a patch ``(C, 7, 7)``.
    """
    count, channels, height, width = level.shape
    pixels = torch.arange(PATCH, device=level.device)
    window = pixels[:, None] * width + pixels
    offsets = (torch.arange(channels, device=level.device)[:, None, None] * (height * width) + window).flatten()
    images = torch.arange(count, device=level.device)[:, None] * (channels * height * width)
    starts = (images + corners[..., 0] * width + corners[..., 1]).flatten()  # (N · P,)
    # One gather over flat pixels: several times as fast as an index per axis.
    return level.flatten().index_select(0, (starts[:, None] + offsets).flatten()).view(len(starts), -1)


def channel_sums(descriptors: Tensor, channels: int) -> Tensor:
    """Sums and sums of squares per channel: ``(M, C · 49)`` → float64 ``(2, C)``."""
    values = descriptors.view(-1, channels, PATCH * PATCH)
    sums = values.sum(dim=2, dtype=torch.float64).sum(dim=0)
    norms = torch.linalg.vector_norm(values, dim=2, dtype=torch.float64)
    return torch.stack([sums, norms.square_().sum(dim=0)])


class DescriptorFile:
    """Descriptors in a temporary file that has no name: it vanishes with this object or its process.

    It lies where Python puts temporary files; the environment variable TMPDIR moves it.
    """

    def __init__(self, size: int) -> None:
        """Args: size: Components of a descriptor."""
        self.rows = 0
        self._size = size
        self._file = tempfile.TemporaryFile(prefix="imago-", buffering=0)  # noqa: SIM115 - it stays open

    def append(self, block: Tensor) -> None:
        """Adds float32 descriptors ``(M, size)``.

        Raises:
            UserError: The disk is full.
        """
        data = block.cpu().contiguous().numpy().data.cast("B")
        try:
            self._file.seek(0, 2)
            while data:
                data = data[self._file.write(data) :]
        except OSError as error:
            folder = tempfile.gettempdir()
            reason = f"descriptors do not fit into {folder} ({error.strerror})"
            raise UserError(f"{reason}; set TMPDIR to a folder with more room") from error
        self.rows += len(block)

    def blocks(self) -> Iterator[Tensor]:
        """Float32 ``(m, size)`` in the order they were added, on the CPU; each is overwritten by the next."""
        buffer = torch.empty(_READ_ROWS, self._size)
        self._file.seek(0)
        for first in range(0, self.rows, _READ_ROWS):
            block = buffer[: self.rows - first]
            data = block.numpy().data.cast("B")
            while data:
                read = self._file.readinto(data)
                assert read, "the file is shorter than what was written"
                data = data[read:]
            yield block

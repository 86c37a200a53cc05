"""One stage of up-resolution: a trained network and what it was trained for, over a picture of any extent."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import interpolate

from imago.errors import UserError
from imago.faces.guide import GuideStyle, draw_guide, guide_channels
from imago.upres.colour import ColourCorrection
from imago.upres.execution import Network, TileNetwork, TilingReport, in_batches
from imago.upres.options import TilingOptions
from imago.upres.pixels import Pixels, Sink, Stack, as_stack, check_out, from_unit, pixel_type, to_unit, write_to
from imago.upres.selection import Choice, Score, Variants, find_score
from imago.upres.tiles import Progress, blend_tiles, grid_over


@dataclass(frozen=True)
class Stage:
    """A network with all that running it needs.

    Attributes:
        network: ``(B, 3 + guide_channels, tile, tile)`` → ``(B, 3, factor · tile, factor · tile)``.
        factor: How much it enlarges.
        tile: Extent that it was trained on, in low pixels.
        guide_channels: Channels of the guide; 0: it takes none.
        guide_style: How the guide is drawn, as :func:`imago.faces.guide.draw_guide` names it.
        score: Its discriminator, for the choice among variants: (stack tiles, output tiles) → ``(B,)``, higher is
            better.
        device: Where the network is ("cpu", "cuda", "cuda:1").
        face_size: Height of the pictures that it was trained on, before their guide was stacked on them.
        low_size: Height to which stacks of these were shrunk.
    """

    network: Network
    factor: int = 8
    tile: int = 32
    guide_channels: int = 3
    guide_style: GuideStyle = "rgb"
    score: Score | None = None
    device: str = "cpu"
    face_size: int = 128
    low_size: int = 96

    @property
    def resolution(self) -> int:
        """Height of the pictures that it learnt to make."""
        return self.factor * self.low_size


@dataclass(frozen=True)
class UpresResult:
    """What came out.

    Attributes:
        picture: `out`, or a float32 tensor ``(3, factor · h, factor · w)`` in [-1, 1].
        choice: The variant shown: its number for the whole picture, numbers (rows, columns) of each tile, or None for
            the mean. Given to the next picture of a film as `variant`, it is shown in the same way.
        report: What happened on the way.
    """

    picture: Any
    choice: Choice
    report: TilingReport = field(default_factory=TilingReport)


def upres_stack(
    stage: Stage,
    stack: Pixels | Stack,
    options: TilingOptions | None = None,
    out: Sink | None = None,
    variant: int | NDArray[np.int64] | None = None,
    progress: Progress | None = None,
) -> UpresResult:
    """Enlarges a picture with its guide.

    Memory is bounded by a batch of tiles and the rows of a tile, if neither `stack` nor `out` are in memory.

    Args:
        stage: The network.
        stack: ``(3 + guide_channels, h, w)``: the picture (floating point in [-1, 1], or integers) and its guide in
            [0, 1]; a tensor, an array, a memory map or a :class:`~imago.upres.pixels.Stack`.
        options: How; by default the mean of the plain variant alone, with colour correction.
        out: ``(3, factor · h, factor · w)``, where rows are written in its own type: a tensor, an array, a memory map,
            or anything that takes ``out[:, a:b] = rows``; None: a float32 tensor is made.
        variant: A choice made before, kept: the number of a variant, or one for each tile, (rows, columns).
        progress: progress(tiles done, tiles in all), after each batch; a pass that only scores counts them also.

    Returns:
        The picture, the choice among variants, and a report.

    Raises:
        UserError: Shapes or options that do not fit the stage, memory that does not suffice for one tile, output that
            is not finite.
    """
    options = TilingOptions() if options is None else options
    stack = as_stack(stack)
    if stack.shape[0] != 3 + stage.guide_channels:
        raise UserError(f"the network takes 3 + {stage.guide_channels} channels, and the stack has {stack.shape[0]}")
    height, width = stage.factor * stack.shape[1], stage.factor * stack.shape[2]
    result: Sink = torch.empty(3, height, width) if out is None else out
    check_out(result, 3, height, width)
    grid = grid_over(stack.shape, stage.tile, options.stride_of(stage.tile))
    report = TilingReport()
    network = TileNetwork(stage.network, stage.factor, stage.device, options.precision, report=report)
    needs_score = options.chooses and variant is None
    score = find_score(options.score, stage.score) if needs_score else None
    variants = Variants(network, options.parsed_variants, grid.shape, score)
    judged = needs_score and options.choice == "picture"

    def told(before: int, done: int) -> None:
        if progress is not None:
            progress(before + done, (2 if judged else 1) * grid.count)

    emit = write_to(result)
    if options.colour > 0:
        emit = ColourCorrection(stack, stage.factor, options.colour_blur, options.colour, emit)
    batch = options.batch
    choice: Choice = 0 if variant is None and len(options.variants) == 1 else variant
    with evaluating(stage.network):
        if judged:
            tiles = partial(grid.load, stack, device=stage.device)
            for first, number in in_batches(variants.judge, tiles, grid.count, batch, report):
                told(first, number)
            choice, batch = int(variants.scores.mean(axis=0).argmax()), report.batch
        function = variants.best if needs_score else variants.mean
        if choice is not None:
            variants.choose(choice)
            function = variants.chosen
        blend_tiles(
            function,
            stack,
            grid,
            stage.factor,
            emit,
            batch=batch,
            report=report,
            device=stage.device,
            progress=lambda done, count: told(count if judged else 0, done),
        )
    if needs_score:
        report.scores = variants.scores.mean(axis=0).tolist()
        choice = variants.choices.reshape(grid.shape).copy() if choice is None else choice
    return UpresResult(result, choice, report)


def upres_image(
    picture: Tensor,
    stage: Stage,
    faces: Sequence[NDArray[np.floating]] = (),
    options: TilingOptions | None = None,
) -> Tensor:
    """Enlarges a picture, all of it.

    The network reads the picture as it is. Grey is run as RGB and averaged; alpha is enlarged apart from the network,
    by bicubic interpolation.

    Args:
        picture: ``(C, H, W)`` with C = 1 (grey), 3 (RGB) or 4 (RGBA): uint8, uint16, or floating point in [-1, 1].
        stage: The network.
        faces: Landmarks of the faces in it, ``(68, 2)``, x before y, in pixels of the picture with pixel centres at
            integers; the guide is drawn where they are.
        options: How; see :class:`~imago.upres.options.TilingOptions`.

    Returns:
        ``(C, factor · H, factor · W)`` of the same type, on the same device.

    Raises:
        UserError: Another picture, or what :func:`upres_stack` refuses.
    """
    if picture.ndim != 3 or picture.shape[0] not in (1, 3, 4) or 0 in picture.shape:
        raise UserError(f"a picture must be (C, H, W) with C = 1, 3 or 4, not {tuple(picture.shape)}")
    kind = pixel_type(picture)
    channels, height, width = picture.shape
    parts: list[Tensor] = [picture.expand(3, -1, -1) if channels == 1 else picture[:3]]
    if stage.guide_channels:
        if guide_channels(stage.guide_style) != stage.guide_channels:
            raise UserError(f"a guide drawn as {stage.guide_style} has not the {stage.guide_channels} channels needed")
        parts.append(draw_guide(list(faces), (height, width), stage.guide_style))
    result = torch.empty(channels, stage.factor * height, stage.factor * width, dtype=kind, device=picture.device)
    out: Sink = _Averaged(result) if channels == 1 else result[:3]
    upres_stack(stage, Stack(*parts), options, out)
    if channels == 4:
        alpha = to_unit(picture[3:])[None]
        result[3:] = from_unit(interpolate(alpha, scale_factor=stage.factor, mode="bicubic", antialias=True)[0], kind)
    return result


class _Averaged:
    """Takes rows of RGB for a grey picture."""

    dtype = np.dtype(np.float32)

    def __init__(self, grey: Tensor) -> None:
        self.emit = write_to(grey)

    def __setitem__(self, key: tuple[slice, slice], rows: NDArray[np.float32]) -> None:
        self.emit(key[1].start, torch.from_numpy(rows).mean(dim=0, keepdim=True))


@contextmanager
def evaluating(network: object) -> Iterator[None]:
    """Puts a module into evaluation, and back into training after if it was."""
    training = isinstance(network, nn.Module) and network.training
    if isinstance(network, nn.Module):
        network.eval()
    try:
        yield
    finally:
        if isinstance(network, nn.Module):
            network.train(training)

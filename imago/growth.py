"""Progressive growing as arithmetic: images_seen → resolution, alpha, batch size, learning rate.

Karras et al. 2018, appendix A.1: the first resolution is trained until the discriminator has seen a number of real
images; then phases alternate: fade the next resolution in, stabilise it, fade in the next, and so on.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from imago.errors import UserError


@dataclass(frozen=True)
class GrowthStage:
    """Where training stands at one moment.

    Attributes:
        resolution: Height of the images.
        alpha: Weight of that resolution, in [0, 1]; below 1 while it fades in.
        batch_size: Real images per discriminator step, over all processes.
        learning_rate: Adam's α of both networks.
        group_size: Images per minibatch-stddev group; divides the batch.
        phase: Counts stabilising and fading phases from 0; optimizers start afresh when it changes.
    """

    resolution: int
    alpha: float
    batch_size: int
    learning_rate: float
    group_size: int
    phase: int

    @property
    def fading(self) -> bool:
        """Whether a resolution is being faded in."""
        return self.phase % 2 == 1


class GrowthSchedule:
    """The schedule of a run: a pure function of images_seen.

    Args:
        resolution: Final height, ``start_resolution`` times a power of two.
        start_resolution: First height; equal to ``resolution`` for training without growing.
        stabilize_images: Real images shown between two fade-ins.
        fade_images: Real images shown during a fade-in.
        final_images: Real images shown at the final resolution after its fade-in.
        batch_size: One number, or {height: number}; a height takes the entry of the largest height not above it.
        learning_rate: One number, or {height: number} likewise.
        mbstd_group: Images per minibatch-stddev group; larger than a batch means the whole batch.

    Raises:
        UserError: Numbers that make no schedule, or a batch that does not hold whole groups.
    """

    def __init__(
        self,
        resolution: int,
        start_resolution: int = 4,
        stabilize_images: int = 800_000,
        fade_images: int = 800_000,
        final_images: int = 6_200_000,
        batch_size: int | Mapping[int, int] = 16,
        learning_rate: float | Mapping[int, float] = 0.001,
        mbstd_group: int = 4,
    ) -> None:
        factor, remainder = divmod(resolution, start_resolution) if start_resolution > 0 else (0, 1)
        if remainder or factor < 1 or factor & (factor - 1):
            raise UserError(
                f"growth: resolution {resolution} is not the start resolution {start_resolution} times a power of two"
            )
        if min(stabilize_images, fade_images, final_images, mbstd_group) < 1:
            raise UserError("growth: stabilize_images, fade_images, final_images, mbstd_group must be at least 1")
        self.resolution = resolution
        self.resolutions = tuple(start_resolution << i for i in range(factor.bit_length()))
        self.stabilize_images = stabilize_images
        self.fade_images = fade_images
        self.final_images = final_images
        self.batch_sizes = {r: _whole("batch_size", _entry("batch_size", batch_size, r)) for r in self.resolutions}
        self.learning_rates = {r: float(_entry("learning_rate", learning_rate, r)) for r in self.resolutions}
        self.mbstd_group = mbstd_group
        for r, batch in self.batch_sizes.items():
            if not _holds_groups(batch, mbstd_group):
                sizes = range(1, max(self.batch_sizes.values()) + 1)
                fitting = [k for k in sizes if all(_holds_groups(b, k) for b in self.batch_sizes.values())]
                raise UserError(
                    f"the batch of {batch} at resolution {r} does not hold whole minibatch-stddev groups of "
                    f"{mbstd_group}; growth.mbstd_group may be {_listed(fitting)} (the whole batch), or more"
                )

    @property
    def grown_at(self) -> int:
        """images_seen when the last fade-in ends."""
        return (len(self.resolutions) - 1) * (self.stabilize_images + self.fade_images)

    @property
    def total_images(self) -> int:
        """images_seen when the schedule ends; at() stays constant from ``grown_at`` on, so a run may go on."""
        return self.grown_at + self.final_images

    def at(self, images_seen: int) -> GrowthStage:
        """The stage in which the step that begins at ``images_seen`` (≥ 0) is taken."""
        period = self.stabilize_images + self.fade_images
        level, within = divmod(images_seen, period)
        if level >= len(self.resolutions) - 1:  # the last resolution is never left
            level, phase, alpha = len(self.resolutions) - 1, 2 * (len(self.resolutions) - 1), 1.0
        elif within < self.stabilize_images:
            phase, alpha = 2 * level, 1.0
        else:
            phase, alpha = 2 * level + 1, (within - self.stabilize_images) / self.fade_images
            level += 1
        resolution = self.resolutions[level]
        batch = self.batch_sizes[resolution]
        group = min(self.mbstd_group, batch)
        return GrowthStage(resolution, alpha, batch, self.learning_rates[resolution], group, phase)

    def steps(self, images_seen: int, discriminator_steps: int = 1) -> Iterator[tuple[int, GrowthStage]]:
        """All training steps from ``images_seen`` on, without end: (images_seen at its start, its stage).

        Args:
            images_seen: Where the first step begins.
            discriminator_steps: Discriminator steps, hence batches of reals, in one training step (n_critic).
        """
        while True:
            stage = self.at(images_seen)
            yield images_seen, stage
            images_seen += stage.batch_size * discriminator_steps

    def spans(self, images_seen: int, total_images: int) -> Iterator[tuple[int, int]]:
        """What is left of a run by resolution: (resolution, images to show there), in order.

        Args:
            images_seen: Where the run stands.
            total_images: Where it stops.
        """
        period = self.stabilize_images + self.fade_images
        for level, resolution in enumerate(self.resolutions):
            # A resolution lasts from the start of its fade-in to the start of the next one.
            last = level == len(self.resolutions) - 1
            end = total_images if last else min(total_images, level * period + self.stabilize_images)
            if end > images_seen:
                yield resolution, end - images_seen
                images_seen = end

    def check_division(self, processes: int, micro_batch: int | None = None, group_size: int | None = None) -> None:
        """Checks that every batch of the schedule divides among processes and micro-batches into whole groups.

        Args:
            processes: World size.
            micro_batch: Most images a process takes through a network at once, or None for its whole share.
            group_size: Images that the networks compare with each other, where that is not minibatch stddev.

        Raises:
            UserError: A batch does not divide; names the numbers of processes or the micro-batch that do.
        """
        kind = "minibatch-stddev groups" if group_size is None else "groups"
        groups = {r: min(group_size or self.mbstd_group, batch) for r, batch in self.batch_sizes.items()}
        for resolution, batch in self.batch_sizes.items():
            if group_size is not None and batch % group_size:
                raise UserError(
                    f"the batch of {batch} at resolution {resolution} holds no whole groups of {group_size}"
                )
        common = math.gcd(*(batch // groups[r] for r, batch in self.batch_sizes.items()))
        for resolution, batch in self.batch_sizes.items():
            if batch % (processes * groups[resolution]):
                fitting = [k for k in range(1, common + 1) if common % k == 0]
                raise UserError(
                    f"the batch of {batch} at resolution {resolution} ({kind} of "
                    f"{groups[resolution]}) does not divide among {processes} processes; all batches of this schedule "
                    f"do among {_listed(fitting)}"
                )
            if micro_batch is not None and micro_batch < groups[resolution]:
                raise UserError(
                    f"model.micro_batch={micro_batch} is less than a group of {groups[resolution]} images ({kind}) "
                    f"at resolution {resolution}; take at least {max(groups.values())}"
                )


def split_batch(local_batch: int, micro_batch: int | None, group_size: int) -> int:
    """Into how many equal micro-batches a process splits its share of a batch.

    The fewest that have at most ``micro_batch`` images and hold whole groups; exists whenever ``micro_batch`` is at
    least a group (see :meth:`GrowthSchedule.check_division`).
    """
    if micro_batch is None:
        return 1
    groups = local_batch // group_size
    return next(k for k in range(1, groups + 1) if groups % k == 0 and local_batch // k <= micro_batch)


def _holds_groups(batch: int, group_size: int) -> bool:
    return batch % min(group_size, batch) == 0


def _listed(numbers: Iterable[int]) -> str:
    return ", ".join(map(str, numbers))


def _entry(name: str, value: float | Mapping[int, float], resolution: int) -> float:
    """The value at a resolution: the entry of the largest height that is not above it."""
    if isinstance(value, Mapping):
        for height in value:
            if not str(height).isdigit():
                raise UserError(f"growth.{name}: {height!r} is not a height")
        table = {int(height): number for height, number in value.items()}
        below = [height for height in table if height <= resolution]
        if not below:
            raise UserError(f"growth.{name} says nothing for resolution {resolution}; add an entry for it or below")
        value = table[max(below)]
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
        raise UserError(f"growth.{name} must be a number above 0 or {{height: number}}, not {value}")
    if name == "batch_size" and value != int(value):
        raise UserError(f"growth.{name} must be a whole number, not {value}")
    return value


def _whole(name: str, value: float) -> int:
    if value != int(value):
        raise UserError(f"growth.{name} must be a whole number, not {value}")
    return int(value)

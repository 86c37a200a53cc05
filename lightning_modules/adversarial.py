"""The two-player step that every GAN shares: manual optimisation, driven by images_seen alone."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from callbacks.generator_ema import GeneratorEMA
from callbacks.progressive_growing import ProgressiveGrowing
from imago import randomness
from imago.distributed import Stopping, average_over_processes
from imago.errors import UserError
from imago.growth import GrowthSchedule, GrowthStage, split_batch
from imago.labels import LabelDistribution
from imago.latents import draw_latents
from imago.losses import AdversarialLoss, LossTerms
from imago.networks.batch_norm import update_running_statistics
from lightning_modules.observed_discriminator import ObservedDiscriminator
from lightning_modules.sampling import Sampling
from lightning_modules.variant import Batch


class AdversarialModule(Sampling):
    """Trains a generator against a discriminator.

    A training step takes ``n_critic`` discriminator steps and one generator step; ``images_seen`` counts the reals of
    the former over all processes and is the only clock. Latents and interpolation weights are counter-based draws,
    keyed by the position of a sample in the global batch, so that neither the number of processes nor a restart
    changes them.

    With labels, the generator gets them beside its latents and the discriminator's auxiliary classifier has to tell
    them: both networks minimise its error on what they see, reals and fakes (AC-GAN; Odena et al. 2017). Fakes of a
    discriminator step carry the labels of the reals, those of a generator step labels of random training images.

    Args:
        generator: Latents to images, with ``latent_size``.
        discriminator: Images to outputs.
        generator_ema: A copy of the generator, for its average.
        loss: The adversarial loss.
        schedule: Resolution, batch size and learning rate over images_seen.
        seed: Keys all draws of the run.
        ema: What averages the generator.
        labels: The label rows of the training set; None: unconditional.
        label_weight: Weight of the auxiliary classifier's error.
        n_critic: Discriminator steps per generator step.
        betas: Adam's β₁ and β₂.
        eps: Adam's ε.
        micro_batch: Most images a process takes through a network at once; gradients are averaged over micro-batches.
        channels_last: Keep weights and activations in the channels-last memory format, the faster one on CPUs and
            tensor cores.
    """

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        generator_ema: nn.Module,
        loss: AdversarialLoss,
        schedule: GrowthSchedule,
        seed: int,
        ema: GeneratorEMA,
        labels: LabelDistribution | None = None,
        label_weight: float = 1.0,
        n_critic: int = 1,
        betas: Sequence[float] = (0.0, 0.99),
        eps: float = 1e-8,
        micro_batch: int | None = None,
        channels_last: bool = True,
    ) -> None:
        if n_critic < 1:
            raise UserError(f"model.n_critic must be at least 1, not {n_critic}")
        if len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
            raise UserError(f"model.betas must be two numbers in [0, 1), not {list(betas)}")
        if not eps > 0:
            raise UserError(f"model.eps must be above 0, not {eps}")
        if not 0 <= label_weight < float("inf"):
            raise UserError(f"model.label_weight must not be negative, not {label_weight}")
        if labels is not None:
            refuse_labels(loss)
        super().__init__()
        self.automatic_optimization = False
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.generator = generator
        self.discriminator = discriminator
        self.generator_ema = generator_ema.requires_grad_(False).eval()
        self.to(memory_format=self.memory_format)
        self.loss = loss
        self.schedule = schedule
        self.seed = seed
        self.ema = ema
        self.labels = labels
        self.label_weight = label_weight
        self.n_critic = n_critic
        self.betas = (float(betas[0]), float(betas[1]))
        self.eps = eps
        self.micro_batch = micro_batch

        self.images_seen = 0
        self.step_started_at = 0  # images_seen when the newest step began
        self.stage: GrowthStage = schedule.at(0)
        self.skipped_updates = 0
        self.skipped_in_a_row = 0  # steps
        self.terms: dict[str, Tensor] = {}  # of the newest step, means over all processes
        self.stopping = Stopping()
        self.measurement_due = False  # it was put off, because the run had to end

    # --- set-up -------------------------------------------------------------------------------------------------------

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """Adam for the discriminator, then for the generator; the learning rate follows the schedule."""
        return [
            torch.optim.Adam(
                network.parameters(), lr=self.stage.learning_rate, betas=self.betas, eps=self.eps, fused=True
            )
            for network in (self.discriminator, self.generator)
        ]

    def configure_callbacks(self) -> list[pl.Callback]:
        """Growth and the averaged generator belong to the model: no choice of callbacks can drop them."""
        return [ProgressiveGrowing(), self.ema]

    def setup(self, stage: str) -> None:
        """Puts growth and averaging before the callbacks that look at their results (sample grids)."""
        self.trainer.callbacks.sort(key=lambda callback: not isinstance(callback, (ProgressiveGrowing, GeneratorEMA)))  # type: ignore[attr-defined]

    @property
    def discriminator_optimizer(self) -> torch.optim.Optimizer:
        return self.trainer.optimizers[0]

    @property
    def generator_optimizer(self) -> torch.optim.Optimizer:
        return self.trainer.optimizers[1]

    # --- the step -----------------------------------------------------------------------------------------------------

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        """``n_critic`` discriminator steps and one generator step.

        Args:
            batch: ``images`` (n_critic, N, C, H, W) uint8, this process's share of each global batch, mirrored
                already; ``labels`` (n_critic, N, K), their codes, in a conditional run; ``images_seen``, the position
                that the loader gathered them for.
            batch_idx: Unused; images_seen is the clock.
        """
        assert batch["images_seen"] == self.images_seen, (batch["images_seen"], self.images_seen)
        self.step_started_at = self.images_seen
        self.measurement_due = False  # or nobody measures in this run
        self.terms = {}
        skipped_before = self.skipped_updates
        device, size = self.device.type, self.stage.batch_size
        # Autocast's cache would hand weights cast under no_grad to the generator step, which then gets no gradients
        # (pytorch-lightning #19517, pytorch #65766).
        with torch.autocast(
            device,
            dtype=torch.get_autocast_dtype(device),
            enabled=torch.is_autocast_enabled(device),
            cache_enabled=False,
        ):
            labels = batch.get("labels", [None] * self.n_critic)
            for i, (images, codes) in enumerate(zip(batch["images"], labels, strict=True)):
                self._discriminator_step(images, codes, self.conditions(batch, i), self.images_seen + i * size)
            self._generator_step(batch["images"][-1], self.conditions(batch, self.n_critic - 1))
        update_running_statistics([self.generator, self.discriminator])
        self.images_seen += self.n_critic * size
        # Of steps rather than updates: one network may fail for ever beside another that does not.
        self.skipped_in_a_row = 0 if self.skipped_updates == skipped_before else self.skipped_in_a_row + 1

    def _discriminator_step(
        self, images: Tensor, codes: Tensor | None, conditions: Tensor | None, position: int
    ) -> None:
        self.discriminator.requires_grad_(True)
        first, count = self._share(position)
        real = self._reals(images)
        labels = self.one_hot(codes)
        with torch.no_grad():
            fakes = [
                self._latents(f"latents/discriminator/{i}", first, count, f"noise/latents/discriminator/{i}")
                if conditions is None
                else conditions
                for i in range(self.loss.fake_sets)
            ]
        uniform = self._to_training(randomness.uniform(self.seed, "interpolation", first, count)[:, 0])

        def loss(part: slice) -> LossTerms:
            with torch.no_grad():
                fake_images = [
                    self._images(self.generate(self.generator, latents[part], _part(labels, part))) for latents in fakes
                ]
            seen = self._observed("noise/images/discriminator", first, part, conditions)
            terms = self.loss.discriminator_loss(seen, real[part], fake_images, uniform[part])
            return seen.with_label_errors(terms, [_part(codes, part)] * (1 + len(fakes)), ("real", "fake"))

        terms = self._update(self.discriminator, self.discriminator_optimizer, loss, count, "discriminator")
        if terms is not None:
            with torch.no_grad():
                self.loss.after_discriminator_step(self.discriminator, terms)

    def _generator_step(self, images: Tensor, conditions: Tensor | None) -> None:
        self.discriminator.requires_grad_(False)  # gradients pass through it, none are kept
        first, count = self._share(self.images_seen)
        latents = conditions
        if latents is None:
            latents = self._latents("latents/generator", first, count, "noise/latents/generator")
        codes = self.draw_labels(first, count, "labels/generator")
        labels = self.one_hot(codes)
        real = self._reals(images) if self.loss.generator_sees_reals else None

        def loss(part: slice) -> LossTerms:
            fakes = self._images(self.generate(self.generator, latents[part], _part(labels, part)))
            if part.start == 0:  # how much the samples vary, for the collapse warning
                self.terms["fake_spread"] = spread(fakes.detach())
                self.terms["real_spread"] = spread(self._reals(images[part]))
            seen = self._observed("noise/images/generator", first, part, conditions)
            terms = self.loss.generator_loss(seen, fakes, None if real is None else real[part])
            terms = self.with_generator_terms(terms, fakes, images[part])
            return seen.with_label_errors(terms, [_part(codes, part)], ("generator",))

        self._update(self.generator, self.generator_optimizer, loss, count, "generator")

    def _observed(self, purpose: str, first: int, part: slice, conditions: Tensor | None) -> ObservedDiscriminator:
        return ObservedDiscriminator(self, purpose, first + part.start, part.stop - part.start, _part(conditions, part))

    def _update(
        self,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        loss: Callable[[slice], LossTerms],
        count: int,
        name: str,
    ) -> LossTerms | None:
        """One optimizer step on the mean loss over all micro-batches and processes; skipped if it is not finite.

        Returns:
            The terms of the loss, means over all micro-batches and processes; None if the step was skipped.
        """
        parts = split_batch(count, self.micro_batch, self.group_size)
        size = count // parts
        optimizer.zero_grad(set_to_none=True)
        totals: dict[str, Tensor] = {}
        for i in range(parts):
            with self._blocked_backward_sync():
                terms = loss(slice(i * size, (i + 1) * size))
                self.manual_backward(terms["loss"] / parts)
            for key, value in terms.items():
                share = value.detach() / parts
                totals[key] = totals[key] + share if key in totals else share

        gradients = [p.grad for p in self.active_parameters(network) if p.grad is not None]
        votes = self.stopping.votes(totals["loss"])
        average_over_processes([*gradients, *totals.values(), votes])
        norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
        finite = torch.isfinite(norm + totals["loss"])  # the same on all processes: NaN survives the averaging
        finite, *counted = torch.stack([finite.to(votes.dtype), *votes]).tolist()
        self.stopping.count(counted)
        if finite:
            for group in optimizer.param_groups:
                group["lr"] = self.stage.learning_rate
            optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        self.skipped_updates += int(not finite)
        self.terms.update({f"{name}_{key}" if key == "loss" else key: value for key, value in totals.items()})
        self.terms[f"{name}_gradient_norm"] = norm
        return totals if finite else None

    def _share(self, position: int) -> tuple[int, int]:
        """This process's slice of the global batch at ``position``: (first global sample, how many)."""
        count = self.stage.batch_size // self.trainer.world_size
        return position + self.trainer.global_rank * count, count

    def _latents(self, purpose: str, first: int, count: int, noise: str) -> Tensor:
        latents = self._to_training(draw_latents(self.seed, first, count, self.latent_size, purpose))
        return self.perturb_latents(latents, noise, first)

    def _to_training(self, values: Any) -> Tensor:
        return torch.from_numpy(values).to(self.device, self.weight_dtype, non_blocking=True)

    def _images(self, images: Tensor) -> Tensor:
        return images.to(self.weight_dtype).contiguous(memory_format=self.memory_format)

    def _reals(self, images: Tensor) -> Tensor:
        """uint8 (N, C, H, W) to [-1, 1], as the discriminator sees them at the present stage."""
        return self.prepare_reals(self._images(images) / 127.5 - 1)

    @contextlib.contextmanager
    def _blocked_backward_sync(self) -> Iterator[None]:
        block = getattr(self.trainer.strategy, "block_backward_sync", None)
        with block() if block is not None else contextlib.nullcontext():
            yield

    # --- state --------------------------------------------------------------------------------------------------------

    def training_state(self) -> dict[str, Any]:
        """Everything a run needs to go on bit for bit, as plain containers and tensors."""
        return {
            "images_seen": self.images_seen,
            "step_started_at": self.step_started_at,
            "skipped_updates": self.skipped_updates,
            "skipped_in_a_row": self.skipped_in_a_row,
            "measurement_due": self.measurement_due,
            "generator": self.generator.state_dict(),
            "discriminator": self.discriminator.state_dict(),
            "generator_ema": self.generator_ema.state_dict(),
            "loss": self.loss.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.trainer.optimizers],
        }

    def load_training_state(self, state: dict[str, Any]) -> None:
        """Restores what :meth:`training_state` gave; optimizers must exist."""
        for name in ("generator", "discriminator", "generator_ema", "loss"):
            getattr(self, name).load_state_dict(state[name])
        for optimizer, saved in zip(self.trainer.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.images_seen = state["images_seen"]
        self.step_started_at = state.get("step_started_at", self.images_seen)
        self.skipped_updates = state["skipped_updates"]
        self.skipped_in_a_row = state["skipped_in_a_row"]
        self.measurement_due = state.get("measurement_due", False)
        self.stage = self.schedule.at(self.step_started_at)  # as it was when the state was saved


def refuse_labels(loss: AdversarialLoss) -> None:
    """Raises:
    UserError: The discriminator of this loss cannot tell labels.
    """
    if loss.output == "image":
        raise UserError("data.labels: an autoencoder discriminator (loss=began) has no auxiliary classifier")


def spread(images: Tensor) -> Tensor:
    """How much the images of a batch differ: the mean over all values of their standard deviation (ddof 0).

    Args:
        images: (N, C, H, W).
    """
    differences = images - images.mean(dim=0)  # Tensor.std takes 36 times as long on a CPU
    return differences.square().mean(dim=0).sqrt().mean()


def _part(values: Tensor | None, part: slice) -> Tensor | None:
    return None if values is None else values[part]

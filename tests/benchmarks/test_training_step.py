"""The benchmark runs, and its reference is an independent check of imago's networks, loss and gradients."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import training_step
from reference_step import (
    Reference,
    ReferenceDiscriminator,
    ReferenceGenerator,
    ScaledLayer,
    discriminator_backward,
    generator_backward,
    reference_step,
)
from torch import Tensor, nn

from imago.losses import WganGp
from imago.networks import ProgressiveDiscriminator, ProgressiveGenerator
from imago.networks.layers import LatentToFeatures

FMAP_BASE, FMAP_MAX, LATENT_SIZE = 48, 12, 6  # 12, 12, 6 feature maps at 4², 8², 16²
TOLERANCE = {"rtol": 1e-8, "atol": 1e-12}

# A layer of imago's, the reference's, and how their tensors correspond.
Pair = tuple[nn.Module, ScaledLayer]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """These networks are too small to share among threads, which would only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def pairs(ours: ProgressiveGenerator | ProgressiveDiscriminator, theirs: nn.Module) -> list[Pair]:
    found: list[tuple[nn.Module, nn.Module]] = []
    if isinstance(ours, ProgressiveGenerator):
        assert isinstance(theirs, ReferenceGenerator)
        found.append((ours.blocks[0].first, theirs.first))
        found.append((ours.blocks[0].second, theirs.convs[0][0]))
        for block, convs in zip(ours.blocks[1:], theirs.convs[1:], strict=True):
            found += [(block.first, convs[0]), (block.second, convs[1])]
        found += zip(ours.to_rgb, theirs.to_rgb, strict=True)
    else:
        assert isinstance(theirs, ReferenceDiscriminator)
        found += zip(ours.from_rgb, theirs.from_rgb, strict=True)
        for block, convs in zip(ours.blocks, theirs.convs, strict=True):
            found += [(block.first, convs[0]), (block.second, convs[1])]
        found += [(ours.output.conv, theirs.last_conv), (ours.output.dense, theirs.dense)]
        found.append((ours.output.output, theirs.score))
    assert len({id(p) for layer, _ in found for p in layer.parameters()}) == len(list(ours.parameters()))
    assert len({id(p) for _, layer in found for p in layer.parameters()}) == len(list(theirs.parameters()))
    return found  # type: ignore[return-value]


@torch.no_grad()
def copy_weights(ours: nn.Module, theirs: ScaledLayer) -> None:
    """The reference scales a layer's bias too, and its first layer has one bias per number instead of per map."""
    if isinstance(ours, LatentToFeatures):
        theirs.layer.weight.copy_(ours.linear.weight)
        theirs.layer.bias.copy_(ours.bias.repeat_interleave(16) / theirs.scale)
    else:
        theirs.layer.weight.copy_(ours.weight)  # type: ignore[arg-type]
        theirs.layer.bias.copy_(ours.bias / theirs.scale)  # type: ignore[arg-type, operator]


def gradients_of(ours: nn.Module) -> tuple[Tensor | None, Tensor | None]:
    weight = ours.linear.weight if isinstance(ours, LatentToFeatures) else ours.weight
    return weight.grad, ours.bias.grad  # type: ignore[union-attr, return-value]


def same_gradients(ours: nn.Module, theirs: ScaledLayer) -> bool:
    """Compares both layers' gradients; False if neither has any."""
    weight, bias = gradients_of(ours)
    if theirs.layer.weight.grad is None:
        assert weight is None
        assert bias is None
        return False
    assert weight is not None
    assert bias is not None
    expected = theirs.layer.bias.grad / theirs.scale  # type: ignore[operator]
    if isinstance(ours, LatentToFeatures):
        expected = expected.unflatten(0, (-1, 16)).sum(dim=1)
    torch.testing.assert_close(weight, theirs.layer.weight.grad, **TOLERANCE)
    torch.testing.assert_close(bias, expected, **TOLERANCE)
    return True


@pytest.fixture(params=[(4, 1.0), (8, 1.0), (8, 0.3), (16, 1.0), (16, 0.3)], ids=lambda p: f"{p[0]}-alpha{p[1]}")
def stage(request: pytest.FixtureRequest) -> tuple[int, float]:
    return request.param


@pytest.fixture(params=[(4, 4), (8, 4), (6, 2), (3, 4)], ids=lambda p: f"batch{p[0]}-group{p[1]}")
def batch_and_group(request: pytest.FixtureRequest) -> tuple[int, int]:
    return request.param


@pytest.mark.parametrize("fused_pixels", [1, 10**6], ids=["fused", "plain"])
def test_reference_agrees(
    stage: tuple[int, float], batch_and_group: tuple[int, int], fused_pixels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("imago.networks.layers._FUSED_UPSAMPLING_PIXELS", fused_pixels)
    (resolution, alpha), (n, group) = stage, batch_and_group
    torch.manual_seed(0)
    generator = ProgressiveGenerator(resolution, 3, (4, 4), LATENT_SIZE, FMAP_BASE, FMAP_MAX)
    discriminator = ProgressiveDiscriminator(resolution, 3, (4, 4), FMAP_BASE, FMAP_MAX, mbstd_group=group)
    for network in (generator, discriminator):
        network.double().to(memory_format=torch.channels_last)
        for name, parameter in network.named_parameters():
            if name.endswith("bias"):  # zero at the start, which would hide mistakes
                nn.init.normal_(parameter, std=0.3)
    reference = Reference(
        [generator.feature_maps(level) for level in range(len(generator.resolutions))], LATENT_SIZE, group
    )
    reference.generator.double()
    reference.discriminator.double()
    generator_pairs = pairs(generator, reference.generator)
    discriminator_pairs = pairs(discriminator, reference.discriminator)
    for ours, theirs in generator_pairs + discriminator_pairs:
        copy_weights(ours, theirs)

    latents = torch.randn(n, LATENT_SIZE, dtype=torch.float64)
    real = torch.rand(n, 3, resolution, resolution, dtype=torch.float64) * 2 - 1
    share = torch.rand(n, dtype=torch.float64)
    with torch.no_grad():
        fake = generator(latents, alpha=alpha)
        torch.testing.assert_close(fake, reference.generator(latents, alpha), **TOLERANCE)
        scores = reference.discriminator(real, alpha)
        torch.testing.assert_close(discriminator(real, alpha=alpha), scores, **TOLERANCE)

    def discriminate(images: Tensor) -> Tensor:
        return discriminator(images, alpha=alpha, group_size=min(group, n))

    loss = WganGp()
    terms = loss.discriminator_loss(discriminate, real, [fake], share)
    terms["loss"].backward()
    total = discriminator_backward(reference, real, latents, share, alpha)
    assert terms["loss"].item() == pytest.approx(total, rel=1e-8)
    assert terms["gradient_penalty"] > 0
    compared = [same_gradients(ours, theirs) for ours, theirs in discriminator_pairs]
    active = {id(p) for p in discriminator.active_parameters(resolution, alpha)}
    assert sum(compared) == len(active) / 2

    discriminator.requires_grad_(False)
    terms = loss.generator_loss(discriminate, generator(latents, alpha=alpha))
    terms["loss"].backward()
    assert terms["loss"].item() == pytest.approx(generator_backward(reference, latents, alpha), rel=1e-8)
    compared = [same_gradients(ours, theirs) for ours, theirs in generator_pairs]
    active = {id(p) for p in generator.active_parameters(resolution, alpha)}
    assert sum(compared) == len(active) / 2


@pytest.mark.parametrize("cut_graph", [True, False])
def test_cutting_the_generator_off_changes_no_discriminator_gradient(cut_graph: bool) -> None:
    torch.manual_seed(0)
    reference = Reference([6, 4], LATENT_SIZE)
    real, latents, share = torch.rand(4, 3, 8, 8), torch.randn(4, LATENT_SIZE), torch.rand(4)
    discriminator_backward(reference, real, latents, share, cut_graph=cut_graph)
    assert all((p.grad is None) == cut_graph for p in reference.generator.to_rgb[-1].parameters())
    gradients = [p.grad.clone() for p in reference.discriminator.dense.parameters() if p.grad is not None]
    reference.discriminator.zero_grad()
    discriminator_backward(reference, real, latents, share)
    torch.testing.assert_close(gradients, [p.grad for p in reference.discriminator.dense.parameters()])


def test_reference_step_moves_all_weights() -> None:
    torch.manual_seed(0)
    reference = Reference([6, 4], LATENT_SIZE)
    networks = (reference.generator, reference.discriminator, reference.average)
    before = [network.to_rgb[-1].layer.weight.clone() for network in networks[::2]]
    losses = reference_step(reference, torch.rand(4, 3, 8, 8))
    assert all(torch.isfinite(torch.tensor(losses)))
    after = [network.to_rgb[-1].layer.weight for network in networks[::2]]
    assert not any(torch.equal(a, b) for a, b in zip(after, before, strict=True))


@pytest.mark.parametrize("suffix", [".md", ".json"])
def test_the_script_measures_and_writes(suffix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / f"figures{suffix}"
    arguments = ["--device", "cpu", "--resolutions", "4", "8", "--rounds", "1", "--seconds", "0", "--fmap-max", "8"]
    training_step.main([*arguments, "--out", str(out)])
    assert f"wrote {out}" in capsys.readouterr().out.replace("\n", "")
    if suffix == ".json":
        figures = json.loads(out.read_text())
        assert [r["variant"] for r in figures["results"]] == ["imago fp32", "imago bf16", "reference fp32"] * 2
        assert all(r["images_per_second"] > 0 and r["speedup"] > 0 for r in figures["results"])
        assert figures["torch"] == torch.__version__
    else:
        assert "| 8² | 16 | imago bf16 |" in out.read_text()


def test_what_is_timed_trains_all_networks() -> None:
    step = training_step.ImagoStep(8, 16, "bf16", torch.device("cpu"), fmap_max=8)
    module = step.module
    before = {name: p.clone() for name, p in module.named_parameters() if "rgb.0" not in name}
    step()
    step()
    assert module.images_seen == 32
    assert module.skipped_updates == 0
    assert [name for name, p in module.named_parameters() if name in before and torch.equal(p, before[name])] == []


def test_memory_is_that_of_a_process_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    training_step.main(["--memory", "--device", "cpu", "--resolutions", "16", "--fmap-max", "8", "--threads", "1"])
    assert "Peak memory of one step at 16² with batch 16 (fp32): 0." in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["--out", "figures.txt"], ["--resolutions", "12"], ["--resolutions", "2"]])
def test_user_errors(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        training_step.main(arguments)
    assert "must" in capsys.readouterr().err

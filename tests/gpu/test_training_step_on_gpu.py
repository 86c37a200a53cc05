"""What only a CUDA device can show: the same step as on the CPU, bfloat16, memory of the largest resolution."""

import pytest
import torch
from training_step import peak_memory

from imago.losses import WganGp
from imago.networks import ProgressiveDiscriminator, ProgressiveGenerator

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


def gradients(device: str, dtype: torch.dtype, autocast: bool = False) -> dict[str, torch.Tensor]:
    """Gradients of the discriminator and the generator loss at 16 × 16, by name, on the CPU in float64."""
    torch.manual_seed(0)
    generator = ProgressiveGenerator(16, latent_size=32, fmap_base=512, fmap_max=32).to(device, dtype)
    discriminator = ProgressiveDiscriminator(16, fmap_base=512, fmap_max=32).to(device, dtype)
    draws = torch.Generator().manual_seed(1)
    latents = torch.randn(8, 32, generator=draws).to(device, dtype)
    real = torch.randn(8, 3, 16, 16, generator=draws).to(device, dtype)
    uniform = torch.rand(8, generator=draws).to(device, dtype)
    loss = WganGp()

    def score(images: torch.Tensor) -> torch.Tensor:
        return discriminator(images, alpha=0.4, group_size=4)

    with torch.autocast(device, torch.bfloat16, enabled=autocast, cache_enabled=False):
        fakes = generator(latents, alpha=0.4)
        losses = loss.discriminator_loss(score, real, [fakes.detach().to(dtype)], uniform)["loss"]
        losses = losses + loss.generator_loss(score, fakes.to(dtype))["loss"]
    losses.backward()
    return {
        f"{kind}.{name}": parameter.grad.double().cpu()
        for kind, network in (("generator", generator), ("discriminator", discriminator))
        for name, parameter in network.named_parameters()
        if parameter.grad is not None
    }


def test_float64_gradients_equal_those_of_the_cpu() -> None:
    cpu, gpu = gradients("cpu", torch.float64), gradients("cuda", torch.float64)
    assert cpu.keys() == gpu.keys()
    for name, expected in cpu.items():
        torch.testing.assert_close(gpu[name], expected, rtol=1e-9, atol=1e-11, msg=name)


def test_bfloat16_gradients_point_the_same_way() -> None:
    exact, half = gradients("cpu", torch.float64), gradients("cuda", torch.float32, autocast=True)
    assert exact.keys() == half.keys()
    flat = [torch.cat([grads[name].flatten() for name in exact]) for grads in (exact, half)]
    assert torch.nn.functional.cosine_similarity(*flat, dim=0) > 0.98


def test_a_step_at_1024_with_batch_3_fits_into_20_gib() -> None:
    torch.cuda.reset_peak_memory_stats()
    assert peak_memory(1024, 3, "fp32", torch.device("cuda")) < 20

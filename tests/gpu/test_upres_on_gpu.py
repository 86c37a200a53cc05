"""An up-resolution step on a CUDA device: the gradients of the CPU, and its memory at the post's size."""

import pytest
import torch

from imago.losses import NonSaturating
from imago.networks.jnet import JNet
from imago.networks.patch_discriminator import PatchDiscriminator

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


def gradients(device: str, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """Of both networks' losses with L1 at low resolution, by name, on the CPU in float64."""
    torch.manual_seed(0)
    shape = {"factor": 4, "channels": 3}
    generator = JNet(guide="rgb", crop=16, low_size=16, face_size=32, depth=2, filters=4, **shape).to(device, dtype)
    discriminator = PatchDiscriminator(guide_channels=3, filters=4, **shape).to(device, dtype)
    draws = torch.Generator().manual_seed(1)
    stacks = torch.randn(4, 6, 16, 16, generator=draws).to(device, dtype)
    real = torch.randn(4, 3, 64, 64, generator=draws).to(device, dtype)
    loss = NonSaturating()

    def score(images: torch.Tensor) -> torch.Tensor:
        return discriminator(images, stacks.repeat(len(images) // 4, 1, 1, 1), group_size=4)

    fakes = generator(stacks)
    total = loss.discriminator_loss(score, real, [fakes.detach()], torch.zeros(4).to(device, dtype))["loss"]
    total = total + loss.generator_loss(score, fakes)["loss"]
    total = total + 100 * (torch.nn.functional.avg_pool2d(fakes - real, 4)).abs().mean()
    total.backward()
    return {
        f"{kind}.{name}": parameter.grad.double().cpu()
        for kind, network in (("generator", generator), ("discriminator", discriminator))
        for name, parameter in network.named_parameters()
        if parameter.grad is not None
    }


def test_float64_gradients_equal_those_of_the_cpu() -> None:
    cpu, gpu = gradients("cpu", torch.float64), gradients("cuda", torch.float64)
    assert cpu.keys() == gpu.keys()
    assert len(cpu) > 20
    for name, expected in cpu.items():
        torch.testing.assert_close(gpu[name], expected, rtol=1e-8, atol=1e-10, msg=name)

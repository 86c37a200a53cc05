"""Images per second and peak memory of HDCGAN's training step, at the paper's size by default.

    python benchmarks/hdcgan_step.py --resolution 512 --batch 2 --steps 3

The networks have 64 filters next to the image and no limit (Curtó et al. 2020, section 5): 185.5 and 179 million
parameters at 512². Peak memory is that of the process, with both networks, the averaged generator and Adam's moments.
"""

import argparse
import resource
import time

import torch
from training_step import ImagoStep

from imago.growth import GrowthSchedule
from imago.losses import Minimax
from lightning_modules.dcgan import DCGAN
from lightning_modules.hdcgan import HDCGAN


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=("hdcgan", "dcgan"), default="hdcgan")
    parser.add_argument("--resolution", type=int, default=512)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--filters", type=int, default=64)
    parser.add_argument("--max-channels", type=int, default=None)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    schedule = GrowthSchedule(
        options.resolution, options.resolution, batch_size=options.batch, learning_rate=2e-4, mbstd_group=1
    )
    model = HDCGAN if options.model == "hdcgan" else DCGAN
    module = model(Minimax(), schedule, filters=options.filters, max_channels=options.max_channels)
    step = ImagoStep(options.resolution, options.batch, "fp32", device, module=module)
    millions = [sum(p.numel() for p in n.parameters()) / 1e6 for n in (module.generator, module.discriminator)]
    step()  # allocates Adam's moments
    seconds = []
    for _ in range(options.steps):
        if device.type == "cuda":
            torch.cuda.synchronize()
        start = time.perf_counter()
        step()
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    if device.type == "cuda":
        peak = torch.cuda.max_memory_allocated() / 2**30
    else:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    best = min(seconds)
    print(
        f"{options.model} {options.resolution}², batch {options.batch}, {options.filters} filters "
        f"({millions[0]:.1f} and {millions[1]:.1f} million parameters), {device.type}, "
        f"{torch.get_num_threads()} threads: "
        f"{options.batch / best:.3f} img/s (best of {options.steps} steps, {best:.1f} s), peak memory {peak:.1f} GiB, "
        f"updates skipped: {module.skipped_updates}"
    )


if __name__ == "__main__":
    main()

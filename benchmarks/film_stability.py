"""How stable an up-resolved interpolation is: every setting of a film, its warping error, and a picture over time.

    python benchmarks/film_stability.py runs/upres runs/low --seconds 3 --frames 36 --profile profile.png

The film is a path through latent space (gaussian, of so many seconds, as many frames as asked, their spacing that of 25
frames a second), its landmarks are found by dlib in each frame. The warping error is that of Lai et al. 2018, along the
flow of the low-resolution frames; "of detail" is what the network added to the film enlarged by Lanczos, whose own
warping error is the floor that the last column counts in. "nothing done": landmarks as found, and nothing mixed.
"""

import argparse

import numpy as np
import torch

from imago.faces.finding import find_finder
from imago.images import save_image, to_uint8
from imago.latents import gaussian_path
from imago.networks.serialization import load_generator
from imago.upres import TilingOptions
from imago.upres.chain import portrait_steps, run_steps, scaled_landmarks
from imago.upres.film_comparison import SETTINGS, as_table, compare_settings, profiles
from imago.upres.loading import load_stage
from imago.upres.stacking import resample

_FPS = 25


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("upres", help="run directory or file of the up-resolution network")
    parser.add_argument("generator", help="run directory or file of the generator of faces")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=4.0, help="of the loop, of which --frames are taken")
    parser.add_argument("--frames", type=int, default=24)
    parser.add_argument("--settings", nargs="+", default=list(SETTINGS), choices=list(SETTINGS))
    parser.add_argument("--stride", type=int)
    parser.add_argument("--profile", help="PNG of the middle row of every frame, a band for each setting")
    options = parser.parse_args()

    stage, loaded, finder = load_stage(options.upres), load_generator(options.generator), find_finder()
    count = round(options.seconds * _FPS)
    size = int(loaded.generator.latent_size)  # type: ignore[arg-type]
    path = gaussian_path(options.seed, count, 1, size, _FPS)[: options.frames, 0]
    with torch.inference_mode():
        frames = loaded.pictures(torch.from_numpy(path)).float().clamp(-1, 1)
    faces = [finder.next_face(to_uint8(frame).permute(1, 2, 0).contiguous().numpy()) for frame in frames]
    extent = (frames.shape[2], frames.shape[3])
    (step,) = portrait_steps([stage], extent)
    low = (step.high[0] // stage.factor, step.high[1] // stage.factor)
    tracks = np.stack([np.full((68, 2), np.nan) if face is None else face.landmarks for face in faces])
    tracks = np.stack(scaled_landmarks(list(tracks), extent, low))
    lows = [resample(frame, low) for frame in frames]
    tiling = TilingOptions(stride=options.stride)

    def upres_frame(frame, landmarks, variant):  # type: ignore[no-untyped-def]
        chain = run_steps([step], frame, [] if landmarks is None else [landmarks], tiling, choices=variant)
        return chain.pictures[-1], chain.choices

    measured = compare_settings(lows, upres_frame, {name: SETTINGS[name] for name in options.settings}, tracks)
    print(f"{len(lows)} frames, {extent[0]}×{extent[1]} → {step.high[0]}×{step.high[1]}; {finder.summary('frames')}\n")
    print(as_table(measured))
    if options.profile:
        print(f"\nwrote {save_image(options.profile, profiles(measured))}: {', '.join(options.settings)}")


if __name__ == "__main__":
    main()

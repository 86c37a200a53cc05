"""Which way of going over a picture shows the fewest seams: strides, and choices among variants.

    python benchmarks/seams.py runs/upres packs/portraits --held-out 8 --pictures 8

Every setting enlarges the same real pictures, shrunk as in training: those at the end of the pack, which a run keeps
out. "seams" is the mean absolute difference across borders of tiles against elsewhere, divided by that of the same
pictures on tiles half a stride away (1: no seam), with its standard error over pictures; "sharpness" the variance of
the Laplacian, "psnr" the error, both against the real pictures; the time is of the network and all around it.
"""

import argparse
import time
from pathlib import Path

import numpy as np

from imago.data.packed import PackedDataset
from imago.data.packing import default_cache
from imago.faces.pack_landmarks import landmarks_of_pack
from imago.upres import TilingOptions
from imago.upres.evaluation import Meter, by_network, examples, on_shifted_tiles, seams
from imago.upres.loading import load_stage
from imago.upres.pairs import PairGeometry, PairMaker

VARIANTS = ("plain", "flip", "contrast:1.1", "contrast:0.9")


def settings(tile: int) -> dict[str, TilingOptions]:
    """What is compared."""
    found = {f"plain, stride {stride}": TilingOptions(stride=stride) for stride in (tile, 3 * tile // 4, tile // 2)}
    found[f"plain, stride {tile // 4}"] = TilingOptions(stride=tile // 4)
    found["no colour correction"] = TilingOptions(colour=0)
    found["mean of plain and flip"] = TilingOptions(variants=("plain", "flip"))
    found["mean of four"] = TilingOptions(variants=VARIANTS)
    for score in ("laplacian", "contrast", "discriminator"):
        for choice in ("picture", "per_tile"):
            found[f"best of four by {score}, {choice}"] = TilingOptions(
                variants=VARIANTS, combine="best", score=score, choice=choice
            )
    return found


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("upres", help="run directory of the up-resolution network")
    parser.add_argument("packs", nargs="+", help="packed pictures, at least as large as it makes them")
    parser.add_argument("--held-out", type=int, default=8, help="pictures at the end of each pack")
    parser.add_argument("--pictures", type=int, default=8)
    parser.add_argument("--only", default="", help="settings whose name holds this")
    options = parser.parse_args()

    stage = load_stage(options.upres)
    datasets = [PackedDataset(Path(pack)) for pack in options.packs]
    marks = [landmarks_of_pack(one, "auto" if stage.guide_channels else "none", default_cache()) for one in datasets]
    geometry = PairGeometry(
        stage.resolution, datasets[0].base, stage.face_size, stage.low_size, stage.tile, stage.guide_style
    )
    found = list(examples(PairMaker(datasets, marks, geometry, held_out=options.held_out), options.pictures))
    print("| setting | seams | sharpness | psnr, dB | seconds a picture |\n|---|---|---|---|---|")
    for name, tiling in settings(stage.tile).items():
        if options.only not in name or (tiling.chooses and tiling.score == "discriminator" and stage.score is None):
            continue
        meter, seconds = Meter(stage.low_size), 0.0
        for example in found:
            started = time.perf_counter()
            picture = by_network(stage, tiling)(example)
            seconds += time.perf_counter() - started
            meter.add(picture, example, seams(stage, picture, on_shifted_tiles(stage, example, tiling), tiling))
        values = {key: np.array(numbers) for key, numbers in meter.values.items()}
        error = values["seams"].std(ddof=1) / np.sqrt(len(found)) if len(found) > 1 else float("nan")
        print(
            f"| {name} | {values['seams'].mean():.4f} ± {error:.4f} | {values['sharpness'].mean():.3f} | "
            f"{values['psnr'].mean():.2f} | {seconds / len(found):.1f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()

"""The options of upres.py, checked by Hydra against the types given here."""

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING


@dataclass
class UpresTilingConfig:
    """How each stage goes over a picture: overlapping tiles, of the extent that its network was trained on."""

    # Pixels of the stage's input between neighbouring tiles; null: half a tile. Less is slower and smoother.
    stride: int | None = None

    # Tiles per pass through the network; it halves by itself when memory runs out.
    batch: int = 16

    # What each tile is tried as: plain, flip (left to right), contrast:FACTOR, saturation:FACTOR, or several of these
    # at once: [plain,flip,contrast:1.1,flip+saturation:0.9].
    variants: list[str] = field(default_factory=lambda: ["plain"])

    # mean: of all variants; best: the one of the highest score.
    combine: str = "mean"

    # laplacian: sharpness; contrast; discriminator: what the stage's own says (a .ckpt or a run directory has one).
    score: str = "laplacian"

    # Of combine=best. picture: one variant for the whole picture; per_tile: neighbours may disagree, and show a seam.
    choice: str = "picture"

    # Strength of the correction towards the colours of the input, 0 (off) to 1, and its blur in pixels of the input.
    colour: float = 1.0
    colour_blur: float = 4.0


@dataclass
class UpresFilmConfig:
    """How a film is kept from flickering."""

    # frame_by_frame: each on its own; blended: each mixed with the frame before, carried along the optical flow;
    # high_frequencies: the same for detail alone; every_kth: every k-th frame is up-resolved, those between are made of
    # their two neighbours.
    mode: str = "high_frequencies"

    # Share of the frame before where nothing moves, in [0, 1); and the motion, in pixels of the input per frame, at
    # which half of it is left.
    strength: float = 0.9
    motion: float = 3.0

    # Of mode=every_kth.
    k: int = 4

    # Keep the variant (see tiling.variants) that was chosen for the first frame.
    one_variant: bool = True

    # Frames over which landmarks are smoothed, and for which those of a lost face are kept.
    landmark_sigma: float = 2.0
    landmark_hold: int = 12

    # Where the frame before is trusted: how far the flow there and back may end from its start (pixels of the input),
    # how much colours may differ (of 2), and the mean trust below which another scene begins.
    flow_tolerance: float = 0.4
    colour_tolerance: float = 0.1
    cut: float = 0.25

    # Measure the warping error and write a temporal profile beside the film.
    report: bool = True


@dataclass
class UpresConfig:
    """What to enlarge, through which stages, and how.

    Without `generator`, `input` is enlarged; with it, faces are drawn from noise first.
    """

    # One trained stage, or several, each reading what the one before it made: [runs/upres,runs/print]. Run directories,
    # .ckpt files or generator .safetensors.
    checkpoint: Any = MISSING

    # A picture, a folder of them (and all folders in it), a film, a pattern with * in quotes, or several as [a,b].
    input: Any = None

    # In place of `input`: the checkpoint of a generator of faces.
    generator: str | None = None

    # Folder to write to, by default upres in the run of the last checkpoint. Pictures of a folder keep their places
    # in it.
    out: str | None = None

    # Of pictures. portrait: find the face, cut it out as in the pictures that the stages were trained on, enlarge that;
    # whole: the entire picture, with a guide drawn over the faces in it.
    mode: str = "portrait"

    # portrait: also put the enlarged face back into its photo, which Lanczos's filter enlarges, with soft edges.
    paste_back: bool = False

    # Extent of the result in pixels (its height in a portrait, its longer side in whole). By default 4096 of two or
    # more stages; of one, that of the pictures it was trained on, or, in whole, its factor times the picture.
    size: int | None = None

    # No side of a picture is made longer.
    largest: int = 16384

    # Pixels per inch that a print is set to.
    dpi: int = 300

    # 8 or 16 per channel. 16 needs png or tif.
    bits: int = 8

    # Of pictures: png, tif or jpg.
    format: str = "png"

    # generator: seeds, as 5, 0-9 or [0,3,7-9]; and numbers of the pictures of each, by default 0: those of generate.py.
    seeds: Any = 0
    pictures: Any = None

    # generator: 1 is off; lower is less varied, see generate.py.
    truncation: float = 1.0

    # generator: of a conditional one, by name: labels.glasses=eyeglasses.
    labels: dict[str, Any] = field(default_factory=dict)

    # generator: images, or film: an interpolation that loops.
    what: str = "images"

    # what=film: how it moves (gaussian, slerp, cubic, see generate.py), and its length; slerp and cubic pass through
    # the pictures given by `seeds` and `pictures`.
    path: str = "gaussian"
    seconds: float = 8.0
    fps: int = 25

    # How stages go over a picture.
    tiling: UpresTilingConfig = field(default_factory=UpresTilingConfig)

    # How a film is kept from flickering.
    film: UpresFilmConfig = field(default_factory=UpresFilmConfig)

    # portrait: where the eyes are put, celeba_hq or ffhq, as in the pictures that the stages were trained on.
    framing: str = "celeba_hq"

    # What finds faces and their landmarks: dlib (and face_alignment behind it, where that is installed), face_alignment
    # or none: all guides are empty then.
    landmarks: str = "dlib"

    # dlib's 68-point model; by default that of face_recognition_models, which is not for commercial use.
    predictor_path: str | None = None

    # Write a contact sheet of all stages beside the pictures.
    contact_sheet: bool = True

    # Leave out pictures of a folder that are in `out` already.
    skip_existing: bool = False

    # auto (a GPU where there is one), cpu, cuda, cuda:1, mps.
    device: str = "auto"

    # What networks compute in: float32, bfloat16, float16. What is not finite in the latter is made again in float32.
    precision: str = "float32"

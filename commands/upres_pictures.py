"""Pictures and folders of them, up-resolved: each a portrait cut out of its photo, or as a whole."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from commands.upres_job import Stopwatch, UpresJob, extents_text, finished
from imago.errors import UserError
from imago.picture_files import Picture, check_picture_path, pixels_to_unit, read_picture
from imago.picture_files.rows import at_depth
from imago.upres.inputs import InputFile
from imago.upres.portrait import cut_portrait, paste_back


def upres_picture(job: UpresJob, file: InputFile) -> None:
    """Up-resolves a picture.

    Raises:
        UserError: It cannot be read, no face is found that could be cut out, or the format does not hold the result.
    """
    watch = Stopwatch()
    picture = read_picture(file.path)
    (_whole if job.cfg.mode == "whole" else _portrait)(job, picture, file, watch)


def _portrait(job: UpresJob, picture: Picture, file: InputFile, watch: Stopwatch) -> None:
    photo = rgb_bytes(picture.pixels)
    faces = job.find(photo)
    if not faces:
        raise UserError(f"{file.path}: no face found; mode=whole enlarges the entire picture")
    extent = (job.face_size, job.face_size)
    steps = job.portrait_steps(extent)
    check_picture_path(file.target, job.cfg.bits, 3, max(steps[-1].high))
    portrait = cut_portrait(photo, faces[0].landmarks, job.face_size, job.cfg.framing)
    planes, chain = job.enlarge(portrait.picture, [portrait.landmarks], steps, file.name)
    metadata = {"made from": file.name, "mode": "portrait", "faces": len(faces)}
    carried = {"icc_profile": picture.icc_profile, "exif": picture.exif}
    job.write(file.target, finished(planes, grey=picture.pixels.shape[2] == 1), metadata, **carried)
    job.show(file.target, portrait.picture, [portrait.landmarks], chain)
    print(f"wrote {file.target}: {extents_text(steps, extent)}, {watch}")
    if job.cfg.paste_back:
        watch = Stopwatch()
        pasted = paste_back(at_depth(picture.pixels, job.cfg.bits), planes, portrait.transform, job.cfg.largest)
        target = _beside(file.target, "-in-photo")
        job.write(target, pasted, {**metadata, "mode": "portrait, put back"}, **carried)
        print(f"wrote {target}: {pasted.shape[1]}×{pasted.shape[0]}, the face put back into its photo, {watch}")


def _whole(job: UpresJob, picture: Picture, file: InputFile, watch: Stopwatch) -> None:
    height, width, channels = picture.pixels.shape
    steps = job.whole_steps((height, width))
    check_picture_path(file.target, job.cfg.bits, channels, max(steps[-1].high))
    landmarks = [face.landmarks for face in job.find(rgb_bytes(picture.pixels))]
    colours, alpha = pixels_to_unit(picture.pixels)
    planes, chain = job.enlarge(colours, landmarks, steps, file.name)
    pixels = finished(planes, None if alpha is None else alpha[0].numpy(), grey=channels == 1)
    metadata = {"made from": file.name, "mode": "whole", "faces": len(landmarks)}
    job.write(file.target, pixels, metadata, icc_profile=picture.icc_profile, exif=picture.exif)
    job.show(file.target, colours, landmarks, chain)
    print(f"wrote {file.target}: {extents_text(steps, (height, width))}, {watch}")


def _beside(path: Path, addition: str) -> Path:
    """``a-addition.png`` for ``a.png``."""
    return path.with_name(f"{path.stem}{addition}{path.suffix}")


def rgb_bytes(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """Pixels ``(H, W, C)`` of any depth as detectors take them, uint8 ``(H, W, 3)``; transparency is left out."""
    colours = at_depth(pixels[..., :3], 8)
    return np.ascontiguousarray(np.broadcast_to(colours, (*pixels.shape[:2], 3)))

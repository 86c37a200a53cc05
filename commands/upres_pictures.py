"""Pictures and folders of them, up-resolved: each a portrait cut out of its photo, or as a whole."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from commands.app import IncompleteError
from commands.upres_job import Stopwatch, UpresJob, extents_text, finished
from imago.data.sources.file_tree import FileTree
from imago.errors import UserError
from imago.picture_files import Picture, check_picture_path, pixels_to_unit, read_picture
from imago.picture_files.rows import at_depth
from imago.upres.portrait import cut_portrait, paste_back

_TOLD = 20  # failures that are listed one by one


def upres_pictures(job: UpresJob, source: Path) -> list[Path]:
    """Up-resolves a picture, or all in a folder and the folders in it.

    Returns:
        The files written.

    Raises:
        UserError: The picture cannot be read, or no picture of a folder can.
        IncompleteError: Some pictures of a folder failed; the others are written.
    """
    if not source.is_dir():
        _enlarge_file(job, source, source.stem)
        _report(job)
        return job.written
    files = list(_files(source, job.out))
    if not files:
        raise UserError(f"input={source}: no pictures in it")
    there = [name for _, name in files if job.path_of(name).exists()] if job.cfg.skip_existing else []
    if there:
        print(f"{len(there)} of {len(files)} pictures are in {job.out} already and are left out (skip_existing=true)")
    failures: list[tuple[str, str]] = []
    for path, name in files:
        if name in there:
            continue
        try:
            _enlarge_file(job, path, name)
        except (UserError, MemoryError) as error:  # others, such as a full disk, would meet every picture
            message = str(error) or f"{path}: memory does not suffice"
            failures.append((path.relative_to(source).as_posix(), message))
            print(f"failed: {message}")
    _report(job)
    if failures:
        raise IncompleteError(_told(failures, len(files) - len(there)))
    return job.written


def _files(folder: Path, out: Path) -> Iterator[tuple[Path, str]]:
    """The pictures of a folder, and what each is called in `out`: its path without ending, if no other has that."""
    tree = FileTree(folder)
    names = [name for name in tree.images() if out.resolve() not in (tree.path / name).resolve().parents]
    if out.resolve() == tree.path.resolve():
        names = tree.images()
    stems = Counter(str(Path(name).with_suffix("")) for name in names)
    for name in names:
        stem = str(Path(name).with_suffix(""))
        yield tree.path / name, stem if stems[stem] == 1 else name


def _enlarge_file(job: UpresJob, path: Path, name: str) -> None:
    watch = Stopwatch()
    target = job.path_of(name)
    if job.cfg.skip_existing and target.exists():
        print(f"{target} is there already (skip_existing=true)")
        return
    if target.resolve() == path.resolve():
        raise UserError(f"{path}: its enlargement would take its place; give another folder as out=")
    picture = read_picture(path)
    (_whole if job.cfg.mode == "whole" else _portrait)(job, picture, path, name, watch)


def _portrait(job: UpresJob, picture: Picture, path: Path, name: str, watch: Stopwatch) -> None:
    photo = rgb_bytes(picture.pixels)
    faces = job.find(photo)
    if not faces:
        raise UserError(f"{path}: no face found; mode=whole enlarges the entire picture")
    extent = (job.face_size, job.face_size)
    steps = job.portrait_steps(extent)
    target = job.path_of(name)
    check_picture_path(target, job.cfg.bits, 3, max(steps[-1].high))
    portrait = cut_portrait(photo, faces[0].landmarks, job.face_size, job.cfg.framing)
    planes, chain = job.enlarge(portrait.picture, [portrait.landmarks], steps, name)
    metadata = {"made from": path.name, "mode": "portrait", "faces": len(faces)}
    carried = {"icc_profile": picture.icc_profile, "exif": picture.exif}
    job.write(target, finished(planes, grey=picture.pixels.shape[2] == 1), metadata, **carried)
    job.show(name, portrait.picture, [portrait.landmarks], chain)
    print(f"wrote {target}: {extents_text(steps, extent)}, {watch}")
    if job.cfg.paste_back:
        watch = Stopwatch()
        pasted = paste_back(at_depth(picture.pixels, job.cfg.bits), planes, portrait.transform, job.cfg.largest)
        target = job.path_of(name, "-in-photo")
        job.write(target, pasted, {**metadata, "mode": "portrait, put back"}, **carried)
        print(f"wrote {target}: {pasted.shape[1]}×{pasted.shape[0]}, the face put back into its photo, {watch}")


def _whole(job: UpresJob, picture: Picture, path: Path, name: str, watch: Stopwatch) -> None:
    height, width, channels = picture.pixels.shape
    steps = job.whole_steps((height, width))
    target = job.path_of(name)
    check_picture_path(target, job.cfg.bits, channels, max(steps[-1].high))
    landmarks = [face.landmarks for face in job.find(rgb_bytes(picture.pixels))]
    colours, alpha = pixels_to_unit(picture.pixels)
    planes, chain = job.enlarge(colours, landmarks, steps, name)
    pixels = finished(planes, None if alpha is None else alpha[0].numpy(), grey=channels == 1)
    metadata = {"made from": path.name, "mode": "whole", "faces": len(landmarks)}
    job.write(target, pixels, metadata, icc_profile=picture.icc_profile, exif=picture.exif)
    job.show(name, colours, landmarks, chain)
    print(f"wrote {target}: {extents_text(steps, (height, width))}, {watch}")


def rgb_bytes(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """Pixels ``(H, W, C)`` of any depth as detectors take them, uint8 ``(H, W, 3)``; transparency is left out."""
    colours = at_depth(pixels[..., :3], 8)
    return np.ascontiguousarray(np.broadcast_to(colours, (*pixels.shape[:2], 3)))


def _report(job: UpresJob) -> None:
    if job.finder is not None and job.finder.pictures:
        print(job.finder.summary("pictures"))


def _told(failures: list[tuple[str, str]], count: int) -> str:
    named = "; ".join(f"{name} ({message.partition(': ')[2] or message})" for name, message in failures[:_TOLD])
    more = f"; and {len(failures) - _TOLD} more, told above" if len(failures) > _TOLD else ""
    return f"{len(failures)} of {count} pictures failed: {named}{more}"

"""Where eyes and mouth lie in aligned faces, and how well dlib's landmarks agree with annotations.

    python benchmarks/face_alignment.py framing $DATA/celebahq_sample.zip --given
    python benchmarks/face_alignment.py framing $DATA/portraits_hires.zip
    python benchmarks/face_alignment.py annotations $DATA/in_the_wild.zip
    python benchmarks/face_alignment.py drawn

``framing`` aligns the largest face of each photo (``--given``: takes the pictures as they are, as the framing to be
met), looks for the face in the picture again and prints mean and spread of the points in pixels of the picture.
``annotations`` compares landmarks with those in dlib's XML files beside the photos, ``drawn`` with the exact ones of
drawn portraits. Numbers are normalised by the distance of the outer corners of the eyes.
"""

import argparse
import io
import sys
import time
import xml.etree.ElementTree
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from imago.data.drawn_portraits import draw_portrait, sample_attributes
from imago.data.sources.aligned import AlignedFaces
from imago.data.sources.folder import FolderSource
from imago.data.sources.source import UnreadableImageError
from imago.faces.landmarks import DlibLandmarks, five_points

POINTS = ("eye, left in the picture", "eye, right", "nose tip", "mouth corner, left", "mouth corner, right")


def framing(source: str, size: int, given: bool, save: Path | None) -> None:
    """Prints the table of the points' places."""
    photos = FolderSource(source)
    aligned = AlignedFaces(photos, landmarks="dlib", size=size, supersample=4 * size)
    detector = DlibLandmarks()
    by_construction, found, failed, seconds = [], [], Counter[str](), 0.0
    for index in range(len(photos)):
        start = time.process_time()
        try:
            item = (photos if given else aligned).read(index)
        except UnreadableImageError as error:
            failed[error.reason] += 1
            continue
        seconds += time.process_time() - start
        if save is not None:
            save.mkdir(parents=True, exist_ok=True)
            Image.fromarray(item.image).save(save / f"{index:04d}.jpg", quality=92)
        faces = detector.detect(item.image)
        if not faces:
            failed["not found again in the picture"] += 1
            continue
        found.append(five_points(max(faces, key=lambda face: face.area).landmarks))
        if item.landmarks is not None:
            by_construction.append(five_points(item.landmarks))
    print(f"{Path(source).name}: {len(photos)} photos, {len(found)} measured, {dict(failed)}")
    print(f"{seconds / max(1, len(photos) - failed['no face found']):.2f} s a photo, processor time")
    print_points("detected in the picture", np.array(found))
    if by_construction:
        print_points("detected in the photo, carried over", np.array(by_construction))


def print_points(title: str, points: NDArray[np.float64]) -> None:
    """Mean and standard deviation over pictures of ``(N, 5, 2)`` points, and of the distances between them."""
    print(f"\n| {title} | x | y |\n|---|---|---|")
    for name, place in zip(POINTS, points.transpose(1, 0, 2), strict=True):
        (x, y), (dx, dy) = place.mean(axis=0), place.std(axis=0)
        print(f"| {name} | {x:.1f} ± {dx:.1f} | {y:.1f} ± {dy:.1f} |")
    eyes, mouth = points[:, :2].mean(axis=1), points[:, 3:].mean(axis=1)
    between = points[:, 1] - points[:, 0]
    tilt = np.degrees(np.arctan2(between[:, 1], between[:, 0]))
    print(f"| middle of the eyes | {spread(eyes[:, 0])} | {spread(eyes[:, 1])} |")
    print(f"| middle of the mouth | {spread(mouth[:, 0])} | {spread(mouth[:, 1])} |")
    print(f"\neye to eye {spread(np.hypot(*between.T))}, eyes to mouth {spread(np.hypot(*(mouth - eyes).T))}, ", end="")
    print(f"tilt of the eyes {spread(tilt)}°")


def spread(values: NDArray[np.float64]) -> str:
    return f"{values.mean():.1f} ± {values.std():.1f}"


def error(found: NDArray[np.float64], wanted: NDArray[np.float64]) -> float:
    """Mean distance of 68 points over the distance of the outer corners of the eyes, 36 and 45."""
    distances = np.linalg.norm(found - wanted, axis=1)
    return float(distances.mean() / np.linalg.norm(wanted[36] - wanted[45]))


def annotations(archive: str) -> None:
    """Prints the errors against the XML files."""
    import dlib

    detector = DlibLandmarks(upsample=1)
    predictor = dlib.shape_predictor(str(detector.predictor_path))
    on_boxes, on_detected, missed = [], [], 0
    with zipfile.ZipFile(archive) as files:
        for name in sorted(n for n in files.namelist() if n.endswith("_with_face_landmarks.xml")):
            for entry in xml.etree.ElementTree.fromstring(files.read(name)).iter("image"):
                content = files.read(f"{Path(name).parent}/{entry.attrib['file']}")
                image = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
                found = detector.detect(image)
                for box in entry.iter("box"):
                    parts = sorted(box.iter("part"), key=lambda part: part.attrib["name"])
                    if len(parts) != 68:
                        continue
                    wanted = np.array([(float(p.attrib["x"]), float(p.attrib["y"])) for p in parts])
                    left, top = int(box.attrib["left"]), int(box.attrib["top"])
                    right = left + int(box.attrib["width"]) - 1
                    bottom = top + int(box.attrib["height"]) - 1
                    shape = predictor(image, dlib.rectangle(left, top, right, bottom)).parts()
                    on_boxes.append(error(np.array([(p.x, p.y) for p in shape], dtype=float), wanted))
                    centre = np.array([(left + right) / 2, (top + bottom) / 2])
                    near = [
                        face
                        for face in found
                        if face.left <= centre[0] <= face.right and face.top <= centre[1] <= face.bottom
                    ]
                    if near:
                        on_detected.append(min(error(face.landmarks, wanted) for face in near))
                    else:
                        missed += 1
    print(f"{len(on_boxes)} annotated faces; {missed} of them are not found by the detector")
    print_errors("the annotated boxes", on_boxes)
    print_errors("the boxes that the detector finds", on_detected)


def drawn(count: int) -> None:
    """Prints the error on drawn portraits, 256²."""
    detector = DlibLandmarks(upsample=1)
    errors, missed = [], 0
    for index in range(count):
        image, landmarks = draw_portrait(sample_attributes(1, index), 256)
        faces = detector.detect(image)
        missed += not faces
        errors += [error(face.landmarks, landmarks.astype(np.float64)) for face in faces[:1]]
    print(f"{count} drawn portraits, {missed} not found")
    print_errors("drawn portraits", errors)


def print_errors(title: str, errors: list[float]) -> None:
    percent = 100 * np.array(errors)
    middle, high = np.median(percent), np.quantile(percent, 0.95)
    print(f"{title}: n = {len(percent)}, mean {percent.mean():.2f} %, median {middle:.2f} %, 95 % below {high:.2f} %")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("framing", "annotations", "drawn"))
    parser.add_argument("source", nargs="?", default="", help="a folder or zip of photos")
    parser.add_argument("--given", action="store_true", help="the pictures are aligned already")
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--save", type=Path, help="folder for the aligned pictures")
    parser.add_argument("--count", type=int, default=200, help="of drawn portraits")
    options = parser.parse_args()
    if options.what == "framing":
        framing(options.source, options.size, options.given, options.save)
    elif options.what == "annotations":
        annotations(options.source)
    else:
        drawn(options.count)
    return 0


if __name__ == "__main__":
    sys.exit(main())

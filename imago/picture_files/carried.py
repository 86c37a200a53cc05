"""What a picture carries beside its pixels: EXIF, colour profile, resolution."""

import io
import json
from collections.abc import Mapping
from typing import Any

from PIL import ExifTags, Image, ImageCms

_TAGS = ExifTags.Base
_ORIENTATION, _DESCRIPTION = int(_TAGS.Orientation), int(_TAGS.ImageDescription)
_RESOLUTION = (int(_TAGS.XResolution), int(_TAGS.YResolution))
_RESOLUTION_UNIT, _INCH, _CENTIMETRE = int(_TAGS.ResolutionUnit), 2, 3
# What says who made the picture, when and how. A TIFF keeps its layout in the same place: that belongs to the file,
# not to the picture, and so do the resolution, the thumbnail and the extent, which a new file has of its own.
_KEPT = {
    int(tag)
    for tag in (
        _TAGS.DocumentName,
        _TAGS.ImageDescription,
        _TAGS.Make,
        _TAGS.Model,
        _TAGS.Software,
        _TAGS.DateTime,
        _TAGS.Artist,
        _TAGS.HostComputer,
        _TAGS.Rating,
        _TAGS.RatingPercent,
        _TAGS.Copyright,
        _TAGS.XPTitle,
        _TAGS.XPComment,
        _TAGS.XPAuthor,
        _TAGS.XPKeywords,
        _TAGS.XPSubject,
    )
}
_EXTENT = (int(_TAGS.ExifImageWidth), int(_TAGS.ExifImageHeight))
_INTEROPERABILITY = int(ExifTags.IFD.Interop)
_COLOUR_SPACES = {b"GRAY": 1, b"RGB ": 3}  # ICC.1:2022, table 19: bytes 16 to 19 of a profile


def read_exif(image: Image.Image) -> bytes | None:
    """The EXIF of an open image that holds for its pixels in any other file too.

    Kept: description, camera, software, dates, artist, copyright, rating; exposure, lens and maker's notes; place.
    The orientation is set to 1 (upright): whoever calls this turns the pixels. Resolution, extent and thumbnail are
    left out.

    Returns:
        A block as PNG, JPEG and WebP hold it, from the byte order mark on; None where there is none or a broken one.
    """
    try:
        found = image.getexif()
        kept = Image.Exif()
        for tag in _KEPT.intersection(found):
            kept[tag] = found[tag]
        for group in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo):
            entries = found.get_ifd(group)
            entries = {tag: entries[tag] for tag in entries if tag not in (*_EXTENT, _INTEROPERABILITY)}
            if entries:
                kept[int(group)] = entries
        if not len(kept):
            return None
        kept[_ORIENTATION] = 1
        return as_block(kept)
    except Exception:  # a broken EXIF block says nothing against the picture
        return None


def exif_to_write(
    exif: bytes | None,
    extent: tuple[int, int],
    dpi: float | None = None,
    metadata: Mapping[str, object] | None = None,
) -> Image.Exif | None:
    """The EXIF of a file to be written.

    Args:
        exif: From :func:`read_exif`, or any other block.
        extent: (width, height) of the picture in the new file, in pixels.
        dpi: Pixels per inch.
        metadata: Goes as JSON into the ImageDescription; what stood there becomes its entry "description".

    Returns:
        None where there is nothing to write.
    """
    entries = Image.Exif()
    if exif is not None:
        try:
            entries.load(exif)
            for group in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo):
                if group in entries:
                    entries[int(group)] = dict(entries.get_ifd(group))
            as_block(entries)
        except Exception:  # not worth a picture that took minutes to make
            entries = Image.Exif()
    if metadata:
        described = {key: str(value) for key, value in metadata.items()}
        if _DESCRIPTION in entries:
            described = {"description": str(entries[_DESCRIPTION]), **described}
        entries[_DESCRIPTION] = json.dumps(described)  # ASCII, as EXIF asks
    if not len(entries):
        return None
    entries[_ORIENTATION] = 1
    if dpi is not None:
        set_resolution(entries, dpi)
    camera = int(ExifTags.IFD.Exif)
    if camera in entries:
        entries[camera] = {**entries[camera], **dict(zip(_EXTENT, extent, strict=True))}
    return entries


def set_resolution(exif: Image.Exif, dpi: float) -> None:
    """Puts pixels per inch into an EXIF block."""
    for tag in _RESOLUTION:
        exif[tag] = dpi
    exif[_RESOLUTION_UNIT] = _INCH


def as_block(exif: Image.Exif) -> bytes:
    """EXIF as bytes, from the byte order mark on (in a JPEG "Exif" and two zeros stand before it)."""
    return exif.tobytes().removeprefix(b"Exif\x00\x00")


def read_dpi(image: Image.Image) -> float | None:
    """Horizontal pixels per inch of an open image; None where the file does not say."""
    try:
        if "dpi" in image.info:
            dpi = float(image.info["dpi"][0])
        else:
            exif = image.getexif()
            unit = {_INCH: 1.0, _CENTIMETRE: 2.54}.get(exif.get(_RESOLUTION_UNIT, _INCH), 0.0)
            dpi = float(exif[_RESOLUTION[0]]) * unit
    except Exception:  # none there, a fraction with the denominator 0, or nonsense
        return None
    return dpi if 1 < dpi < 1e6 else None  # 1 is what some cameras write where they do not know


def fitting_profile(profile: bytes | None, channels: int) -> bytes | None:
    """A colour profile if it describes pixels of so many channels, otherwise None.

    A profile for grey in a colour file, or the reverse, makes the file unreadable for strict readers.

    Args:
        profile: ICC profile.
        channels: 1 or 2 (grey), 3 or 4 (RGB), transparency included.
    """
    colours = channels - (channels + 1) % 2  # without transparency
    return profile if profile is not None and _COLOUR_SPACES.get(profile[16:20]) == colours else None


def to_srgb(image: Image.Image) -> Image.Image:
    """Inks (CMYK) or CIE L*a*b* as sRGB, by the embedded profile if there is one that works, or else a plain formula.

    Args:
        image: Loaded, of any mode.

    Returns:
        Mode RGB.
    """
    standard: Any = ImageCms.createProfile("sRGB")
    source: Any = None
    if image.mode == "LAB":
        source = ImageCms.createProfile("LAB")
    elif image.info.get("icc_profile"):
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(image.info["icc_profile"]))
        except (OSError, ImageCms.PyCMSError):
            source = None
    if source is not None:
        try:
            converted = ImageCms.profileToProfile(image, source, standard, outputMode="RGB")
            if converted is not None:
                return converted
        except ImageCms.PyCMSError:  # a profile for other colours than those of the image
            pass
    return image.convert("RGB")

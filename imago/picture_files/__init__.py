"""Pictures on the disk with all that they carry: 8 or 16 bits, transparency, colour profile, EXIF, resolution."""

from imago.picture_files.reading import Picture, read_picture
from imago.picture_files.values import pixels_to_unit, unit_to_pixels
from imago.picture_files.writing import PICTURE_ENDINGS, check_picture_path, write_picture

__all__ = [
    "PICTURE_ENDINGS",
    "Picture",
    "check_picture_path",
    "pixels_to_unit",
    "read_picture",
    "unit_to_pixels",
    "write_picture",
]

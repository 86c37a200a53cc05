"""Up-resolution: small pictures of faces to large ones, tile by tile (Tyka 2017)."""

from imago.upres.options import TilingOptions
from imago.upres.stages import Stage, UpresResult, upres_image, upres_stack

__all__ = ["Stage", "TilingOptions", "UpresResult", "upres_image", "upres_stack"]

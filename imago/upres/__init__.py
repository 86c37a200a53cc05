"""Up-resolution: small pictures of faces to large ones, tile by tile (Tyka 2017)."""

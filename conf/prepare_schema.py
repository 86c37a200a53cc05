"""The options of prepare.py, checked by Hydra against the types given here."""

from dataclasses import dataclass, field

from omegaconf import MISSING

from conf.source_schemas import SourceOptions


@dataclass
class PrepareConfig:
    """What to pack, rank or verify."""

    # pack: make a packed data set; rank: score every image, with a table and contact sheets; verify: compare a packed
    # data set with its checksums.
    what: str = "pack"

    source: SourceOptions | None = None

    # Folder to make: the packed data set, or the ranking. To verify: the packed data set.
    out: str = MISSING

    # Height of the largest images, 4·2^k. By default the largest that most images of the source have without being
    # enlarged.
    resolution: int | None = None

    # Height and width of the smallest images.
    base: list[int] = field(default_factory=lambda: [4, 4])

    # 1: grey, 3: RGB, 4: RGBA.
    channels: int = 3

    # center: cut the longer side; stretch: change the aspect.
    crop: str = "center"

    # Heights from here on are stored as zips of PNGs, smaller ones as arrays.
    zip_from: int = 256

    # Compression of the PNGs, 0 to 9. Level 0: half the time of 1, three times the space; 6: four times the time, a
    # tenth less space.
    png_level: int = 1

    # A larger share of unreadable images is an error; fewer are left out and listed in unreadable.csv.
    max_unreadable: float = 0.01

    # Processes; by default one per core.
    workers: int | None = None

    # To share the work between machines: -m shard=0,1,2,3 shards=4; the last shard to finish joins them.
    shard: int | None = None
    shards: int = 1

    # rank: mark only this many as worth keeping; by default all but near-duplicates of better ones.
    keep_count: int | None = None

    # rank: look for faces, for their size and the detector's confidence (needs imago[faces]).
    detect_faces: bool = True

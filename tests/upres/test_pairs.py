"""Pairs: the same places at two sizes, their guide on the features, and nothing but a function of the position."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from face_packs import DrawnFaces, face_pack
from PIL import Image

from imago.data import PackedDataset, pack
from imago.data.drawn_portraits import sample_attributes
from imago.data.drawn_portraits.geometry import landmarks_in_picture
from imago.data.sources.source import Item
from imago.errors import UserError
from imago.faces.guide import draw_guide
from imago.upres.degradation import Degradation
from imago.upres.pairs import PairGeometry, PairMaker, upres_factor

CLEAN = Degradation(strength=0)


class Pictures(DrawnFaces):
    """Pictures that tell what they are, with landmarks of drawn faces.

    Args:
        kind: ``guides``: the guide of the face; ``places``: red and green are the column and the row; ``numbers``: all
            pixels are 10 times the number of the picture; ``dots``: three points of the face in three colours.
    """

    def __init__(self, kind: str, count: int, size: int = 64, **options) -> None:
        super().__init__(count, size, **options)
        self.kind = kind

    def fingerprint(self) -> str:
        return hashlib.sha256((self.kind + super().fingerprint()).encode()).hexdigest()

    def read(self, index: int) -> Item:
        height, width = self.size, self.width
        squeezed = np.array([width / height, 1])
        face = (landmarks_in_picture(sample_attributes(self.seed, index), height) + 0.5) * squeezed - 0.5
        picture = np.zeros((height, width, 3), dtype=np.uint8)
        if self.kind == "guides":
            guide = draw_guide([face], (height, width), supersample=8)
            picture = (guide * 255).round().byte().permute(1, 2, 0).numpy()
        elif self.kind == "places":
            picture[..., 1], picture[..., 0] = np.mgrid[:height, :width]
        elif self.kind == "numbers":
            picture[...] = 10 * index
        else:
            for channel, point in enumerate(DOTS):
                x, y = np.rint(face[point]).astype(int)
                picture[y - 2 : y + 3, x - 2 : x + 3, channel] = 255
        return Item(picture, self.item_name(index), landmarks=None if index in self.unknown else face)


DOTS = (36, 48, 8)  # a corner of an eye, a corner of the mouth, the chin
DOTS_MIRRORED = (45, 54, 8)


def packed(folder: Path, kind: str, count: int = 4, size: int = 64, base: tuple[int, int] = (4, 4), **options):
    source = Pictures(kind, count, size, width=size * base[1] // base[0], **options)
    return pack(source, folder / kind, resolution=size, base=base, zip_from=4096)


def maker(*datasets: PackedDataset, seed: int = 3, **options) -> PairMaker:
    """Of 64² pictures by default, shrunk to 32² and 16², in crops of 8²."""
    names = ("resolution", "base", "face_size", "low_size", "crop", "guide")
    chosen = {name: options.pop(name) for name in names if name in options}
    geometry = PairGeometry(**{"resolution": 64, "face_size": 32, "low_size": 16, "crop": 8, **chosen})
    return PairMaker(datasets, [dataset.landmarks for dataset in datasets], geometry, seed, **options)


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> PackedDataset:
    return face_pack(tmp_path_factory.mktemp("packs") / "faces", 64, 6, unknown=(4,))


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> PackedDataset:
    return face_pack(tmp_path_factory.mktemp("packs") / "others", 64, 3, unknown=None, seed=2)


# --- a function of seed and position ----------------------------------------------------------------------------------


def same(first: tuple, second: tuple) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("count", [4, 16])
def test_pairs_do_not_depend_on_how_they_are_divided(count: int, faces: PackedDataset, others: PackedDataset) -> None:
    """To the last bit, over an epoch's end: a run on two processes is the run on one."""
    pairs = maker(faces, others, degradation=Degradation(strength=2, jpeg_share=1.0)).pairs
    whole = pairs(7, count)
    assert whole[0].shape == (count, 3, 32, 32)
    assert whole[0].dtype == torch.uint8
    assert whole[1].shape == (count, 6, 8, 8)
    assert whole[1].dtype == torch.float32
    assert same(whole, pairs(7, count))
    for part in (1, 2):
        parts = zip(*(pairs(7 + i, part) for i in range(0, count, part)), strict=True)
        assert same(whole, tuple(torch.cat(some) for some in parts))
    assert not torch.equal(whole[0], maker(faces, others, seed=4).pairs(7, count)[0])


def test_each_epoch_shows_every_picture_once(tmp_path: Path) -> None:
    pairs = maker(packed(tmp_path, "numbers", 7), degradation=CLEAN).pairs
    for epoch in range(3):
        shown = pairs(7 * epoch, 7)[0][:, 0, 0, 0]
        assert sorted(shown.tolist()) == [0, 10, 20, 30, 40, 50, 60]


# --- the same place ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("base", [(4, 4), (4, 2), (2, 4)])
@pytest.mark.parametrize(("low_size", "crop"), [(16, 8), (32, 16), (8, 4)])
def test_the_low_crop_is_the_area_mean_of_the_high_one(base, low_size, crop, tmp_path: Path) -> None:
    dataset = face_pack(tmp_path / "pack", 64, 3, base)
    pairs = maker(dataset, base=base, face_size=low_size, low_size=low_size, crop=crop, degradation=CLEAN, guide="none")
    images, stacks = pairs.pairs(0, 12)
    factor = 64 // low_size
    assert images.shape[2:] == (factor * crop, factor * crop)
    torch.testing.assert_close(stacks, F.avg_pool2d(images.float() / 127.5 - 1, factor), rtol=0, atol=1e-5)


def test_a_stack_that_was_shrunk_twice_is_at_the_same_place(faces: PackedDataset) -> None:
    images, stacks = maker(faces, degradation=CLEAN, guide="none").pairs(0, 32)
    means = F.avg_pool2d(images.float() / 127.5 - 1, 4)
    difference = {
        (dy, dx): (stacks.roll((dy, dx), (2, 3)) - means)[:, :, 1:-1, 1:-1].abs().mean().item()
        for dy in (-1, 0, 1)
        for dx in (-1, 0, 1)
    }
    assert min(difference, key=difference.__getitem__) == (0, 0)
    assert difference[0, 0] < 0.05


def test_crops_come_from_everywhere_and_begin_at_whole_low_pixels(tmp_path: Path) -> None:
    pairs = maker(packed(tmp_path, "places"), degradation=CLEAN, mirror=False, guide="none")
    corners = pairs.pairs(0, 540)[0][:, :2, 0, 0]  # column and row of the first pixel
    assert not (corners % 4).any()
    for axis in (0, 1):
        counts = torch.bincount(corners[:, axis].int() // 4)
        assert len(counts) == 16 - 8 + 1
        assert counts.min() > 36  # of 60
        assert counts.max() < 90
    correlation = np.corrcoef(corners.T.double().numpy())[0, 1]
    assert abs(correlation) < 0.1


# --- the guide --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("base", [(4, 4), (4, 2)])
@pytest.mark.parametrize("resolution", [64, 48])  # the pack's own, and between two of its levels
@pytest.mark.parametrize("mirrored", [False, True])
def test_landmarks_lie_where_the_features_are(base, resolution, mirrored, tmp_path: Path) -> None:
    dataset = packed(tmp_path, "dots", base=base)
    pairs = maker(dataset, resolution=resolution, base=base, face_size=24, low_size=resolution // 4, crop=4)
    for index in range(4):
        picture, face = pairs.picture(index, mirrored)
        assert picture.shape == (3, resolution, resolution * base[1] // base[0])
        assert face is not None
        points = (face + 0.5) * resolution / 24 - 0.5
        for channel, point in enumerate(DOTS_MIRRORED if mirrored else DOTS):
            x, y = np.rint(points[point]).astype(int)
            assert picture[channel, y, x] > 200


@pytest.mark.parametrize("size", [64, 128])  # the run's 48 lies between two levels of either
@pytest.mark.parametrize("resolution", [48, 64])
def test_the_guide_lies_on_the_face_in_every_crop(size: int, resolution: int, tmp_path: Path) -> None:
    """Of pictures that are guides, the picture and the guide of a stack are the same."""
    pairs = maker(
        packed(tmp_path, "guides", size=size),
        resolution=resolution,
        face_size=resolution // 2,
        low_size=resolution // 4,
        degradation=CLEAN,
        guide_dropout=0,
    )
    _, stacks = pairs.pairs(0, 40)
    pictures, guides = stacks[:, :3] / 2 + 0.5, stacks[:, 3:]
    assert guides.mean() > 0.1
    assert (pictures - guides).abs().mean() < 0.02
    assert (pictures - guides).abs().amax() < 0.35
    assert (pictures.flip(-1) - guides).abs().mean() > 0.1


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_some_guides_are_empty(share: float, faces: PackedDataset) -> None:
    """Besides those of pictures without landmarks, number 4 of 6."""
    options = {"resolution": 32, "face_size": 16, "low_size": 8}  # crops of whole pictures: a face is in all of them
    pairs = maker(faces, **options, guide_dropout=share, degradation=CLEAN)
    _, stacks = pairs.pairs(0, 240)
    empty = ~stacks[:, 3:].flatten(1).any(dim=1)
    assert empty.float().mean().item() == pytest.approx(1 - (1 - share) * 5 / 6, abs=0.08 if 0 < share < 1 else 1e-6)
    without = maker(faces, **options, guide="none", degradation=CLEAN).pairs(0, 240)[1]
    assert torch.equal(without, stacks[:, :3])


@pytest.mark.parametrize("mirror", [True, False])
def test_half_of_the_pictures_are_mirrored(mirror: bool, tmp_path: Path) -> None:
    pairs = maker(packed(tmp_path, "places"), degradation=CLEAN, mirror=mirror, guide="none")
    images, stacks = (x.float() for x in pairs.pairs(0, 200))
    turned = images[:, 0, 0, 0] > images[:, 0, 0, -1]
    assert turned.float().mean().item() == pytest.approx(0.5 * mirror, abs=0.12 * mirror)
    assert torch.equal(turned, stacks[:, 0, 0, 0] > stacks[:, 0, 0, -1])


# --- which pictures ---------------------------------------------------------------------------------------------------


def test_pictures_that_are_held_out_are_never_trained_on(tmp_path: Path) -> None:
    first = packed(tmp_path / "first", "numbers", 6)  # 0, 10, … 50
    second = pack(Pictures("numbers", 20), tmp_path / "second", resolution=64, zip_from=4096)
    pairs = maker(first, second, held_out=2, degradation=CLEAN)
    assert len(pairs) == 4 + 18
    shown = pairs.pairs(0, 3 * len(pairs))[0][:, 0, 0, 0].tolist()
    expected = [0, 10, 20, 30] * 3 + list(range(0, 180, 10)) * 3
    assert sorted(shown) == sorted(expected)
    assert pairs.held_out_count == 4
    kept = [int(pairs.held_out_picture(i)[0][0, 0, 0]) for i in range(4)]
    assert kept == [40, 180, 50, 190]
    with pytest.raises(IndexError):
        pairs.held_out_picture(4)
    with pytest.raises(IndexError):
        pairs.picture(22)


def test_held_out_pairs_are_always_the_same_and_begin_in_the_middle(tmp_path: Path) -> None:
    dataset = packed(tmp_path, "places", 5)
    pairs = maker(dataset, held_out=2)
    images, stacks = pairs.held_out_pairs(6)
    assert same((images, stacks), maker(dataset, held_out=2).held_out_pairs(6))
    assert same((images[:3], stacks[:3]), pairs.held_out_pairs(3))
    assert images[:2, :2, 0, 0].tolist() == [[16, 16], [16, 16]]  # of 64, crops of 32
    assert len({tuple(place) for place in images[2:, :2, 0, 0].tolist()}) > 1
    clean = maker(dataset, held_out=2, face_size=16).held_out_pairs(6)
    torch.testing.assert_close(
        clean[1][:, :3], F.avg_pool2d(clean[0].float() / 127.5 - 1, 4), rtol=0, atol=1e-5
    )  # nothing is degraded, and no guide left out
    assert clean[1][:2, 3:].flatten(1).any(dim=1).all()


def test_where_none_is_held_out_all_pictures_are_shown(tmp_path: Path) -> None:
    images, _ = maker(packed(tmp_path, "numbers", 3), held_out=0).held_out_pairs(4)
    assert images[:, 0, 0, 0].tolist() == [0, 10, 20, 0]


@pytest.mark.parametrize("resolution", [96, 64])
def test_pictures_of_a_larger_pack_are_shrunk(resolution: int, tmp_path: Path) -> None:
    """1024² serves a run of 768²: by Lanczos's filter; what the pack holds is taken as it is."""
    dataset = face_pack(tmp_path / "pack", 128, 2)
    pairs = maker(dataset, resolution=resolution, face_size=resolution // 2, low_size=resolution // 4)
    for index in range(2):
        picture, face = pairs.picture(index)
        if resolution == 64:
            expected = dataset.images(np.array([index]), 64)[0]
        else:
            whole = dataset.images(np.array([index]), 128)[0].transpose(1, 2, 0)
            resized = Image.fromarray(np.ascontiguousarray(whole)).resize((96, 96), Image.Resampling.LANCZOS)
            expected = np.asarray(resized).transpose(2, 0, 1)
        np.testing.assert_array_equal(picture.numpy(), expected)
        assert dataset.landmarks is not None
        ratio = resolution // 2 / 128
        np.testing.assert_allclose(face, (dataset.landmarks[index].astype(float) + 0.5) * ratio - 0.5, atol=1e-4)


# --- geometry and mistakes --------------------------------------------------------------------------------------------


def test_the_geometry_of_the_post() -> None:
    geometry = PairGeometry(768, (6, 6))
    assert (geometry.factor, geometry.extent(96), geometry.crop * geometry.factor) == (8, (96, 96), 256)
    assert PairGeometry(1024, (8, 6), low_size=128, crop=32).extent(128) == (128, 96)
    assert [upres_factor(1024, low) for low in (512, 256, 128, 64)] == [2, 4, 8, 16]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"resolution": 1024}, r"model\.low_size=96 times 2, 4, 8 or 16; model\.low_size may be 512, 256, 128, 64"),
        ({"resolution": 96}, r"is not model\.low_size=96 times 2"),
        ({"resolution": 768, "low_size": 256}, r"may be 384, 192, 96, 48"),
        ({"resolution": 768, "low_size": 0}, r"may be 384, 192, 96, 48"),
        ({"resolution": 7, "low_size": 2}, "nothing for that resolution"),
        ({"resolution": 768, "face_size": 800}, r"model\.face_size=800: must be at most the resolution 768"),
        ({"resolution": 768, "base": (6, 5)}, r"model\.face_size=128: .*whole pixels of the aspect 6:5"),
        ({"resolution": 768, "crop": 97}, r"model\.crop=97 does not fit .* pictures of 96 × 96: take at most 96"),
        (
            {"resolution": 768, "base": (4, 1), "crop": 32},
            r"does not fit .* of 96 × 24: take at most 24",
        ),
        ({"resolution": 768, "crop": 0}, r"model\.crop=0"),
    ],
)
def test_sizes_that_do_not_fit(options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        PairGeometry(**options)


def test_mistakes(faces: PackedDataset) -> None:
    for options, message in (
        ({"guide_dropout": 1.5}, r"data\.guide_dropout must lie in \[0, 1\], not 1\.5"),
        ({"held_out": -1}, r"data\.held_out must not be negative"),
        ({"held_out": 6}, r"data\.held_out=6 of its 6 pictures"),
        ({"resolution": 128, "low_size": 32}, "its pictures are 64 pixels high, the run's 128"),
    ):
        with pytest.raises(UserError, match=message):
            maker(faces, **options)

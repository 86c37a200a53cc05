"""Measures: each number is that of the pure function on the same images, with its reference beside it."""

import numpy as np
import pytest
import scipy.linalg
import torch

from imago.data import PackedDataset
from imago.errors import UserError
from imago.evaluation.building import MeasureBuilder, MeasureOptions, metric_names
from imago.evaluation.feature_measures import (
    FeatureCollector,
    FeatureMeasure,
    InceptionScoreMeasure,
    MemorisationMeasure,
    features_of_everything,
)
from imago.evaluation.image_sets import AllImages
from imago.evaluation.measure import Reals, evaluate, no_progress, resized
from imago.evaluation.pixel_measures import MultiScaleSsimMeasure, SlicedWassersteinMeasure
from imago.evaluation.protocol import Protocol
from imago.evaluation.statistics_cache import StatisticsCache
from imago.metrics.inception_score import inception_score
from imago.metrics.ms_ssim import ms_ssim
from imago.metrics.sliced_wasserstein import sliced_wasserstein


class Means:
    """Features of an image: the means of its quarters and channels; counts how many images it saw."""

    name, size, protocol, identity, has_logits = "means", 12, "means of quarters", "means", True

    def __init__(self):
        self.seen = 0

    def __call__(self, images):
        assert images.dtype == torch.uint8
        assert images.shape[1] == 3
        self.seen += len(images)
        return torch.nn.functional.adaptive_avg_pool2d(images.float() / 255, 2).flatten(1)

    def features_and_logits(self, images):
        features = self(images)
        return features, 5 * features[:, :4]


class Noise:
    """Generated images: noise, a function of the number."""

    def images(self, first, count):
        draws = map(np.random.default_rng, range(first, first + count))
        return torch.from_numpy(np.stack([draw.integers(0, 256, (3, 16, 16), dtype=np.uint8) for draw in draws]))


@pytest.fixture(scope="module")
def reals(blobs):
    return Reals.of(PackedDataset(blobs), 16, mirror=True)


def by_name(rows):
    return {row.metric: row for row in rows}


def measured(measure, reals, images=None):
    measure.prepare(reals, no_progress)
    return by_name(evaluate([measure], images or Noise(), 6, ""))


def collector(extractor, cache=None, **options):
    settings = {"resolution": None, "resize": "box", "logits": False, "batch_size": 10, **options}
    return FeatureCollector(extractor, cache=cache or StatisticsCache(None), **settings)


def frechet(a, b):
    a, b = a.double().numpy(), b.double().numpy()
    s, t = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = scipy.linalg.sqrtm(s @ t).real
    return ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(s + t - 2 * root)


def test_swd_is_that_of_the_images_and_its_floor_that_of_other_real_ones(reals):
    measure = SlicedWassersteinMeasure(20, patches=8, directions=16, batch_size=6)
    rows = measured(measure, reals)
    real, other = reals.sample.images(0, 20), reals.others.images(0, 20)
    settings = {"patches": 8, "directions": 16}
    expected = sliced_wasserstein(real, Noise().images(0, 20), **settings)
    floor = sliced_wasserstein(real, other, **settings)
    assert set(rows) == {f"swd/{level}" for level in expected}
    for level, value in expected.items():
        assert rows[f"swd/{level}"].value == pytest.approx(value, rel=1e-5)
        assert rows[f"swd/{level}"].reference == pytest.approx(floor[level], rel=1e-5)
    assert rows["swd/avg"].value > 2 * rows["swd/avg"].reference


def test_a_second_generator_is_measured_afresh(reals):
    measure = SlicedWassersteinMeasure(20, patches=8, directions=16, batch_size=6)
    first = measured(measure, reals)
    real = by_name(evaluate([measure], reals.others, 6, ""))
    again = by_name(evaluate([measure], Noise(), 6, ""))
    assert real["swd/avg"].value == pytest.approx(first["swd/avg"].reference, rel=1e-5)
    assert again["swd/avg"].value == first["swd/avg"].value


def test_ms_ssim_is_that_of_neighbouring_images(reals):
    rows = measured(MultiScaleSsimMeasure(21, batch_size=6), reals)
    images, real = Noise().images(0, 20), reals.sample.images(0, 20)
    assert rows["ms_ssim"].value == pytest.approx(float(ms_ssim(images[0::2], images[1::2]).mean()), rel=1e-6)
    assert rows["ms_ssim"].reference == pytest.approx(float(ms_ssim(real[0::2], real[1::2]).mean()), rel=1e-6)
    assert rows["ms_ssim"].images == 20


def test_ms_ssim_at_another_size(reals):
    rows = measured(MultiScaleSsimMeasure(8, resolution=32, batch_size=6), reals)
    images = Noise().images(0, 8).repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert rows["ms_ssim"].value == pytest.approx(float(ms_ssim(images[0::2], images[1::2]).mean()), rel=1e-6)
    assert "32²" in rows["ms_ssim"].protocol


def test_frechet_is_scipys(reals):
    extractor = Means()
    rows = measured(FeatureMeasure(["frechet"], 24, collector(extractor)), reals)
    real, other, fake = (extractor(i.images(0, 24)) for i in (reals.sample, reals.others, Noise()))
    assert rows["frechet/means"].value == pytest.approx(frechet(real, fake), rel=1e-5)
    assert rows["frechet/means"].reference == pytest.approx(frechet(real, other), rel=1e-4)


def test_a_floor_needs_other_real_images(reals):
    """Of 48: half against half; without a floor all; with a fifth in common as many as wanted."""
    for measure in (FeatureMeasure(["frechet"], 40, collector(Means())), SlicedWassersteinMeasure(40, 4, 4)):
        (row, *_) = measured(measure, reals).values()
        assert (row.images, row.reference_is) == (24, "real against real")
    rows = measured(FeatureMeasure(["frechet"], 40, collector(Means()), floor=False), reals)
    assert rows["frechet/means"].images == 40
    assert rows["frechet/means"].reference is None
    rows = measured(FeatureMeasure(["frechet"], 26, collector(Means())), reals)
    assert rows["frechet/means"].images == 26
    assert rows["frechet/means"].reference_is == "real against real, 4 images in both"


def test_all_metrics_of_features_share_one_pass(reals):
    extractor = Means()
    measure = FeatureMeasure(["kernel", "precision_recall", "frechet"], 24, collector(extractor))
    measure.prepare(reals)
    before = extractor.seen
    rows = by_name(evaluate([measure], Noise(), 7, ""))
    assert extractor.seen - before == 24
    assert set(rows) == {"frechet/means", "kernel/means", "precision/means", "recall/means"}
    assert rows["precision/means"].value == 0  # noise has grey quarters, blobs have not
    assert rows["precision/means"].reference > 0.3
    assert rows["kernel/means"].value > 10 * abs(rows["kernel/means"].reference)


def test_inception_score_needs_no_real_images():
    measure = InceptionScoreMeasure(20, collector(Means(), logits=True), splits=2)
    rows = measured(measure, None)
    assert rows["inception_score/means"].reference is None
    assert 1 <= rows["inception_score/means"].value <= 4


def test_inception_score_has_the_real_images_own_beside_it(reals):
    extractor = Means()
    (row,) = measured(InceptionScoreMeasure(20, collector(extractor, logits=True), splits=2), reals).values()
    assert row.reference == inception_score(extractor.features_and_logits(reals.sample.images(0, 20))[1], 2)[0]
    assert "20 images" in row.reference_is
    extractor = Means()
    InceptionScoreMeasure(20, collector(extractor, logits=True), splits=2, floor=False).prepare(reals)
    assert extractor.seen == 0


def test_inception_score_of_a_network_without_logits():
    extractor = Means()
    extractor.has_logits = False
    with pytest.raises(UserError, match="features=inception"):
        InceptionScoreMeasure(20, collector(extractor))


def test_features_are_of_resized_images(reals):
    rows = measured(FeatureMeasure(["frechet"], 24, collector(Means(), resolution=2)), reals)
    assert "resized to 2² (box)" in rows["frechet/means"].protocol
    plain = measured(FeatureMeasure(["frechet"], 24, collector(Means())), reals)
    assert rows["frechet/means"].value == pytest.approx(plain["frechet/means"].value, rel=0.02)


def test_real_images_are_seen_once(reals, tmp_path):
    values = []
    for expected in (48, 0):
        extractor = Means()
        measure = FeatureMeasure(["frechet"], 24, collector(extractor, StatisticsCache(tmp_path)))
        measure.prepare(reals)
        assert extractor.seen == expected
        values.append(by_name(evaluate([measure], Noise(), 6, "")))
    assert values[0] == values[1]
    mirrored = Reals.of(reals.everything.dataset, 16, mirror=False)
    extractor = Means()
    FeatureMeasure(["frechet"], 24, collector(extractor, StatisticsCache(tmp_path))).prepare(mirrored)
    assert extractor.seen == 48


def test_copies_are_memorised(reals, tmp_path):
    class HeldOut:
        checksum = "other"
        path = "held out"

        def __len__(self):
            return 12

        def images(self, indices, resolution, mirrored=None):
            return Noise().images(int(indices[0]), len(indices)).numpy()

    copies = AllImages(reals.everything.dataset, 16)
    measure = MemorisationMeasure(30, collector(Means()), HeldOut(), 16)
    rows = measured(measure, reals, copies)
    assert rows["memorisation/means"].value == 1
    assert rows["memorised/means"].value == 1
    noise = by_name(evaluate([measure], Noise(), 6, ""))
    assert noise["memorisation/means"].value == pytest.approx(0.5, abs=4 * noise["memorisation/means"].spread)


@pytest.mark.parametrize(("mirror", "count"), [(True, 96), (False, 48)])
def test_mirror_images_are_looked_at_where_training_mirrored(reals, mirror, count):
    dataset = reals.everything.dataset
    found = features_of_everything(collector(Means()), Reals.of(dataset, 16, mirror), no_progress)
    assert len(found) == count
    mirrored = Means()(torch.from_numpy(dataset.images(np.arange(48), 16)).flip(3))
    distances = torch.cdist(mirrored, found).min(dim=1).values
    assert bool((distances < 1e-3).all()) == mirror


def test_what_was_trained_on_is_not_held_out(reals):
    measure = MemorisationMeasure(4, collector(Means()), reals.everything.dataset, 16)
    with pytest.raises(UserError, match="is what was trained on"):
        measure.prepare(reals)


def test_every_measure_gets_its_own_number_of_images(reals):
    few, many = MultiScaleSsimMeasure(4, batch_size=6), MultiScaleSsimMeasure(18, batch_size=6)
    rows = evaluate([few, many], Noise(), 6, "")
    images = Noise().images(0, 18)
    for row, count in zip(rows, (4, 18), strict=True):
        assert row.value == pytest.approx(float(ms_ssim(images[0:count:2], images[1:count:2]).mean()), rel=1e-6)


@pytest.mark.parametrize("name", ["swd", "frechet", "memorisation"])
def test_without_real_images(name):
    measure = {
        "swd": lambda: SlicedWassersteinMeasure(4),
        "frechet": lambda: FeatureMeasure(["frechet"], 4, collector(Means())),
        "memorisation": lambda: MemorisationMeasure(4, collector(Means()), None, 16),
    }[name]()
    with pytest.raises(UserError, match=f"{name} compares with real images"):
        measure.prepare(None)


def test_resized_keeps_what_has_the_size_already():
    images = Noise().images(0, 2)
    assert resized(images, 16, "box") is images
    assert resized(images, None, "box") is images
    assert resized(images, 8, "box").shape == (2, 3, 8, 8)


def test_names_of_metrics():
    assert metric_names(["fid", "swd", "frechet"]) == ["frechet", "swd"]
    with pytest.raises(UserError, match="'isd' is unknown"):
        metric_names(["isd"])


def test_the_builder_makes_what_was_asked_for():
    options = MeasureOptions(["ms_ssim", "swd"], Protocol(swd_images=64, ms_ssim_images=32, ms_ssim_resolution=128))
    ssim, swd = MeasureBuilder(options, torch.device("cpu"), 32).build()
    assert (swd.count, ssim.count, ssim.resolution) == (64, 32, 128)

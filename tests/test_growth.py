import collections
import itertools
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from imago.errors import UserError
from imago.growth import GrowthSchedule, GrowthStage, split_batch

PRESETS = Path(__file__).parents[1] / "conf" / "growth"
KIMG = 1000


def preset(name, resolution=1024):
    """The schedule of a file in conf/growth, with what the file itself says."""
    options = {}
    while name != "growth_schema":
        file = OmegaConf.to_container(OmegaConf.load(PRESETS / f"{name}.yaml"), resolve=False)
        name = file.pop("defaults")[0]
        # As Hydra composes them: tables are merged, entry by entry.
        tables = {k: file[k] | v for k, v in options.items() if isinstance(v, dict) and isinstance(file.get(k), dict)}
        options = file | options | tables
    return GrowthSchedule(resolution, **options)


# --- when the paper and the official presets grow ---------------------------------------------------------------------

# (thousands of images seen, resolution, alpha, fading), by appendix A.1: 800k images, fade 800k, stabilise 800k, …
PAPER = [
    (0, 4, 1.0, False),
    (799.999, 4, 1.0, False),
    (800, 8, 0.0, True),
    (1000, 8, 0.25, True),
    (1200, 8, 0.5, True),
    (1600, 8, 1.0, False),
    (2399.999, 8, 1.0, False),
    (2400, 16, 0.0, True),
    (4000, 32, 0.0, True),
    (5600, 64, 0.0, True),
    (7200, 128, 0.0, True),
    (8800, 256, 0.0, True),
    (10_400, 512, 0.0, True),
    (12_000, 1024, 0.0, True),
    (12_600, 1024, 0.75, True),
    (12_800, 1024, 1.0, False),
    (19_000, 1024, 1.0, False),
    (50_000, 1024, 1.0, False),
]
# The official code's default, 600/600: 8² from 600k, then another every 1200k, 1024² from 9000k, whole at 9600k.
OFFICIAL = [
    (0, 4, 1.0, False),
    (600, 8, 0.0, True),
    (750, 8, 0.25, True),
    (1200, 8, 1.0, False),
    (1800, 16, 0.0, True),
    (3000, 32, 0.0, True),
    (4200, 64, 0.0, True),
    (5400, 128, 0.0, True),
    (6600, 256, 0.0, True),
    (7800, 512, 0.0, True),
    (8999.999, 512, 1.0, False),
    (9000, 1024, 0.0, True),
    (9300, 1024, 0.5, True),
    (9600, 1024, 1.0, False),
    (12_000, 1024, 1.0, False),
]


@pytest.mark.parametrize(
    ("name", "table"),
    [("paper", PAPER), *((f"official_{n}gpu", OFFICIAL) for n in (1, 2, 4, 8))],
)
def test_presets_grow_when_the_paper_and_the_official_code_do(name, table):
    schedule = preset(name)
    for kimg, resolution, alpha, fading in table:
        stage = schedule.at(round(kimg * KIMG))
        assert (stage.resolution, stage.alpha, stage.fading) == (resolution, pytest.approx(alpha), fading), kimg


@pytest.mark.parametrize(
    ("name", "grown", "total"),
    [("paper", 12_800, 19_000), *((f"official_{n}gpu", 9_600, 12_000) for n in (1, 2, 4, 8))],
)
def test_totals_of_the_presets(name, grown, total):
    schedule = preset(name)
    assert schedule.grown_at == grown * KIMG
    assert schedule.total_images == total * KIMG


def official_level_of_detail(kimg, resolution, training, transition):
    """`lod` of the official code's training schedule, per thousand images seen."""
    phase, within = divmod(kimg, training + transition)
    lod = math.log2(resolution) - 2 - phase - max(within - training, 0) / transition
    return max(lod, 0.0)


@given(
    st.integers(0, 20_000_000), st.sampled_from([32, 256, 1024]), st.sampled_from([(600, 600), (800, 800), (50, 30)])
)
def test_growth_follows_the_official_formula(images_seen, resolution, phases):
    schedule = GrowthSchedule(resolution, stabilize_images=phases[0] * KIMG, fade_images=phases[1] * KIMG)
    lod = official_level_of_detail(images_seen / KIMG, resolution, *phases)
    stage = schedule.at(images_seen)
    if stage.alpha == 0:  # at the very start of a fade-in, the official code still calls it the resolution below
        assert lod == pytest.approx(round(lod), abs=1e-9)
        assert stage.resolution == resolution / 2 ** (round(lod) - 1)
    else:
        assert stage.resolution == resolution / 2 ** math.floor(lod + 1e-12)
        assert stage.alpha == pytest.approx(1 - lod % 1, abs=1e-6)


# --- batch sizes and learning rates -----------------------------------------------------------------------------------

R = (4, 8, 16, 32, 64, 128, 256, 512, 1024)
# Per resolution in R: appendix A.1 for `paper`, the official code's config.py for the others.
BATCHES = {
    "paper": (16, 16, 16, 16, 16, 16, 14, 6, 3),
    "official_1gpu": (128, 128, 128, 64, 32, 16, 8, 4, 4),
    "official_2gpu": (256, 256, 128, 64, 32, 16, 8, 8, 8),
    "official_4gpu": (512, 256, 128, 64, 32, 16, 16, 16, 16),
    "official_8gpu": (512, 256, 128, 64, 32, 32, 32, 32, 32),
}
RATES = {
    "paper": (1, 1, 1, 1, 1, 1, 1, 1, 1),
    "official_1gpu": (1, 1, 1, 1, 1, 1, 1, 1, 1.5),
    "official_2gpu": (1, 1, 1, 1, 1, 1, 1, 1.5, 2),
    "official_4gpu": (1, 1, 1, 1, 1, 1, 1.5, 2, 3),
    "official_8gpu": (1, 1, 1, 1, 1, 1.5, 2, 3, 3),
}


@pytest.mark.parametrize("name", BATCHES)
def test_batches_and_learning_rates_of_the_presets(name):
    schedule = preset(name)
    at_start_of_resolution = {schedule.at(n).resolution: schedule.at(n) for n in range(0, 13_000_000, 100_000)}
    assert tuple(at_start_of_resolution) == R
    assert tuple(stage.batch_size for stage in at_start_of_resolution.values()) == BATCHES[name]
    rates = [stage.learning_rate for stage in at_start_of_resolution.values()]
    assert rates == pytest.approx([rate / 1000 for rate in RATES[name]])


@pytest.mark.parametrize("name", BATCHES)
def test_minibatch_stddev_groups_of_the_presets(name):
    """Groups of 4 in the official code; the paper compares all images of a minibatch."""
    schedule = preset(name)
    stages = [schedule.at(n) for n in range(0, 13_000_000, 100_000)]
    assert all(s.group_size == (s.batch_size if name == "paper" else 4) for s in stages)


@pytest.mark.parametrize(("name", "processes"), [("official_2gpu", 2), ("official_4gpu", 4), ("official_8gpu", 8)])
def test_official_presets_divide_among_their_gpus(name, processes):
    preset(name).check_division(processes)


def test_every_preset_in_conf_is_a_schedule():
    names = {path.stem for path in PRESETS.glob("*.yaml")} - {"none", "fixed"}
    assert names >= BATCHES.keys()
    for name in names:
        assert preset(name, resolution=64).total_images > 0


def test_without_growing_there_is_one_phase():
    schedule = GrowthSchedule(64, start_resolution=64, final_images=1000)
    assert {schedule.at(n) for n in (0, 1, 10**6, 10**9)} == {GrowthStage(64, 1.0, 16, 0.001, 4, 0)}
    assert (schedule.grown_at, schedule.total_images) == (0, 1000)


def test_a_height_takes_the_entry_of_the_largest_height_not_above_it():
    schedule = GrowthSchedule(
        40, start_resolution=5, stabilize_images=10, fade_images=10, batch_size={4: 32, 10: 16, 39: 8}
    )
    assert schedule.batch_sizes == {5: 32, 10: 16, 20: 16, 40: 8}


# --- properties -------------------------------------------------------------------------------------------------------


@st.composite
def schedules(draw):
    start, doublings = draw(st.integers(1, 7)), draw(st.integers(0, 4))
    resolutions = [start << i for i in range(doublings + 1)]
    group = draw(st.integers(1, 4))
    return GrowthSchedule(
        resolutions[-1],
        start,
        stabilize_images=draw(st.integers(1, 60)),
        fade_images=draw(st.integers(1, 60)),
        final_images=draw(st.integers(1, 60)),
        batch_size={r: group * draw(st.integers(1, 5)) for r in resolutions},
        mbstd_group=group,
    )


@given(schedules())
def test_training_never_goes_back(schedule):
    stages = [schedule.at(n) for n in range(schedule.total_images + 100)]
    assert {stage.resolution for stage in stages} == set(schedule.resolutions)
    for before, after in itertools.pairwise(stages):
        assert 0 <= after.alpha <= 1
        assert before.resolution <= after.resolution
        assert 0 <= after.phase - before.phase <= 1
        assert after.phase == before.phase or after.fading or after.alpha == 1
        if after.resolution == before.resolution:
            assert before.alpha <= after.alpha
            assert after.alpha - before.alpha == pytest.approx(1 / schedule.fade_images if before.fading else 0)
        else:
            assert (after.alpha, before.alpha) == (0, 1)
        assert after.fading == (after.alpha < 1)
        assert after.batch_size % after.group_size == 0


@given(schedules(), st.integers(0, 500), st.integers(1, 3))
def test_steps_count_every_image_once(schedule, start, discriminator_steps):
    position = start
    for images_seen, stage in itertools.islice(schedule.steps(start, discriminator_steps), 60):
        assert images_seen == position
        assert stage == schedule.at(position)
        position += discriminator_steps * stage.batch_size


@given(schedules(), st.integers(0, 20), st.integers(1, 3))
def test_steps_can_be_taken_up_anywhere(schedule, skipped, discriminator_steps):
    whole = list(itertools.islice(schedule.steps(0, discriminator_steps), skipped + 20))
    later = list(itertools.islice(schedule.steps(whole[skipped][0], discriminator_steps), 20))
    assert later == whole[skipped:]


@pytest.mark.parametrize("total", [1, 7, 30, 64, 200])
@pytest.mark.parametrize("seen", [0, 5, 10, 14, 29, 63])
@pytest.mark.parametrize("start", [4, 16])
def test_spans_count_the_images_left_at_each_resolution(start, seen, total):
    schedule = GrowthSchedule(16, start_resolution=start, stabilize_images=10, fade_images=4, final_images=36)
    counted = collections.Counter(schedule.at(i).resolution for i in range(seen, total))
    assert list(schedule.spans(seen, total)) == sorted(counted.items())


# --- what cannot be -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"resolution": 48}, "resolution 48 is not the start resolution 4 times a power of two"),
        ({"resolution": 2}, "not the start resolution 4"),
        ({"resolution": 8, "start_resolution": 0}, "not the start resolution 0"),
        ({"resolution": 8, "stabilize_images": 0}, "must be at least 1"),
        ({"resolution": 8, "fade_images": 0}, "must be at least 1"),
        ({"resolution": 8, "final_images": 0}, "must be at least 1"),
        ({"resolution": 8, "mbstd_group": 0}, "must be at least 1"),
        ({"resolution": 8, "batch_size": 0}, "growth.batch_size must be a number above 0 or .*, not 0"),
        ({"resolution": 8, "batch_size": {8: 16}}, "growth.batch_size says nothing for resolution 4"),
        ({"resolution": 8, "batch_size": 2.5}, "growth.batch_size must be a whole number, not 2.5"),
        ({"resolution": 8, "batch_size": "many"}, "growth.batch_size must be a number above 0 or .*, not many"),
        ({"resolution": 8, "batch_size": {"low": 4}}, "growth.batch_size: 'low' is not a height"),
        ({"resolution": 8, "learning_rate": None}, "growth.learning_rate must be a number above 0 or .*, not None"),
        ({"resolution": 8, "learning_rate": -1.0}, "growth.learning_rate must be a number above 0 or .*, not -1.0"),
        (
            {"resolution": 8, "learning_rate": float("nan")},
            "growth.learning_rate must be a number above 0 or .*, not nan",
        ),
        ({"resolution": 8, "learning_rate": {16: 1.0}}, "growth.learning_rate says nothing for resolution 4"),
    ],
)
def test_numbers_that_make_no_schedule_are_told(options, message):
    with pytest.raises(UserError, match=message):
        GrowthSchedule(**options)


def numbers_in(text):
    return [int(word) for word in text.replace(",", " ").split() if word.isdigit()]


@pytest.mark.parametrize(
    ("batches", "group"),
    [({4: 16, 8: 6}, 4), ({4: 16, 8: 14, 16: 6, 32: 3}, 4), ({4: 12, 8: 12, 16: 12, 32: 12}, 8), ({4: 12, 8: 9}, 6)],
)
def test_groups_named_for_a_ragged_batch_work(batches, group):
    resolution = max(batches)
    with pytest.raises(UserError, match="does not hold whole minibatch-stddev groups") as error:
        GrowthSchedule(resolution, batch_size=batches, mbstd_group=group)
    named = numbers_in(str(error.value).partition("may be")[2])
    assert max(batches.values()) in named
    for group_size in range(1, max(batches.values()) + 1):
        fits = all(batch % min(group_size, batch) == 0 for batch in batches.values())
        assert fits == (group_size in named)
        if fits:
            GrowthSchedule(resolution, batch_size=batches, mbstd_group=group_size)


@pytest.mark.parametrize(
    ("batches", "group", "processes"),
    [
        ({4: 16, 8: 24}, 4, 5),
        ({4: 16, 8: 24}, 4, 4),  # 16 divides by it, 24 does not
        ({4: 64, 8: 32, 16: 16}, 4, 8),
        ({4: 16, 8: 14, 16: 6, 32: 3}, 16, 2),
    ],
)
def test_numbers_of_processes_named_for_a_batch_work(batches, group, processes):
    schedule = GrowthSchedule(max(batches), batch_size=batches, mbstd_group=group)
    with pytest.raises(UserError, match=f"does not divide among {processes} processes") as error:
        schedule.check_division(processes)
    named = numbers_in(str(error.value).rpartition("among")[2])
    for number in range(1, max(batches.values()) + 1):
        groups = [(batch, min(group, batch)) for batch in batches.values()]
        fits = all(batch % number == 0 and batch // number % size == 0 for batch, size in groups)
        assert fits == (number in named)
        if fits:
            schedule.check_division(number)


def test_the_micro_batch_named_works():
    schedule = GrowthSchedule(16, batch_size={4: 8, 8: 16, 16: 6}, mbstd_group=16)
    with pytest.raises(UserError, match=r"model.micro_batch=4 is less than .*; take at least 16"):
        schedule.check_division(1, micro_batch=4)
    with pytest.raises(UserError, match="take at least 16"):
        schedule.check_division(1, micro_batch=15)
    schedule.check_division(1, micro_batch=16)


# --- micro-batches ----------------------------------------------------------------------------------------------------


def test_micro_batches_by_brute_force():
    """The fewest equal parts, each of whole groups and of at most micro_batch images."""
    for group, groups in itertools.product(range(1, 6), range(1, 13)):
        batch = group * groups
        assert split_batch(batch, None, group) == 1
        for micro_batch in range(group, batch + 3):
            possible = [
                parts
                for parts in range(1, batch + 1)
                if batch % parts == 0 and batch // parts <= micro_batch and batch // parts % group == 0
            ]
            assert split_batch(batch, micro_batch, group) == min(possible)

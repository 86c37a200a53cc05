"""What a run writes to be looked at: metrics.csv, sample grids, TensorBoard, W&B, the showcase."""

import csv
import functools

import numpy as np
import pytest
import torch
from PIL import Image

from accidents import kill_at
from callbacks.sample_grid import SampleGrid
from imago.images import image_grid, to_uint8, upscale_nearest
from imago.latents import draw_latents
from imago.networks.serialization import load_generator
from training_runs import TINY, TOTAL, contents, state_of


def test_metrics_have_a_row_for_every_interval(finished_run):
    with open(finished_run / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["images_seen"]) for row in rows] == list(range(16, TOTAL + 1, 16))
    assert [int(row["resolution"]) for row in rows] == [4] * 4 + [8] * 8 + [16] * 8
    for row in rows:
        assert all(np.isfinite(float(value)) for value in row.values())
    assert {"discriminator_loss", "generator_loss", "gradient_penalty", "alpha", "learning_rate"} <= rows[0].keys()


def test_sample_grids_have_one_size_and_come_at_every_snapshot(finished_run):
    grids = sorted((finished_run / "samples").iterdir())
    assert [path.name for path in grids] == [f"{n:09d}.png" for n in (0, 48, 96, 144, 192, 240, 288, 320)]
    for path in grids:
        with Image.open(path) as picture:
            assert picture.size == (2 * 64, 2 * 64)  # 2 columns, 2 rows of pictures enlarged to 64 pixels


@pytest.mark.parametrize("images_seen", [48, 96, 192, 320])  # 4², fading in 8², 8², 16²
def test_sample_grid_shows_the_generator_of_the_same_moment(finished_run, images_seen):
    loaded = load_generator(finished_run / "generators" / f"{images_seen:09d}.safetensors")
    latents = torch.from_numpy(draw_latents(0, 0, 4, 8, "samples"))
    images = to_uint8(loaded.generator(latents, resolution=loaded.resolution, alpha=loaded.alpha))
    expected = image_grid(upscale_nearest(images, 64 // loaded.resolution), 2).permute(1, 2, 0).numpy()
    with Image.open(finished_run / "samples" / f"{images_seen:09d}.png") as picture:
        shown = np.asarray(picture).astype(int)
    assert np.abs(shown - expected).max() <= 1  # batches of another size may round otherwise


def test_generators_are_kept_at_every_snapshot_and_the_newest_by_a_fixed_name(finished_run):
    names = [path.name for path in sorted((finished_run / "generators").iterdir())]
    assert names == [f"{n:09d}.safetensors" for n in (48, 96, 144, 192, 240, 288, 320)]
    assert (finished_run / "generator.safetensors").read_bytes() == (
        finished_run / "generators" / names[-1]
    ).read_bytes()


def test_old_generators_are_dropped_on_request(train, tmp_path):
    assert train(tmp_path, "callbacks.snapshot.keep_generators=2").code == 0
    assert sorted(path.name for path in (tmp_path / "generators").iterdir()) == [
        "000000288.safetensors",
        "000000320.safetensors",
    ]


def test_tensorboard_has_scalars_and_pictures_by_images_seen(train, tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    result = train(tmp_path, "logger=tensorboard", "total_images=64")
    assert result.code == 0, result.err
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [scalar.step for scalar in events.Scalars("discriminator_loss")] == [16, 32, 48, 64]
    assert [image.step for image in events.Images("samples")] == [0, 48, 64]
    assert [(image.width, image.height) for image in events.Images("samples")] == [(128, 128)] * 3
    assert b"total_images: 64" in events.Tensors("config/text_summary")[0].tensor_proto.string_val[0]


def test_tensorboard_takes_back_what_a_killed_start_had_written_after_its_checkpoint(train, tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    killed = functools.partial(kill_at, "callbacks.generator_ema:GeneratorEMA.on_train_batch_end", 10)
    assert train(tmp_path, "logger=tensorboard", "total_images=96", accident=killed).code == -9
    assert state_of(tmp_path)["images_seen"] == 48  # while 64 were logged
    assert train(tmp_path, "logger=tensorboard", "total_images=96").code == 0
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [scalar.step for scalar in events.Scalars("discriminator_loss")] == [16, 32, 48, 64, 80, 96]


def test_showcase_is_written_at_the_end_and_again_if_a_kill_prevented_it(commands, blobs, tmp_path):
    tiny = [option for option in TINY if option != "callbacks.showcase=null"]
    arguments = [
        *tiny,
        f"data.path={blobs}",
        f"run_dir={tmp_path}",
        "total_images=48",
        "callbacks.showcase.film_seconds=0.2",
    ]
    result = commands.run("train", arguments)
    assert result.code == 0, result.err
    (film,) = tmp_path.glob("interpolation.*")
    written = [tmp_path / "samples.png", tmp_path / "losses.png", film]
    for path in written:
        assert path.stat().st_size
        assert str(path) in result.err
    before = contents(tmp_path)
    commands.run("train", arguments)
    assert all(contents(tmp_path)[path.name] == before[path.name] for path in written)
    film.unlink()
    commands.run("train", arguments)
    assert film.exists()
    assert contents(tmp_path)["samples.png"][0] == before["samples.png"][0]


def test_sample_grid_needs_whole_pictures():
    with pytest.raises(ValueError, match=r"callbacks\.sample_grid\.rows must be at least 1"):
        SampleGrid(rows=0)

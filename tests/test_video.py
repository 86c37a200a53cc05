import importlib.util
import sys

import numpy as np
import pytest
from PIL import Image, features

from imago.errors import MissingDependencyError, UserError
from imago.video import film_path, write_film

needs_webp = pytest.mark.skipif(not features.check("webp"), reason="Pillow without WebP")


def gradients(count=12, height=48, width=64):
    """Smooth coloured frames that differ from one another."""
    y, x = np.mgrid[0:height, 0:width]
    for i in range(count):
        frame = np.stack([x * 255 // width, y * 255 // height, np.full_like(x, 20 * i % 256)], axis=-1)
        yield frame.astype(np.uint8)


def decode_mp4(path):
    av = pytest.importorskip("av")
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        return frames, float(stream.average_rate), stream.codec_context


def decode_pillow(path):
    frames, durations = [], []
    with Image.open(path) as film:
        loop = film.info.get("loop")
        for i in range(film.n_frames):
            film.seek(i)
            film.load()
            frames.append(np.asarray(film.convert("RGB")))
            durations.append(film.info["duration"])
    return frames, durations, loop


def error(decoded, expected):
    return np.mean([np.abs(a.astype(int) - b).mean() for a, b in zip(decoded, expected, strict=True)])


def test_mp4_comes_back(tmp_path):
    frames, rate, codec = decode_mp4(write_film(gradients(), tmp_path / "new/x.mp4", 24))
    assert error(frames, list(gradients())) < 2.5
    assert rate == 24
    assert (codec.name, codec.pix_fmt) == ("h264", "yuv420p")
    assert codec.colorspace == 1  # BT.709, so that players do not guess
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["x.mp4"]


@pytest.mark.parametrize("colour", [(220, 30, 30), (30, 200, 40), (230, 190, 160)])
def test_mp4_keeps_flat_colours(tmp_path, colour):
    frames, _, _ = decode_mp4(write_film([np.full((16, 16, 3), colour, np.uint8)] * 3, tmp_path / "x.mp4", 10))
    assert np.abs(np.array(frames).astype(int) - colour).max() <= 3


def test_mp4_pads_odd_sizes_by_repeating_the_edge(tmp_path):
    frames, _, _ = decode_mp4(write_film(gradients(height=33, width=47), tmp_path / "x.mp4", 30))
    expected = [np.pad(frame, ((0, 1), (0, 1), (0, 0)), mode="edge") for frame in gradients(height=33, width=47)]
    assert error(frames, expected) < 3


def test_mp4_takes_the_film_rates(tmp_path):
    _, rate, _ = decode_mp4(write_film(gradients(), tmp_path / "x.mp4", 29.97))
    assert rate == pytest.approx(30000 / 1001, rel=1e-4)


def test_mp4_without_libx264(tmp_path, monkeypatch):
    av = pytest.importorskip("av")
    monkeypatch.setattr(av, "codecs_available", {"mpeg4"})
    frames, _, codec = decode_mp4(write_film(gradients(), tmp_path / "x.mp4", 25))
    assert codec.name == "mpeg4"
    assert error(frames, list(gradients())) < 4


def test_mp4_frames_are_not_collected(tmp_path):
    pytest.importorskip("av")
    alive, most = 0, 0

    class Frame(np.ndarray):
        def __array_finalize__(self, source):
            nonlocal alive, most
            alive += 1
            most = max(most, alive)

        def __del__(self):
            nonlocal alive
            alive -= 1

    write_film((frame.view(Frame) for frame in gradients(count=60)), tmp_path / "x.mp4", 30)
    assert most < 10


def test_gif_comes_back_loops_and_keeps_time(tmp_path):
    frames, durations, loop = decode_pillow(write_film(gradients(30), tmp_path / "x.gif", 30))
    assert error(frames, list(gradients(30))) < 8  # 256 colours
    assert loop == 0  # for ever
    assert sum(durations) == 1000  # 30 frames at 30 fps, though a delay is a whole number of hundredths
    assert set(durations) == {30, 40}


@needs_webp
def test_webp_comes_back_loops_and_keeps_time(tmp_path):
    frames, durations, loop = decode_pillow(write_film(gradients(30), tmp_path / "x.webp", 30))
    assert error(frames, list(gradients(30))) < 4
    assert loop == 0
    assert sum(durations) == pytest.approx(1000, abs=1)


@pytest.mark.parametrize("ending", ["mp4", "gif", "webp"])
def test_a_film_of_one_frame(tmp_path, ending):
    if ending == "mp4":
        pytest.importorskip("av")
    assert write_film(gradients(1), tmp_path / f"x.{ending}", 30).stat().st_size > 0


def test_bad_endings_name_the_good_ones(tmp_path):
    for name in ("x.avi", "x"):
        with pytest.raises(UserError, match=r"\.mp4, \.gif, \.webp"):
            write_film(gradients(), tmp_path / name, 30)


@pytest.mark.parametrize(("name", "fps"), [("x.gif", 0), ("x.gif", -5), ("x.gif", float("nan")), ("x.gif", 60)])
def test_impossible_frame_rates_are_refused(tmp_path, name, fps):
    with pytest.raises(UserError, match="frame"):
        write_film(gradients(), tmp_path / name, fps)


@pytest.mark.parametrize("ending", ["mp4", "gif", "webp"])
def test_an_error_on_the_way_leaves_the_old_film_and_no_litter(tmp_path, ending):
    if ending == "mp4":
        pytest.importorskip("av")
    path = write_film(gradients(), tmp_path / f"x.{ending}", 30)
    before = path.read_bytes()

    def broken():
        yield from gradients(5)
        yield np.zeros((4, 4, 3), np.uint8)

    with pytest.raises(ValueError, match="frame 5"):
        write_film(broken(), path, 30)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("frames", [[], [np.zeros((4, 4), np.uint8)], [np.zeros((4, 4, 3), np.float32)]])
def test_what_is_no_film_is_refused(tmp_path, frames):
    with pytest.raises(ValueError, match="frame"):
        write_film(frames, tmp_path / "x.gif", 30)


def test_without_av_mp4_says_what_to_install_and_films_fall_back(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match=r"imago\[video\]"):
        write_film(gradients(), tmp_path / "x.mp4", 30)
    assert film_path(tmp_path / "a.b").name == ("a.b.webp" if features.check("webp") else "a.b.gif")
    monkeypatch.setattr(features, "check", lambda name: False)
    assert film_path("x").name == "x.gif"


def test_with_av_films_are_mp4():
    pytest.importorskip("av")
    assert film_path("runs/a.b").as_posix() == "runs/a.b.mp4"

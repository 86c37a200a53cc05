"""Films with a flash and a click at the same moment, made here by PyAV, go through frame by frame."""

import struct
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from imago.errors import MissingDependencyError, UserError
from imago.film_files import check_target, read_film, write_film_like, write_frames
from imago.picture_files import read_picture

av = pytest.importorskip("av")

RATE = 48000
EVENT = 0.5  # seconds


def make_film(
    path, fps=Fraction(30000, 1001), seconds=1.0, sound="aac", times=None, size=(48, 64), start=0.0, tracks=1
):
    """Grey frames that grow brighter, one white at EVENT; a soft tone with a click at EVENT. Frames at `times`."""
    picture_codec = {".avi": "mpeg4", ".ts": "mpeg2video", ".gif": "gif"}.get(path.suffix, "libx264")
    times = [Fraction(i) / fps for i in range(round(seconds * fps))] if times is None else times
    tick = 1 / Fraction(fps)
    with av.open(str(path), "w") as container:
        container.metadata["title"] = "a flash"
        stream = container.add_stream(picture_codec, rate=fps)
        stream.height, stream.width, stream.pix_fmt = *size, "rgb8" if path.suffix == ".gif" else "yuv420p"
        if len(set(np.diff(times))) > 1:
            tick = Fraction(1, 1000)
        stream.time_base = stream.codec_context.time_base = tick
        sounds = [container.add_stream(sound, rate=RATE, layout="stereo") for _ in range(tracks)] if sound else []
        flash = min(range(len(times)), key=lambda i: abs(times[i] - EVENT))
        for i, time in enumerate(times):
            picture = np.full((*size, 3), 255 if i == flash else 40 + i, np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = round((time + Fraction(start)) / tick), tick
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        for track in sounds:
            wave = 0.02 * np.sin(2 * np.pi * 440 * np.arange(round(seconds * RATE)) / RATE)
            click = round(float(times[flash]) * RATE)
            wave[click : click + 200] = 0.9
            length = track.codec_context.frame_size or 1024
            for first in range(0, len(wave) - length + 1, length):
                samples = np.stack([wave[first : first + length]] * 2).astype(np.float32)
                frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="stereo")
                frame.rate, frame.time_base = RATE, Fraction(1, RATE)
                frame.pts = first + round(start * RATE)
                container.mux(track.encode(frame))
            container.mux(track.encode(None))
    return path


def sound_packets(path, track=0):
    with av.open(str(path)) as container:
        return [
            (bytes(p), float(p.pts * p.time_base)) for p in container.demux(container.streams.audio[track]) if p.size
        ]


def picture_times(path):
    with av.open(str(path)) as container:
        return [frame.time for frame in container.decode(video=0)]


def events(path):
    """When the brightest frame is shown and when the click sounds, in seconds."""
    with av.open(str(path)) as container:
        shown = [(frame.to_ndarray(format="gray").mean(), frame.time) for frame in container.decode(video=0)]
    with av.open(str(path)) as container:
        heard = []
        for frame in container.decode(audio=0):
            samples = np.abs(np.atleast_2d(frame.to_ndarray().astype(float))[0])
            heard.append((samples.max(), frame.time + samples.argmax() / frame.rate))
    return max(shown)[1], max(heard)[1]


def doubled(film):
    for frame in film:
        yield frame.repeat(2, axis=0).repeat(2, axis=1)


def test_reading(tmp_path):
    film = read_film(make_film(tmp_path / "x.mp4"))
    assert (film.height, film.width, film.fps, film.count, film.sounds) == (48, 64, Fraction(30000, 1001), 30, 1)
    for _ in range(2):  # from the start, every time
        frames = list(film)
        assert [frame.shape for frame in frames] == [(48, 64, 3)] * 30
        brightness = np.array([frame.mean() for frame in frames])
        expected = np.array([255 if i == 15 else 40 + i for i in range(30)])
        assert np.abs(brightness - expected).max() < 3


def test_frames_are_decoded_as_they_are_asked_for(tmp_path):
    film = read_film(make_film(tmp_path / "x.mp4", seconds=5.0))
    iterator = iter(film)
    assert next(iterator).shape == (48, 64, 3)
    iterator.close()


@pytest.mark.parametrize("ending", [".mp4", ".mov", ".mkv"])
def test_sound_is_copied_and_all_frames_arrive(tmp_path, ending):
    source = make_film(tmp_path / "x.mp4")
    film = read_film(source)
    result = write_film_like(film, doubled(film), tmp_path / f"new/y{ending}")
    again = read_film(result)
    assert (again.height, again.width, again.fps, again.count) == (96, 128, film.fps, 30)
    error = [np.abs(a.astype(int) - b[::2, ::2]).mean() for a, b in zip(film, again, strict=True)]
    assert np.mean(error) < 2.5
    before, after = sound_packets(source), sound_packets(result)
    assert [content for content, _ in before] == [content for content, _ in after]
    # Matroska knows no times before 0, where AAC's first packet lies: all moves by its length, 21 ms.
    moved = after[0][1] - before[0][1]
    assert moved == pytest.approx(1024 / RATE if ending == ".mkv" else 0, abs=0.001)
    np.testing.assert_allclose([t - moved for _, t in after], [t for _, t in before], atol=0.001)
    np.testing.assert_allclose([t - moved for t in picture_times(result)], picture_times(source), atol=0.001)
    with av.open(str(result)) as container:
        assert container.metadata["title"] == "a flash"
        assert container.streams.video[0].codec_context.colorspace == 1  # BT.709
    assert [file.name for file in (tmp_path / "new").iterdir()] == [f"y{ending}"]


@pytest.mark.parametrize(
    ("source", "sound", "result", "codec"),
    [
        ("x.mp4", "aac", "y.mp4", "aac"),
        ("x.mov", "pcm_s16le", "y.mp4", "aac"),  # encoded anew
        ("x.mov", "pcm_s16le", "y.mkv", "pcm_s16le"),
        ("x.mkv", "libopus", "y.mp4", "opus"),
        ("x.avi", "mp2", "y.mov", "aac"),
        ("x.ts", "mp2", "y.mp4", "aac"),
    ],
)
def test_flash_and_click_stay_together(tmp_path, source, sound, result, codec):
    fps = Fraction(25) if source == "x.ts" else Fraction(30000, 1001)
    film = read_film(make_film(tmp_path / source, fps, sound=sound))
    path = write_film_like(film, film, tmp_path / result)
    flash, click = events(path)
    assert abs(flash - click) < 0.02
    assert flash == pytest.approx(EVENT, abs=0.02)
    with av.open(str(path)) as container:
        assert container.streams.audio[0].codec_context.name == codec
        assert container.streams.video[0].average_rate == fps


def test_uneven_times_are_kept(tmp_path):
    rng = np.random.default_rng(0)
    times = [Fraction(int(t), 1000) for t in np.cumsum(rng.integers(15, 80, 25))]
    film = read_film(make_film(tmp_path / "x.mkv", times=times))
    result = write_film_like(film, film, tmp_path / "y.mp4")
    np.testing.assert_allclose(picture_times(result), picture_times(tmp_path / "x.mkv"), atol=0.001)
    flash, click = events(result)
    assert abs(flash - click) < 0.02


def test_a_rate_that_is_the_clock_of_the_file(tmp_path):
    """An AVI that counts in 600ths of a second, and notes that as its rate."""
    with av.open(str(tmp_path / "x.avi"), "w") as container:
        stream = container.add_stream("mpeg4", rate=600)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for i in range(20):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 8 * i, np.uint8), format="rgb24")
            frame.pts, frame.time_base = 24 * i, Fraction(1, 600)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    film = read_film(tmp_path / "x.avi")
    assert (film.fps, film.count) == (25, 20)
    again = read_film(write_film_like(film, film, tmp_path / "y.mp4"))
    assert (again.fps, again.count) == (25, 20)


def test_a_clock_that_runs_on_starts_anew(tmp_path):
    film = read_film(make_film(tmp_path / "x.ts", Fraction(25), sound="mp2", start=3600.0))
    assert film.start > 3599
    flash, click = events(write_film_like(film, film, tmp_path / "y.mp4"))
    assert flash == pytest.approx(EVENT, abs=0.02)
    assert abs(flash - click) < 0.02


def test_sound_ends_with_the_pictures_if_there_are_fewer(tmp_path):
    film = read_film(make_film(tmp_path / "x.mp4", seconds=2.0))
    frames = [frame for frame, _ in zip(film, range(15), strict=False)]
    result = write_film_like(film, frames, tmp_path / "y.mp4")
    assert read_film(result).count == 15
    assert sound_packets(result)[-1][1] == pytest.approx(0.5, abs=0.04)
    more = write_film_like(film, [*film, *frames], tmp_path / "z.mp4")  # more frames follow at the same rate
    assert picture_times(more)[-1] == pytest.approx(74 * 1001 / 30000, abs=0.002)
    assert len(sound_packets(more)) == len(sound_packets(tmp_path / "x.mp4"))


def test_sound_and_pictures_are_interleaved(tmp_path):
    film = read_film(make_film(tmp_path / "x.mp4", seconds=4.0))
    with av.open(str(write_film_like(film, film, tmp_path / "y.mkv"))) as container:
        ends, gaps = {"audio": 0.0, "video": 0.0}, []
        for packet in container.demux():
            if packet.size:
                ends[packet.stream.type] = float(packet.pts * packet.time_base)
                gaps.append(abs(ends["audio"] - ends["video"]))
    assert max(gaps) < 1.0


def test_all_tracks_or_none(tmp_path):
    film = read_film(make_film(tmp_path / "x.mp4", tracks=2))
    result = write_film_like(film, film, tmp_path / "y.mp4")
    assert read_film(result).sounds == 2
    assert sound_packets(result, 1) == sound_packets(tmp_path / "x.mp4", 1)
    film = read_film(make_film(tmp_path / "silent.mp4", sound=None))
    assert read_film(write_film_like(film, film, tmp_path / "z.mp4")).sounds == 0


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_rotation_of_phones(tmp_path, quarters):
    path = make_film(tmp_path / "x.mp4", seconds=0.2)
    bright = read_film(path)
    pictures = []
    for frame in bright:
        frame[:10, :10] = 255
        pictures.append(frame)
    path = write_film_like(bright, pictures, tmp_path / "marked.mp4")
    content = bytearray(path.read_bytes())
    header = content.index(b"tkhd")  # of the pictures, the first track; ISO/IEC 14496-12, section 8.3.2
    cos, sin = [(1, 0), (0, 1), (-1, 0), (0, -1)][quarters]  # turned clockwise
    matrix = struct.pack(">9i", cos << 16, sin << 16, 0, -sin << 16, cos << 16, 0, 0, 0, 1 << 30)
    assert struct.unpack_from(">9i", content, header + 44)[8] == 1 << 30
    content[header + 44 : header + 80] = matrix
    path.write_bytes(content)
    film = read_film(path)
    expected = np.rot90(pictures[0], -quarters)
    assert (film.height, film.width) == expected.shape[:2]
    assert np.abs(next(iter(film)).astype(int) - expected).mean() < 6
    again = read_film(write_film_like(film, film, tmp_path / "y.mp4"))  # upright, with nothing noted
    assert np.abs(next(iter(again)).astype(int) - expected).mean() < 6


def test_a_gif_and_pixels_that_are_not_square(tmp_path):
    film = read_film(make_film(tmp_path / "x.gif", Fraction(10), sound=None))
    assert (film.count, film.sounds) == (10, 0)
    assert len(list(film)) == 10
    with av.open(str(tmp_path / "wide.mkv"), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(4, 3)
        for _ in range(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")))
        container.mux(stream.encode(None))
    film = read_film(tmp_path / "wide.mkv")
    assert film.pixel_aspect == Fraction(4, 3)
    assert read_film(write_film_like(film, doubled(film), tmp_path / "y.mp4")).pixel_aspect == Fraction(4, 3)


def test_untagged_colours_are_taken_by_their_size(tmp_path):
    """Red in BT.709's and in BT.601's numbers (ITU-R BT.709-6, BT.601-7), limited range, not tagged."""
    for rows, (luma, blue, red) in ((720, (63, 102, 240)), (480, (81, 90, 240))):
        path = tmp_path / f"{rows}.mp4"
        with av.open(str(path), "w") as container:
            stream = container.add_stream("libx264", rate=25)
            stream.width, stream.height, stream.pix_fmt = 64, rows, "yuv420p"
            planes = np.concatenate(
                [np.full(64 * rows, luma), np.full(16 * rows, blue), np.full(16 * rows, red)]
            ).reshape(rows * 3 // 2, 64)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(planes.astype(np.uint8), format="yuv420p")))
            container.mux(stream.encode(None))
        pixel = next(iter(read_film(path)))[rows // 2, 32].astype(int)
        assert np.abs(pixel - [255, 0, 0]).max() <= 4


def test_frames_as_pictures(tmp_path):
    film = read_film(make_film(tmp_path / "x.mp4", seconds=0.2))
    assert write_frames(film, tmp_path / "frames") == film.count
    files = sorted((tmp_path / "frames").iterdir())
    assert [file.name for file in files] == [f"{i:06d}.png" for i in range(film.count)]
    for file, frame in zip(files, film, strict=True):
        np.testing.assert_array_equal(read_picture(file).pixels, frame)
    with pytest.raises(UserError, match="older, longer film"):
        write_frames(list(film)[:2], tmp_path / "frames")
    with pytest.raises(ValueError, match="at least one frame"):
        write_frames([], tmp_path / "none")


def test_what_is_no_film(tmp_path):
    (tmp_path / "text.mp4").write_text("no film" * 100)
    whole = make_film(tmp_path / "x.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) // 2])  # the index stands at the end
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=RATE)
        container.mux(stream.encode(None))
    for name in ("text.mp4", "cut.mp4", "sound.mp4", "y.mp4"):
        with pytest.raises(UserError, match=name) as caught:
            read_film(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_what_cannot_be_written(tmp_path, monkeypatch):
    film = read_film(make_film(tmp_path / "x.mp4", seconds=0.2))
    with pytest.raises(UserError, match=r"\.mp4, \.mov, \.mkv"):
        write_film_like(film, film, tmp_path / "y.webm")
    with pytest.raises(UserError, match="overwrite"):
        write_film_like(film, film, tmp_path / "x.mp4")
    with pytest.raises(ValueError, match="at least one frame"):
        write_film_like(film, [], tmp_path / "y.mp4")

    def broken():
        yield from [np.zeros((16, 16, 3), np.uint8)] * 3
        raise UserError("the network is broken")

    with pytest.raises(UserError, match="the network is broken"):
        write_film_like(film, broken(), tmp_path / "y.mp4")
    assert [file.name for file in Path(tmp_path).iterdir()] == ["x.mp4"]
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match=r"imago\[video\]"):
        check_target("y.mp4")

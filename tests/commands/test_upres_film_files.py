"""upres.py on films: frames in their places, sound kept, a face that is followed."""

import numpy as np
import pytest
from PIL import Image

import commands.upres
from commands.upres import upres
from commands.upres_films import low_extent
from conf.upres_schema import UpresConfig, UpresFilmConfig, UpresTilingConfig
from imago.data.drawn_portraits import draw_portrait, sample_attributes
from imago.errors import UserError
from imago.faces.finding import LandmarkFinder
from imago.faces.landmarks import Face
from imago.upres.stages import Stage
from tile_networks import nearest

av = pytest.importorskip("av")
pytest.importorskip("cv2")

PORTRAIT, EXACT = draw_portrait(sample_attributes(1, 0), 96)
FRAMES = 6


def place(number):
    """Left and top of the portrait in frame `number`."""
    return 10 + 2 * number, 8


def frame(number):
    picture = np.full((128, 160, 3), 90, np.uint8)
    left, top = place(number)
    picture[top : top + 96, left : left + 96] = PORTRAIT
    return picture


class KnownFace:
    """Finds the face of one frame after the other, except in the frames that are blind."""

    def __init__(self, blind=()):
        self.number, self.blind = -1, blind

    def detect(self, image):
        self.number += 1
        if self.number in self.blind:
            return []
        return [Face.from_landmarks(EXACT + np.array(place(self.number)))]


@pytest.fixture
def detector(monkeypatch):
    detector = KnownFace()
    stage = Stage(nearest(2), 2, tile=16, face_size=64, low_size=64)
    monkeypatch.setattr(commands.upres, "load_stage", lambda path, device: stage)
    monkeypatch.setattr(commands.upres, "find_finder", lambda *arguments: LandmarkFinder({"it": detector}))
    return detector


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    """A second of six frames, and a tone."""
    path = tmp_path_factory.mktemp("films") / "film.mp4"
    with av.open(str(path), "w") as container:
        pictures = container.add_stream("libx264", rate=FRAMES, options={"crf": "4"})
        pictures.width, pictures.height, pictures.pix_fmt = 160, 128, "yuv444p"
        sound = container.add_stream("aac", rate=24_000, layout="mono")
        for number in range(FRAMES):
            container.mux(pictures.encode(av.VideoFrame.from_ndarray(frame(number), format="rgb24")))
        container.mux(pictures.encode(None))
        tone = np.sin(np.arange(24_000) / 9).astype(np.float32)[None]
        for first in range(0, 24_000 - 1024, 1024):
            samples = av.AudioFrame.from_ndarray(tone[:, first : first + 1024], format="fltp", layout="mono")
            samples.sample_rate, samples.pts = 24_000, first
            container.mux(sound.encode(samples))
        container.mux(sound.encode(None))
    return path


def config(tmp_path, source, stability=None, **options):
    given = {"checkpoint": "it", "input": str(source), "out": str(tmp_path / "out"), "device": "cpu", **options}
    stability = stability or UpresFilmConfig(mode="frame_by_frame")
    return UpresConfig(**given, film=stability, tiling=UpresTilingConfig(colour=0.0))


def decoded(path):
    with av.open(str(path)) as container:
        frames = [picture.to_ndarray(format="rgb24").astype(int) for picture in container.decode(video=0)]
    with av.open(str(path)) as container:
        sound = [packet.size for packet in container.demux(container.streams.audio[0]) if packet.size]
    return frames, sum(sound)


def test_entire_frames_are_enlarged_and_the_sound_is_kept(tmp_path, film, detector, capsys):
    written = upres(config(tmp_path, film, mode="whole"))
    assert [path.name for path in written] == ["film.mp4", "film-profile.png"]
    frames, sound = decoded(written[0])
    assert sound == decoded(film)[1] > 0
    assert len(frames) == FRAMES
    for number, made in enumerate(frames):
        expected = frame(number).repeat(2, axis=0).repeat(2, axis=1)
        assert np.abs(made - expected).mean() < 4  # twice through H.264, the second time with fewer colours
    output = capsys.readouterr().out
    assert "landmarks found in 6 of 6 frames" in output
    assert f"wrote {written[0]}: 6 frames, with its sound, 160×128 → 320×256" in output
    assert "warping error" in output
    with Image.open(written[1]) as profile:
        assert profile.size == (320, 4 * FRAMES)


def test_a_portrait_follows_the_face(tmp_path, film, detector, capsys):
    """The face moves through the film and stands still in the portrait, also in a frame where it was not found."""
    detector.blind = (3,)
    written = upres(config(tmp_path, film, UpresFilmConfig(mode="frame_by_frame", landmark_sigma=0.0)))
    assert "landmarks found in 6 of 6 frames (it 5, the frame before 1)" in capsys.readouterr().out
    frames, sound = decoded(written[0])
    assert sound > 0
    assert {made.shape for made in frames} == {(128, 128, 3)}
    middle = slice(40, 88), slice(40, 88)
    still = [np.abs(made[middle] - frames[0][middle]).mean() for made in frames]
    assert max(still[:3]) < 4
    assert still[3] > 1.5 * max(still[:3])  # the old place, from which the face has moved on
    assert np.isfinite(still).all()


def test_films_without_a_face(tmp_path, film, detector):
    detector.blind = range(100)
    with pytest.raises(UserError, match=r"film.mp4: no face found in any frame; mode=whole enlarges entire frames"):
        upres(config(tmp_path, film))
    assert len(decoded(upres(config(tmp_path, film, UpresFilmConfig(), mode="whole"))[0])[0]) == FRAMES


def test_the_size_of_a_film(tmp_path, film, detector):
    (path, _) = upres(config(tmp_path, film, mode="whole", size=80))
    assert decoded(path)[0][0].shape == (64, 80, 3)


def test_files_that_are_no_films(tmp_path, detector):
    path = tmp_path / "broken.mp4"
    path.write_bytes(b"no film")
    with pytest.raises(UserError, match=r"broken.mp4: not a film, or a damaged one"):
        upres(config(tmp_path, path))


@pytest.mark.parametrize(
    ("high", "extent", "low"),
    [
        ((768, 768), (128, 128), (128, 128)),
        ((4096, 4096), (128, 128), (128, 128)),
        ((768, 768), (100, 100), (96, 96)),
        ((960, 1280), (480, 640), (480, 640)),
        ((96, 96), (200, 200), (96, 96)),  # never larger than the result
        ((34, 62), (3, 3), (17, 31)),  # only 2 divides both
    ],
)
def test_low_frames_are_a_whole_fraction_of_high_ones(high, extent, low):
    assert low_extent(high, extent) == low

"""generate.py with labels asked for by name."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import commands.generate
from commands.app import free_key
from commands.generate import generate
from conf.generate_schema import GenerateConfig
from imago.data.packed import LabelColumn
from imago.errors import UserError
from imago.labels import LabelCoding, LabelDistribution
from imago.networks.serialization import LoadedGenerator

CODING = LabelCoding(
    (
        LabelColumn("Glasses", ("no", "eyeglasses", "sunglasses")),
        LabelColumn("Smile", ("no", "yes")),
        LabelColumn("Hair Color", ("black", "light brown")),
    )
)
# Whoever wears eyeglasses smiles; nobody wears sunglasses and smiles.
ROWS = [[0, 0, 0], [0, 1, 1], [0, 0, 1], [1, 1, 0], [1, 1, 1], [2, 0, 1]]
LABELS = LabelDistribution(CODING, np.array(ROWS, dtype=np.int16))


class Painter(nn.Module):
    """Paints the labels: red glasses, green smile, blue hair, each a share of the values; and the latent beside."""

    latent_size = 3
    resolution = 8
    resolutions = (4, 8)

    def forward(self, latents, labels, *, resolution, alpha):
        glasses, smile, hair = (part.argmax(1) for part in labels.split([3, 2, 2], dim=1))
        shares = torch.stack([glasses / 2, smile / 1, hair / 1], dim=1) * 2 - 1
        left, right = (x[:, :, None, None].expand(-1, -1, 8, 4) for x in (shares, torch.tanh(latents)))
        return torch.cat([left, right], dim=3)

    def read_back(self, images):
        return images


@pytest.fixture
def loaded(monkeypatch):
    loaded = LoadedGenerator(Painter(), 8, 1.0, 1000, {}, LABELS)
    monkeypatch.setattr(commands.generate, "load_generator", lambda path, device="cpu": loaded)
    return loaded


@pytest.fixture
def run(tmp_path):
    (tmp_path / "run").mkdir()
    return tmp_path / "run"


def config(run, **options):
    return GenerateConfig(**{"checkpoint": str(run), "device": "cpu", **options})


def pixels(path):
    with Image.open(path) as opened:
        return np.asarray(opened.convert("RGB"))


def painted(image):
    """The codes that a picture shows."""
    red, green, blue = image[0, 0].tolist()
    return [round(red / 127.5), round(green / 255), round(blue / 255)]


def test_what_is_asked_for_is_shown_and_the_rest_fits_it(loaded, run):
    codes = [painted(pixels(path)) for path in generate(config(run, count=40, labels={"glasses": "eyeglasses"}))]
    assert {tuple(code) for code in codes} == {(1, 1, 0), (1, 1, 1)}
    codes = [painted(pixels(path)) for path in generate(config(run, count=60))]
    assert {tuple(code) for code in codes} == {tuple(row) for row in ROWS}
    (path,) = generate(config(run, count=1, labels={"glasses": "sunglasses", "smile": True}))  # occurs nowhere
    assert painted(pixels(path)) == [2, 1, 1]


def test_a_picture_is_its_seed_its_number_and_its_labels(loaded, run, tmp_path):
    many = generate(config(run, count=13, batch_size=5, labels={"smile": "yes"}))
    (again,) = generate(config(run, pictures=[12], labels={"SMILE": True}, out=str(tmp_path / "again")))
    assert again.name == many[12].name == "seed0000-00012-smile=yes.png"
    assert again.read_bytes() == many[12].read_bytes()
    with_glasses, without = (
        pixels(generate(config(run, pictures=[12], labels={"glasses": value}))[0]) for value in ("eyeglasses", "no")
    )
    assert np.array_equal(with_glasses[:, 4:], without[:, 4:])  # the same latent
    assert not np.array_equal(with_glasses, without)


def test_the_printed_recipe_asks_for_the_same_labels(loaded, run, capsys):
    generate(config(run, count=2, labels={"hair color": "Light Brown", "smile": False}))
    recipe = capsys.readouterr().out.strip().splitlines()[-1]
    assert recipe.endswith("seed=0 'pictures=[1]' labels.hair_color=light_brown labels.smile=no")


def test_file_names_and_metadata_tell_the_labels(loaded, run):
    (path,) = generate(config(run, count=1, scale=2, labels={"Hair_Color": "LIGHT BROWN", "glasses": "no"}))
    assert path.name == "seed0000-00000-scale2-glasses=no-hair_color=light_brown.png"
    with Image.open(path) as opened:
        text = opened.text
    codes = painted(pixels(path))
    shown = {c.name: c.values[code] for c, code in zip(CODING.columns, codes, strict=True)}
    assert {name: text[name] for name in shown} == shown
    (grid,) = generate(config(run, what="grid", count=3))
    with Image.open(grid) as opened:
        lines = opened.text["labels (a line per picture)"].splitlines()
    assert len(lines) == 3
    assert all(line.startswith("Glasses: ") for line in lines)


def test_names_of_many_labels_stay_short_and_apart(loaded, run):
    columns = tuple(LabelColumn(f"a rather long attribute {i}", ("no", "yes")) for i in range(40))
    rows = np.zeros((1, 40), dtype=np.int16)
    loaded.labels = LabelDistribution(LabelCoding(columns), rows)
    loaded.generator.forward = lambda latents, labels, resolution, alpha: torch.zeros(len(latents), 3, 8, 8)
    asked = [{c.name: "yes" if i == last else "no" for i, c in enumerate(columns)} for last in (38, 39)]
    names = [generate(config(run, count=1, labels=labels))[0].name for labels in asked]
    assert len(set(names)) == 2
    assert max(map(len, names)) < 200


def test_a_grid_holds_the_pictures(loaded, run):
    singles = [pixels(path) for path in generate(config(run, count=4, labels={"glasses": "no"}))]
    (grid,) = generate(config(run, what="grid", count=4, batch_size=3, labels={"glasses": "no"}))
    assert np.array_equal(pixels(grid), np.vstack([np.hstack(singles[:2]), np.hstack(singles[2:])]))


@pytest.mark.parametrize("path", ["gaussian", "slerp"])
def test_a_film_keeps_the_labels_of_each_cell(loaded, run, path, monkeypatch):
    frames = []  # before a codec mixes colours
    monkeypatch.setattr(commands.generate, "write_film", lambda film, path, fps: frames.extend(film))
    options = {"what": "interpolation", "film": "webp", "seconds": 0.5, "fps": 10, "columns": 3, "rows": 2}
    generate(config(run, path=path, keyframes=2, batch_size=4, **options))
    cells = [[painted(frame[8 * r :, 8 * c :]) for r in range(2) for c in range(3)] for frame in frames]
    assert len(cells) == 5
    assert all(cell == cells[0] for cell in cells)
    # Where a film passes through pictures, a cell has the labels of its first one.
    numbers = range(6) if path == "gaussian" else range(0, 12, 2)
    assert cells[0] == [painted(pixels(generate(config(run, pictures=[n]))[0])) for n in numbers]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"glases": "no"}, "trained with the labels glasses, smile, hair_color; did you mean glasses"),
        ({"glasses": "monocle"}, "labels.glasses=monocle: must be one of no, eyeglasses, sunglasses"),
        ({"smile": None}, "labels.smile=None: must be one of no, yes"),
        ({"hair_color": True}, "must be one of black, light brown"),
    ],
)
def test_labels_that_there_are_not(loaded, run, labels, message):
    with pytest.raises(UserError, match=message) as caught:
        generate(config(run, labels=labels))
    assert "\n" not in str(caught.value)
    assert not [path for path in run.rglob("*") if path.is_file()]


def test_labels_for_a_generator_without(loaded, run):
    loaded.labels = None
    with pytest.raises(UserError, match="was trained without labels"):
        generate(config(run, labels={"smile": "yes"}))


@pytest.mark.parametrize(
    ("argument", "given"),
    [
        ("labels.smile=yes", "++labels.smile=yes"),
        ("++labels.smile=yes", "++labels.smile=yes"),
        ("data.labels=[smile]", "data.labels=[smile]"),
        ("labels={smile: yes}", "++labels={smile: yes}"),
    ],
)
def test_label_options_reach_hydra_as_free_keys(argument, given):
    assert free_key(argument) == given

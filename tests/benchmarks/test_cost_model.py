"""The cost model beside hand calculations, and beside what a step, a metric and a checkpoint really move."""

import math
from pathlib import Path
from typing import Any

import cost_model
import pytest
import torch
from cost_model import (
    PRESETS,
    Machine,
    Networks,
    all_reduce_seconds,
    data_bytes,
    fitting_processes,
    metric_bytes,
    most_processes,
    preset,
    step,
    wire_bytes,
)
from hydra.core.global_hydra import GlobalHydra
from training_step import ImagoStep

from imago.errors import UserError
from imago.growth import GrowthSchedule
from imago.losses import WganGp
from imago.metrics import SlicedWasserstein
from lightning_modules.pggan import PGGAN

TINY: dict[str, int] = {"latent_size": 6, "fmap_base": 48, "fmap_max": 12}
MACHINE = Machine({64: 0.01}, latency=1e-3, bandwidth=1e8, algorithm="ring", png_share=0.5)


@pytest.fixture(autouse=True)
def _hydra_is_left_as_it_was() -> Any:
    yield
    GlobalHydra.instance().clear()


def tiny_step(schedule: GrowthSchedule) -> ImagoStep:
    module = PGGAN(WganGp(), schedule, **TINY)  # type: ignore[arg-type]
    made = ImagoStep(schedule.resolution, 8, "fp32", torch.device("cpu"), module=module)
    made.images = made.images[..., : schedule.at(0).resolution, : schedule.at(0).resolution]
    return made


def test_parameters_at_4_by_hand() -> None:
    """Table 2: 512 to 512·4·4 numbers, a 3 × 3 convolution, to RGB; from RGB, 513 to 512 maps, 4 × 4, a score."""
    generator, discriminator = Networks(1024).active(4)
    assert generator == (512 * 512 * 16 + 512) + (9 * 512 * 512 + 512) + (512 * 3 + 3)
    assert discriminator == (3 * 512 + 512) + (9 * 513 * 512 + 512) + (512 * 16 * 512 + 512) + (512 + 1)


def test_parameters_at_1024_are_those_of_the_paper() -> None:
    assert [round(count / 1e6, 1) for count in Networks(1024).active(1024)] == [23.1, 23.1]  # Table 2


@pytest.mark.parametrize("alpha", [1.0, 0.5])
def test_bytes_are_those_that_a_step_exchanges(alpha: float, monkeypatch: pytest.MonkeyPatch) -> None:
    counts: list[int] = []
    monkeypatch.setattr(
        "lightning_modules.adversarial.average_over_processes",
        lambda tensors: counts.append(sum(t.numel() * t.element_size() for t in tensors)),
    )
    schedule = GrowthSchedule(16, 8, 8, 16, 100, batch_size=8)
    made = tiny_step(schedule)
    made.images = torch.zeros(1, 8, 3, 16, 16, dtype=torch.uint8)
    made.module.images_seen = 16 if alpha < 1 else 1000
    made()
    assert made.module.stage.alpha == alpha
    assert tuple(reversed(counts)) == Networks(16, **TINY).reduced_bytes(16, alpha)


def test_ring_by_hand() -> None:
    assert wire_bytes(1000, 1) == 0
    assert wire_bytes(1000, 2) == 1000
    assert wire_bytes(1000, 4) == 1500  # three quarters there, three quarters back
    assert all_reduce_seconds(4e8, 4, MACHINE) == pytest.approx(6 * 1e-3 + 6e8 / 1e8)
    tree = Machine({}, 1e-3, 1e8, "tree")
    assert all_reduce_seconds(0, 1000, tree) == pytest.approx(20 * 1e-3)  # ten levels up, ten down
    assert all_reduce_seconds(4e8, 1, MACHINE) == 0


@pytest.mark.parametrize("name", PRESETS)
def test_fitting_processes_are_those_that_training_accepts(name: str) -> None:
    schedule = preset(name, 1024)
    accepted = []
    for processes in range(1, 200):
        try:
            schedule.check_division(processes)
        except UserError:
            continue
        accepted.append(processes)
    assert fitting_processes(schedule) == accepted


def test_limits_by_hand() -> None:
    schedule = preset("official_8gpu", 1024)
    assert most_processes(schedule) == {4: 128, 8: 64, 16: 32, 32: 16} | dict.fromkeys((64, 128, 256, 512, 1024), 8)
    assert fitting_processes(schedule) == [1, 2, 4, 8]
    assert fitting_processes(preset("paper", 1024)) == [1]  # groups are whole batches


def test_a_step_by_hand() -> None:
    networks = Networks(64)
    schedule = GrowthSchedule(64, 4, batch_size=32)
    found = step(networks, schedule, 64, 4, MACHINE)
    sent = 1.5 * 4 * (sum(networks.active(64)) + 11)
    assert (found.batch_size, found.enlarged) == (32, False)
    assert found.compute == pytest.approx(8 * 0.01)
    assert found.sent == pytest.approx(sent)
    assert found.exchange == pytest.approx(2 * 6e-3 + sent / 1e8)
    assert found.read == 8 * 3 * 64 * 64
    assert found.efficiency == pytest.approx(0.08 / (0.08 + found.exchange))
    assert found.images_per_second == pytest.approx(32 / (0.08 + found.exchange))
    many = step(networks, schedule, 64, 1000, MACHINE)
    assert (many.batch_size, many.enlarged) == (4000, True)
    assert step(networks, schedule, 8, 4, MACHINE).efficiency is None  # seconds not known


def test_pixels_below_256_and_pngs_from_there() -> None:
    assert data_bytes(128, 2, 0.5) == 2 * 3 * 128 * 128
    assert data_bytes(256, 2, 0.5) == 3 * 256 * 256


def test_descriptors_are_those_that_the_metric_keeps() -> None:
    metric = SlicedWasserstein()
    images = torch.randint(0, 256, (6, 3, 32, 32), dtype=torch.uint8)
    metric.update(images, 0, real=True)
    metric.update(images, 0, real=False)
    assert metric_bytes(32, 2, 6, 10, 128)["swd"] == metric._bytes() / 2  # the other process's half
    assert metric_bytes(1024, 10**9, 16384, 1, 1)["swd"] == pytest.approx(17.3e9, rel=0.01)


def test_features_and_sums_by_hand() -> None:
    found = metric_bytes(64, 8, 100, 1000, 128)
    assert found["features"] == 1000 * 128 * 4 * 7 / 8
    assert found["ms_ssim"] == 2 * 8 * 7


def test_checkpoint_bytes_are_those_of_the_state() -> None:
    schedule = GrowthSchedule(16, 8, 1000, 1000, 1000, batch_size=8)
    made = tiny_step(schedule)
    made()

    def size(value: Any) -> int:
        if isinstance(value, torch.Tensor):
            return value.numel() * value.element_size() if value.ndim else 0  # without Adam's counts of steps
        values = value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
        return sum(map(size, values))

    assert size(made.module.training_state()) == Networks(16, **TINY).checkpoint_bytes(8)


def test_the_script_prints_and_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "model.md"
    cost_model.main(["--resolution", "64", "--seconds-per-image", "64=0.01", "--out", str(out)])
    text = capsys.readouterr().out
    assert out.read_text() in text
    rows = [row for row in out.read_text().splitlines() if row.startswith(("| 8 | 64²", "| 1000 | 64²"))]
    assert "| 32 | 4 |" in rows[0]
    assert "| **4,000** | 4 |" in rows[1]
    assert math.isclose(float(rows[1].split(" | ")[5]), 40)  # ms for 4 images


@pytest.mark.parametrize(
    "arguments",
    [["--resolution", "48"], ["--processes", "0"], ["--out", "a.txt"], ["--seconds-per-image", "64"]],
)
def test_mistakes(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cost_model.main(arguments)
    assert "must" in capsys.readouterr().err

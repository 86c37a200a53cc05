"""The benchmark of Lightning's overhead compares the same arithmetic, and runs."""

from collections.abc import Iterator
from pathlib import Path

import lightning_overhead
import pytest
import torch
from lightning_overhead import BareLoop, TakingTurns, measure

from imago.growth import GrowthSchedule

TINY = {"latent_size": 6, "fmap_base": 48, "fmap_max": 12}


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_both_train_the_same_weights_while_they_grow() -> None:
    """4², fade-in and 8², with an optimizer that starts afresh twice; in float64."""
    schedule = GrowthSchedule(8, 4, 32, 32, 1000, batch_size={4: 16, 8: 8}, learning_rate={4: 0.001, 8: 0.002})
    result = measure(schedule, rounds=3, sizes=TINY, dtype=torch.float64, steps=4)
    assert result.difference < 1e-12
    assert result.lowest <= result.ratio <= result.highest


def test_weights_that_differ_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    before = BareLoop.step
    schedule = GrowthSchedule(8, 8, batch_size=8)

    def other(self: BareLoop) -> None:
        self.optimizers[1].param_groups[0]["betas"] = (0.5, 0.99)
        before(self)

    monkeypatch.setattr(BareLoop, "step", other)
    assert measure(schedule, rounds=1, sizes=TINY, dtype=torch.float64, steps=2).difference > 1e-5


def test_a_turn_is_held_against_both_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a machine that slows down by a second a turn, 10 % more is found to be 10 % more."""
    schedule = GrowthSchedule(4, 4, batch_size=4)
    tells = iter([10.0, 12.0, 14.0])

    def bare_turn(self: TakingTurns, steps: int) -> float:
        for _ in range(steps):
            self.bare.step()
        return next(tells) if steps == 2 else 1.0

    def begin(self: TakingTurns) -> None:
        self._taken = 0
        self._resumed = self.clock() - 1.1 * (11 + 2 * len(self.lightning))

    monkeypatch.setattr(TakingTurns, "_bare_turn", bare_turn)
    monkeypatch.setattr(TakingTurns, "_begin", begin)
    monkeypatch.setitem(lightning_overhead.CLOCKS, "wall", lambda: 0.0)
    result = measure(schedule, rounds=2, sizes=TINY, steps=2)
    assert (result.ratio, result.lowest, result.highest) == pytest.approx((1.1, 1.1, 1.1))
    assert result.bare == pytest.approx(6.0)
    assert result.lightning == pytest.approx(1.1 * 12 / 2)


def test_the_script_measures_and_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "figures.md"
    arguments = ["--resolutions", "4", "8", "--rounds", "1", "--seconds", "0", "--fmap-max", "8"]
    lightning_overhead.main([*arguments, "--threads", "1", "--out", str(out)])
    assert f"wrote {out}" in capsys.readouterr().out.replace("\n", "")
    assert "| 8² | 16 |" in out.read_text()


@pytest.mark.parametrize("arguments", [["--out", "figures.txt"], ["--resolutions", "12"]])
def test_mistakes(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        lightning_overhead.main(arguments)
    assert "must" in capsys.readouterr().err

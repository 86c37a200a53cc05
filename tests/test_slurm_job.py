"""What a job asks of Slurm, by a program that stands in for scontrol."""

import logging
from pathlib import Path

import pytest

from imago import slurm


@pytest.fixture
def scontrol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """scontrol(exit code): a program that writes down how it was called."""

    def install(code: int, says: str = "no such job") -> Path:
        path = tmp_path / "scontrol"
        path.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/called\necho "{says}" >&2\nexit {code}\n')
        path.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path))
        return tmp_path / "called"

    for name in ("SLURM_JOB_ID", "SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID"):
        monkeypatch.delenv(name, raising=False)
    return install


def test_job_is_requeued_by_its_number(scontrol, monkeypatch):
    called = scontrol(0)
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    assert slurm.requeue()
    assert called.read_text() == "requeue 17\n"


def test_job_of_an_array_is_requeued_by_array_and_index(scontrol, monkeypatch):
    called = scontrol(0)
    for name, value in (("SLURM_JOB_ID", "19"), ("SLURM_ARRAY_JOB_ID", "17"), ("SLURM_ARRAY_TASK_ID", "2")):
        monkeypatch.setenv(name, value)
    assert slurm.requeue()
    assert called.read_text() == "requeue 17_2\n"


def test_refusal_is_told(scontrol, monkeypatch, caplog):
    scontrol(1)
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    with caplog.at_level(logging.WARNING):
        assert not slurm.requeue()
    assert "job 17 could not be requeued (no such job)" in caplog.text


def test_job_that_another_process_has_requeued_is_requeued(scontrol, monkeypatch, caplog):
    scontrol(1, "Job is pending execution for job 17")  # as Slurm 22.05 says it
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    with caplog.at_level(logging.WARNING):
        assert slurm.requeue()
    assert caplog.text == ""


def test_nothing_is_asked_outside_of_a_job(scontrol):
    called = scontrol(0)
    assert not slurm.requeue()
    assert not called.exists()

"""Recovery reports: bounded in number and bytes, nobody else's files, nothing of what users wrote unless that is wanted."""

from __future__ import annotations

import json
import os
import time

import msgspec
import pytest

from yeoul.config.settings import ModelSettings, RecoverySettings, Settings
from yeoul.errors import ProcessDeadError
from yeoul.messages.requests import AddRequest
from yeoul.messages.sampling import SamplingParams
from yeoul.recovery import recovery_report
from yeoul.recovery.recovery_report import MAX_NUM_REPORTS, RecoveryReport, StepRecord, read_report, record_incident

DEATH = ProcessDeadError("Worker_0", "was killed by signal 11 (SIGSEGV)", exit_code=-11, details="its\ntraceback")
REQUEST = AddRequest(
    request_id="r#1",
    prompt_token_ids=[7001, 7002, 7003],
    output_token_ids=[8001, 8002],
    sampling=SamplingParams(seed=5, max_tokens=9, stop=["a secret"], logit_bias={9001: 1.0}),
    cache_salt="key's own salt",
    tenant="a key's name",
    num_deaths=2,
)
STEPS = [StepRecord(step_number=1, num_tokens={"r#1": 3}, limit_seconds=5.0)]


def record(folder, requests=(REQUEST,), *, contents=False):
    settings = Settings(
        model=ModelSettings(model="fake"),
        recovery=RecoverySettings(recovery_report_dir=str(folder), recovery_report_contents=contents),
    )
    record_incident(settings, 64, DEATH, requests, STEPS)


def newest(folder) -> RecoveryReport:
    return read_report(str(max(folder.glob("incident-*.json"))))


@pytest.mark.parametrize("contents", [True, False])
def test_a_report_is_read_as_it_was_written_and_says_what_was_in_requests_only_if_that_is_wanted(tmp_path, contents):
    record(tmp_path, contents=contents)
    report = newest(tmp_path)
    assert (report.role, report.exit_code, report.details, report.last_steps) == ("Worker_0", -11, "its\ntraceback", STEPS)
    (request,) = report.requests
    assert (len(request.prompt_token_ids), len(request.output_token_ids), request.sampling.seed) == (3, 2, 5)
    assert request.num_deaths == 0, "a replay computes all at once"
    (path,) = tmp_path.iterdir()
    assert path.stat().st_mode & 0o777 == 0o600
    text = path.read_text()
    for word in ("7002", "8001", "9001", "secret"):
        assert (word in text) == contents
    assert "key's" not in text
    json.loads(text)


def test_files_of_other_names_stay_and_our_own_are_bounded(tmp_path):
    others = [*(f"{number:03d}.json" for number in range(100)), "incident-1.json", "incident-000001-mine.json", "zz.json"]
    for name in others:
        (tmp_path / name).write_text("{}")
    for _ in range(MAX_NUM_REPORTS + 7):
        record(tmp_path)
    left = {path.name for path in tmp_path.iterdir()}
    assert set(others) <= left
    assert len(left - set(others)) == MAX_NUM_REPORTS


def test_the_newest_stay_whatever_the_clock_says(tmp_path, monkeypatch):
    for hour in range(MAX_NUM_REPORTS + 1):
        monkeypatch.setattr(time, "strftime", lambda *_, hour=hour: f"2026-01-01T{99 - hour:02d}-00-00Z")
        record(tmp_path)
    assert newest(tmp_path).time == f"2026-01-01T{99 - MAX_NUM_REPORTS:02d}-00-00Z"
    assert not any("T99-" in path.name for path in tmp_path.iterdir()), "the oldest went"


@pytest.mark.parametrize("num_requests", [0, 1, 5, 300])
def test_a_report_has_a_size_that_it_can_be_read_at(tmp_path, monkeypatch, num_requests):
    monkeypatch.setattr(recovery_report, "_MAX_REQUESTS_BYTES", 100_000)
    long = msgspec.structs.replace(REQUEST, prompt_token_ids=[1] * 10_000)
    record(tmp_path, [long] * num_requests)
    report = newest(tmp_path)
    assert len(report.requests) == min(num_requests, 4)
    assert report.num_left_out == num_requests - len(report.requests)
    assert max(tmp_path.iterdir()).stat().st_size < 110_000


def test_a_folder_that_cannot_be_written_to_is_a_line_in_the_log(tmp_path, caplog):
    (tmp_path / "file").write_text("")
    record(tmp_path / "file")
    assert "no recovery report could be written" in caplog.text


def test_two_processes_may_write_at_a_time(tmp_path, monkeypatch):
    for pid in (10, 11):
        monkeypatch.setattr(os, "getpid", lambda pid=pid: pid)
        monkeypatch.setattr(recovery_report, "_reports_in", lambda folder: [])
        record(tmp_path)
    assert len(list(tmp_path.iterdir())) == 2

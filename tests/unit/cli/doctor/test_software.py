"""What the doctor says of Python, packages and variables, whose values it never shows."""

from __future__ import annotations

import shutil
import sys
from importlib import metadata

import pytest

from tests.unit.cli.doctor.subjects import look, subject, worst
from yeoul.cli.doctor import software


def test_this_environment_is_whole(tmp_path):
    for name in ("python", "yeoul", "packages"):
        assert worst(look(software, name, subject(tmp_path))) == "ok", name


@pytest.mark.parametrize(
    ("line", "level", "words"),
    [
        ("msgspec>=0.19", "ok", "1 of 1 packages"),
        ("msgspec>=99", "warning", "expected msgspec>=99"),
        ("nowhere-to-be-found>=1", "fault", "nowhere-to-be-found is missing"),
        ("msgspec >>> 1", "warning", "cannot be read"),
        ('matplotlib>=3.9; extra == "plot"', "ok", "0 of 0"),
    ],
)
def test_packages_are_held_against_our_bounds(tmp_path, monkeypatch, line, level, words):
    monkeypatch.setattr(metadata, "requires", lambda _: [line])
    findings = look(software, "packages", subject(tmp_path))
    assert worst(findings) == level
    assert words in " ".join(finding.found for finding in findings)


def test_a_newer_python_is_a_note(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "version_info", (3, 14, 0))
    assert worst(look(software, "python", subject(tmp_path))) == "note"


def test_two_installations_are_told_apart(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda _: "/opt/other/bin/yeoul")
    (finding,) = look(software, "yeoul", subject(tmp_path))
    assert (finding.level, "/opt/other/bin/yeoul" in finding.found) == ("note", True)
    monkeypatch.setattr(metadata, "version", lambda _: "0.0.1")
    assert "was installed as 0.0.1" in look(software, "yeoul", subject(tmp_path))[0].found


def test_variables_are_named_and_never_shown(tmp_path, monkeypatch):
    secrets = {
        "YEOUL_PORT": "8123",
        "YEOUL_HOME": "xyzzy",
        "YEOUL_API_KEY": "hunter2",
        "HF_TOKEN": "hf_abc",
        "OMP_X": "plugh",
    }
    for name, value in secrets.items():
        monkeypatch.setenv(name, value)
    findings = look(software, "variables", subject(tmp_path))
    told = " ".join(finding.found for finding in findings)
    assert worst(findings) == "note"
    assert all(name in told for name in secrets)
    assert not any(value in told for value in secrets.values())

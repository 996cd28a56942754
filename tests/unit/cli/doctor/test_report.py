"""The report: no secret, no traceback, no line too long, and an end to every check."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.cli.doctor.subjects import subject
from yeoul.cli import main, serve
from yeoul.cli.doctor import command
from yeoul.cli.doctor.findings import Check, Finding, Outcome, examine
from yeoul.cli.doctor.report import sum_up, to_json, to_lines
from yeoul.errors import ConfigError, MachineError, ModelFileError, ProcessDeadError, YeoulError

LONG = Finding(section="room", check="memory", level="warning", found="a word " * 40, advice="do it " * 30)
SHORT = Finding(section="room", check="swap", level="ok", found="none")


def raising(error: BaseException) -> Check:
    def look(_: object) -> Iterator[Outcome]:
        yield Outcome("ok", "the first half")
        raise error

    return Check("room", "one", look)


@pytest.mark.parametrize(
    "error", [ValueError("bad\nnews"), OSError(5, "I/O error"), KeyError("x"), RecursionError(), ConfigError("no")]
)
def test_a_check_that_raises_becomes_a_line(tmp_path, error):
    first, second = examine([raising(error)], subject(tmp_path))
    assert (first.level, second.level) == ("ok", "fault" if isinstance(error, ConfigError) else "warning")
    assert "\n" not in second.found


def test_a_check_that_never_ends_becomes_a_line(tmp_path):
    hung = threading.Event()
    checks = [Check("room", "hangs", lambda _: [Outcome("ok", str(hung.wait()))], 0.0), raising(ValueError())]
    try:
        assert [finding.level for finding in examine(checks, subject(tmp_path))] == ["warning", "ok", "warning"]
    finally:
        hung.set()


def test_what_would_tell_on_the_user_is_masked(tmp_path):
    looked_at = subject(tmp_path, api_key="sk-secret", home="/srv/alice")
    told = looked_at.clean(
        "/srv/alice/x /srv/alicent/y /run/user/alice /home/bob/z http://u:@p@host/v1 sk-secret /srv/alice: alice's \x1b[3m\n"
    )
    assert told == "~/x /srv/alicent/y /run/user/USER /home/USER/z http://***@host/v1 *** ~: alice's  [3m "


@pytest.mark.parametrize("width", [1, 10, 40, 56, 80, 100, 140, 360])
def test_lines_fit(width):
    lines = "\n".join(to_lines([LONG, SHORT], width)).splitlines()
    assert max(map(len, lines)) <= max(width, 28)
    assert " ".join(" ".join(lines).split()).count("a word") == 40
    assert lines[-1] == "1 warning"


def test_the_sum_is_in_words():
    assert sum_up([SHORT]) == "nothing to do"
    faults = [Finding(section="a", check="b", level="fault", found="c")] * 2
    assert sum_up([*faults, LONG, SHORT]) == "2 faults, 1 warning"


def test_json_has_the_same():
    report = json.loads(to_json([LONG, SHORT]))
    assert (report["num_faults"], report["num_warnings"], len(report["checks"])) == (0, 1, 2)
    assert report["checks"][1] == {"section": "room", "check": "swap", "level": "ok", "found": "none"}


@pytest.fixture
def no_worker(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def die() -> None:
        raise ProcessDeadError("DeviceReport", "was killed by signal 4 (SIGILL)")

    monkeypatch.setattr(command, "find_device", die)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


@pytest.mark.usefixtures("no_worker")
def test_the_command_tells_all_of_it_and_exits_with_one(capsys, monkeypatch):
    monkeypatch.setenv("YEOUL_PORT", "abc")
    assert main.run(["doctor", "--json", "127.0.0.1:9"]) == 1
    checks = json.loads(capsys.readouterr().out)["checks"]
    faults = {finding["check"]: finding["found"] for finding in checks if finding["level"] == "fault"}
    assert faults["settings"] == "YEOUL_PORT is 'abc'; expected a whole number from 0 to 65535"
    assert "SIGILL" in faults["GPU"]
    assert faults["server"].startswith("nobody answers at http://127.0.0.1:9")


def test_what_cannot_be_had_of_this_machine_points_to_the_doctor(capsys, monkeypatch):
    def fail(error: YeoulError) -> str:
        def start(_: object) -> int:
            raise error

        monkeypatch.setattr(serve, "_run", start)
        assert main.run(["serve", "fake"]) == (1 if isinstance(error, ProcessDeadError) else 2)
        return str(capsys.readouterr().err)

    hint = " (yeoul doctor looks at this machine)\n"
    assert fail(MachineError("the port is in use")) == f"yeoul: the port is in use{hint}"
    assert fail(ProcessDeadError("Worker_0", "was killed")) == f"yeoul: Worker_0 was killed{hint}"
    assert fail(ModelFileError("no model")) == "yeoul: no model\n"

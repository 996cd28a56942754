"""ChildServer without a child: which settings it and its parent see, and what is passed on of what it writes."""

from __future__ import annotations

import io
import os
import sys
import threading

import pytest

from yeoul.config.build import build_settings
from yeoul.config.fields import setting_fields
from yeoul.errors import ConfigError, ProcessDeadError
from yeoul.integrations.child_server import ChildServer


class ChildWithoutProcess:
    """Takes the place of ``Popen``: has read its settings as ``yeoul serve`` would, has written ``lines``, and has ended."""

    def __init__(self, *lines: str) -> None:
        self._lines = lines
        self.pid = 1

    def __call__(self, command: list[str], **_: object) -> ChildWithoutProcess:
        given = dict(zip(command[command.index("serve") + 1 :: 2], command[command.index("serve") + 2 :: 2], strict=True))
        path = given.pop("--config")
        names = {field.flag: name for name, field in setting_fields().items()}
        self.settings = build_settings({names[flag]: value for flag, value in given.items()}, path)
        self.stdout = io.StringIO("".join(self._lines))
        return self

    def poll(self) -> int:
        return 1

    def wait(self) -> int:
        return 1


class NobodyReads(io.StringIO):
    def write(self, text: str) -> int:
        raise BrokenPipeError


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    for name in [name for name in os.environ if name.startswith("YEOUL_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def child(monkeypatch):
    child = ChildWithoutProcess("loads\n", "Address:   http://127.0.0.1:5\n", "one more\n")
    monkeypatch.setattr("yeoul.integrations.child_server.subprocess.Popen", child)
    return child


@pytest.mark.parametrize("keys", [{}, {"YEOUL_API_KEY": "theirs"}])
def test_parent_and_child_see_the_same_settings(child, monkeypatch, keys):
    for name, value in {"YEOUL_DRAIN_TIMEOUT_SECONDS": "7", "YEOUL_PORT": "80", "YEOUL_CONFIG": "", **keys}.items():
        monkeypatch.setenv(name, value)
    server = ChildServer({"model": "fake", "drain_timeout_seconds": 3, "max_num_seqs": 4})
    server.start()
    assert server.url == "http://127.0.0.1:5"
    assert server._settings.time == child.settings.time
    assert server._settings.time.drain_timeout_seconds == 7
    assert (child.settings.server.host, child.settings.server.port) == ("127.0.0.1", 0)
    assert child.settings.scheduler.max_num_seqs == 4
    assert not child.settings.server.page
    assert child.settings.server.api_key == (["theirs"] if keys else [server.key])
    assert (server.key is None) is bool(keys)


def test_it_has_a_key_whatever_a_config_file_elsewhere_says(monkeypatch, tmp_path):
    path = tmp_path / "yeoul.yaml"
    path.write_text("api_key: from-the-file\n")
    monkeypatch.setenv("YEOUL_CONFIG", str(path))
    with pytest.raises(ConfigError, match=r"YEOUL_CONFIG is .*yeoul.yaml, and no .* give its settings"):
        ChildServer({"model": "fake"})


def test_the_environment_does_not_choose_either_what_is_the_frameworks(monkeypatch, tmp_path):
    monkeypatch.setenv("YEOUL_ENGINE_ADDRESS", "tcp://127.0.0.1:5000")
    monkeypatch.setenv("YEOUL_ENGINE_KEY_FILE", str(tmp_path / "key"))
    with pytest.raises(ConfigError, match="YEOUL_ENGINE_ADDRESS is set"):
        ChildServer({"model": "fake"})


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"modell": "fake"}, "the settings have 'modell', which is no setting. Did you mean model"),
        ({"max_num_seqs": "many"}, "^max_num_seqs is 'many'"),
        ({"log_format": "json"}, "log_format is chosen by"),
    ],
)
def test_a_mistake_is_told_in_the_users_words(settings, told):
    with pytest.raises(ConfigError, match=told):
        ChildServer(settings)


def test_a_log_for_machines_hides_no_address(child, monkeypatch):
    monkeypatch.setenv("YEOUL_LOG_FORMAT", "json")
    server = ChildServer({"model": "fake"})
    server.start()
    assert child.settings.server.log_format == "text"


@pytest.mark.parametrize("is_closed", [False, True])
def test_a_server_whose_lines_nobody_reads_goes_on(child, monkeypatch, is_closed):
    stream = NobodyReads()
    if is_closed:
        stream.close()
    monkeypatch.setattr(sys, "stderr", stream)
    server = ChildServer({"model": "fake"})
    server.start()
    assert server.url == "http://127.0.0.1:5"
    with pytest.raises(ProcessDeadError, match="loads\nAddress"):
        server.check()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_whatever_ends_the_reader_ends_the_wait_for_the_address(child, monkeypatch):
    def fail(*_: object) -> None:
        raise MemoryError

    server = ChildServer({"model": "fake"})
    monkeypatch.setattr(server, "_pass_on", fail)
    with pytest.raises(ProcessDeadError, match="ended with 1"):
        server.start()
    for thread in threading.enumerate():
        if thread.name == "yeoul serve":
            thread.join(10.0)  # so that its error is seen here, and not in the next test

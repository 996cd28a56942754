"""ChildServer: a server below another program, which ends with it, asks for its own key, and says why it ended."""

from __future__ import annotations

import subprocess
import sys

import httpx
import pytest

from tests.patience import until
from tests.running_server import descendants, title
from yeoul.errors import ConfigError, ProcessDeadError
from yeoul.integrations.child_server import ChildServer


def test_it_answers_to_its_key_and_ends_when_it_is_told_to(monkeypatch):
    monkeypatch.delenv("YEOUL_API_KEY", raising=False)
    server = ChildServer({"model": "fake"})
    server.start()
    assert server.pid is not None
    server.check()
    body = {"prompt": "x", "max_tokens": 3}
    assert httpx.post(f"{server.url}/v1/completions", json=body, timeout=10.0).status_code == 401
    key = {"authorization": f"Bearer {server.key}"}
    assert httpx.post(f"{server.url}/v1/completions", json=body, headers=key, timeout=10.0).status_code == 200
    pids = descendants(server.pid)
    assert len(pids) == 3
    server.stop()
    assert not any(title(pid).startswith("yeoul::") for pid in pids)
    with pytest.raises(ProcessDeadError, match="ended with 0"):
        server.check()
    server.stop()


def test_it_ends_with_the_program_that_it_is_a_part_of():
    program = (
        "import sys, time; from yeoul.integrations.child_server import ChildServer\n"
        "server = ChildServer({'model': 'fake'}); server.start(); print(server.pid, flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as parent:
        assert parent.stdout is not None
        pids = descendants(int(parent.stdout.readline()))
        assert len(pids) == 3
        parent.kill()
        assert until(lambda: not any(title(pid).startswith("yeoul::") for pid in pids), 20.0)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"modell": "fake"}, "Did you mean model"),
        ({"max_num_seqs": "many"}, "whole number"),
        ({"port": 8000}, "leave it out"),
    ],
)
def test_what_cannot_work_is_said_before_anything_starts(settings, told):
    with pytest.raises(ConfigError, match=told):
        ChildServer(settings)


def test_a_start_that_fails_says_why(tmp_path):
    server = ChildServer({"model": str(tmp_path / "no-such-model.gguf")})
    with pytest.raises(ProcessDeadError, match="no-such-model") as error:
        server.start()
    assert error.value.exit_code == 2
    server.stop()

"""What README.md shows of refusals is what comes."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from pathlib import Path

import httpx

from tests.running_server import YEOUL, RunningServer

SECTION = (Path(__file__).parents[2] / "README.md").read_text().split("## When a request is wrong")[1].split("\n## ")[0]
CONSOLES = re.findall(r"```console\n\$ (.*?)\n```", SECTION, re.DOTALL)


def test_a_wrong_request_is_refused_as_it_says():
    command, _, answer = CONSOLES[0].replace("\\\n", "").partition("\n")
    words = shlex.split(command)
    with RunningServer() as server:
        url = words[1].replace("http://127.0.0.1:8000", server.url)
        came = httpx.post(url, json=json.loads(words[-1]))
    assert came.status_code == 400
    assert came.json() == json.loads(answer)


def test_a_wrong_command_is_refused_as_it_says():
    command, _, words = CONSOLES[1].partition("\n")
    came = subprocess.run([YEOUL, *shlex.split(command)[1:]], capture_output=True, text=True, timeout=60)
    assert (came.returncode, came.stderr.strip()) == (2, words)

"""Real agents from npm, unchanged and offline, each finish a task on a running server: read a file, edit it, run a command.

Their models say what ``script`` has; everything else is as it is for a user. Nothing of ours is used but the address.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.agents.agents import AFTER, AGENTS, BEFORE, CODEX_MODEL, FILE, LAST_WORD, MODEL, OUTPUT, SAID, THOUGHT, Agent, Call
from tests.agents.forcing_proxy import Exchange, ForcingProxy
from tests.agents.small_model import END_OF_TURN, write_small_model
from tests.npm_packages import install_packages
from tests.running_server import RunningServer

pytestmark = [pytest.mark.agents, pytest.mark.timeout(900)]

TIMEOUT_SECONDS = 200.0
BLOCK_SIZE = 16


@pytest.fixture(scope="session")
def programs() -> Path:
    """The folder of the agents' commands; they are installed where they are not, as the lock file says."""
    return install_packages(Path(__file__).parent, "agents") / "node_modules" / ".bin"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("model") / MODEL
    write_small_model(folder)
    names = ("--served-model-name", MODEL, "--served-model-name", CODEX_MODEL)
    flags = ("--allow-forced-tokens", *names, "--kv-cache-memory-bytes", "128MiB")
    with RunningServer(*flags, model=str(folder)) as running:
        yield running


def spelled(call: Call) -> str:
    """A call as the small model's family, hermes, writes it."""
    return f"<tool_call>\n{json.dumps({'name': call.tool, 'arguments': call.arguments})}\n</tool_call>"


def script(agent: Agent, folder: Path) -> dict[int, str]:
    """What the model says after so many results: a thought and a call, a call, text and two calls at once, a last word."""
    read, edit, execute = (spelled(call) for call in agent.calls(folder))
    return {0: f"<think>\n{THOUGHT}\n</think>\n\n{read}", 1: edit, 2: f"{SAID}\n{execute}\n{read}", 4: LAST_WORD}


def run(agent: Agent, programs: Path, url: str, folder: Path, home: Path) -> subprocess.CompletedProcess[str]:
    """One task from begin to end, in an environment that knows nothing of whoever runs the tests."""
    home.mkdir()
    command, own = agent.start(url, home)
    environment = {
        "PATH": os.pathsep.join([str(programs), os.environ["PATH"]]),
        "HOME": str(home),
        "LANG": "C.UTF-8",
        "HTTPS_PROXY": url,
        "NO_PROXY": "127.0.0.1,localhost",
        **own,
    }
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        output, errors = process.communicate(timeout=TIMEOUT_SECONDS)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    return subprocess.CompletedProcess(command, process.returncode, output, errors)


def usage(exchange: Exchange) -> tuple[int, int]:
    """How many tokens the prompt had, and how many of them came from the cache; as each API tells it."""
    prompt, cached = 0, 0
    for told in exchange.told():
        for holder in (told, told.get("response"), told.get("message")):
            if isinstance(holder, dict) and isinstance(holder.get("usage"), dict):
                counts: dict[str, Any] = holder["usage"]
                details = counts.get("prompt_tokens_details") or counts.get("input_tokens_details")
                of_cache = counts.get("cache_read_input_tokens", 0) or 0
                apart = of_cache + (counts.get("cache_creation_input_tokens", 0) or 0)
                prompt = max(prompt, counts.get("prompt_tokens", 0), counts.get("input_tokens", 0) + apart)
                cached = max(cached, of_cache, (details or {}).get("cached_tokens", 0))
    return prompt, cached


def check_done(done: subprocess.CompletedProcess[str], folder: Path, proxy: ForcingProxy) -> None:
    """The task is done, by an agent that was refused nothing and knows it."""
    failed = [
        (exchange.path, exchange.status, exchange.answer[:1000]) for exchange in proxy.exchanges if exchange.status != 200
    ]
    assert not failed, failed
    assert done.returncode == 0, (done.stdout[-2000:], done.stderr[-2000:])
    assert (folder / FILE).read_text() == AFTER
    assert (folder / "ran.txt").read_text() == OUTPUT
    assert LAST_WORD in done.stdout


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where an agent works."""
    folder = tmp_path / "work"
    folder.mkdir()
    (folder / FILE).write_text(BEFORE)
    return folder


@pytest.mark.parametrize("agent", AGENTS, ids=lambda agent: agent.name)
def test_an_agent_finishes_its_task_and_reads_its_past_from_the_cache(agent, programs, server, folder, tmp_path):
    turns = script(agent, folder)
    with ForcingProxy(server.url, turns, END_OF_TURN) as proxy:
        done = run(agent, programs, proxy.url, folder, tmp_path / "home")
    check_done(done, folder, proxy)

    asked = [exchange for exchange in proxy.exchanges if exchange.turn is not None]
    assert [exchange.turn for exchange in asked] == list(turns)
    assert {exchange.path.split("?")[0] for exchange in asked} == {agent.path}
    last = json.dumps(asked[-1].body)
    assert THOUGHT in last
    assert SAID in last
    prompts, cached = zip(*(usage(exchange) for exchange in asked), strict=True)
    print(f"{agent.name}: prompts of {prompts} tokens, {cached} from the cache; tried outside: {sorted(set(proxy.outside))}")
    # All that was in the turn before, but for its last block.
    for before, after in pairwise(zip(prompts, cached, strict=True)):
        assert after[1] > before[0] - BLOCK_SIZE


@pytest.mark.parametrize("agent", [agent for agent in AGENTS if agent.is_quick], ids=lambda agent: agent.name)
def test_an_agent_does_not_notice_that_processes_die_in_each_of_its_turns(agent, programs, server, folder, tmp_path):
    def kill(turn: int) -> None:
        name = "EngineCore" if turn == 1 else "Worker"
        (pid,) = (pid for title, pid in server.by_title().items() if name in title)
        os.kill(pid, signal.SIGKILL)
        killed.append(name)

    killed: list[str] = []
    turns = script(agent, folder)
    with ForcingProxy(server.url, turns, END_OF_TURN, on_begun=kill) as proxy:
        done = run(agent, programs, proxy.url, folder, tmp_path / "home")
    check_done(done, folder, proxy)
    assert killed == ["Worker", "EngineCore", "Worker", "Worker"]
    assert [exchange.turn for exchange in proxy.exchanges if exchange.turn is not None] == list(turns)

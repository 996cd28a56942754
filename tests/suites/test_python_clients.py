"""Standard tests of Python clients, as their authors wrote them, on a server whose model says what a test asks for."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.agents.forcing_proxy import Exchange, ForcingProxy
from tests.agents.small_model import END_OF_TURN, write_small_model
from tests.python_packages import install_environment
from tests.running_server import RunningServer

pytestmark = [pytest.mark.agents, pytest.mark.timeout(900)]

MODEL = "small"
SCRIPTS = Path(__file__).parent / "python"
JOKE = {"setup": "How deep is the river?", "punchline": "Ask the fish."}
ARGUMENTS: dict[str, dict[str, Any]] = {
    "magic_function": {"input": 3},
    "magic_function_no_args": {},
    "get_weather": {"location": "San Francisco"},
    "greeting_generator": {"answer_style": "Pirate"},
    "my_adder_tool": {"a": 3, "b": 4},
}


class ObligingProxy(ForcingProxy):
    """The model calls the tool that it is to call, tells the joke that it is to tell, and else says hello."""

    def said(self, exchange: Exchange) -> str:
        body = exchange.body
        if not body.get("tools"):
            form = body.get("response_format") or body.get("text", {}).get("format")
            return "Hello, all of you." if form is None else json.dumps(JOKE)
        if _is_result((body.get("messages") or body["input"])[-1]):
            return "That is what came of it."
        names = [tool.get("function", tool)["name"] for tool in body["tools"]]
        choice = body.get("tool_choice")
        wanted = choice.get("function", choice).get("name") if isinstance(choice, dict) else None
        name = wanted or names[0]
        call = {"name": name, "arguments": _arguments(name, json.dumps(body, ensure_ascii=False))}
        return f"<tool_call>\n{json.dumps(call, ensure_ascii=False)}\n</tool_call>"


def _is_result(last: dict[str, Any]) -> bool:
    parts = last["content"] if isinstance(last.get("content"), list) else []
    is_result = last.get("role") == "tool" or last.get("type") == "function_call_output"
    return is_result or any(part.get("type") == "tool_result" for part in parts)


def _arguments(name: str, asked: str) -> dict[str, Any]:
    if name == "unicode_customer":
        (customer,) = re.findall("customer named '(.+?)'", asked)
        return {"customer_name": customer, "description": "a company"}
    return ARGUMENTS.get(name, JOKE)


@pytest.fixture(scope="module")
def python() -> Path:
    return install_environment(SCRIPTS / "requirements.txt", "python_clients")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("model") / MODEL
    write_small_model(folder)
    with RunningServer("--allow-forced-tokens", "--served-model-name", MODEL, model=str(folder)) as running:
        yield running


def test_langchains_standard_tests(python, server):
    with ObligingProxy(server.url, {}, END_OF_TURN) as proxy:
        environment = os.environ | {"SERVER": proxy.url, "MODEL": MODEL}
        # LangChain keeps its connections, which belong to an event loop, from one test to the next.
        loops = ["asyncio_mode=auto", *(f"asyncio_default_{of}_loop_scope=session" for of in ("test", "fixture"))]
        settings = [part for setting in loops for part in ("-o", setting)]
        options = ["-q", "--tb=short", "--noconftest", "-c", os.devnull, "-p", "no:cacheprovider", *settings]
        command = [str(python), "-m", "pytest", *options, str(SCRIPTS / "langchain_standard.py")]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, (done.stdout[-6000:], done.stderr[-1000:])
    print(done.stdout[-1500:])

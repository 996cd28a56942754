"""How each agent is told to work on a task alone: its command, where it finds the server, and the calls that its model makes.

Every one is kept from looking for updates and from reporting on its user, with its own settings; none is changed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

MODEL = "small"
KEY = "sk-of-nobody"
TASK = "Change the greeting in greet.py to goodbye and run it."
THOUGHT, SAID, LAST_WORD = "The file comes first.", "Now both at once.", "The greeting is goodbye now."
FILE, BEFORE, AFTER = "greet.py", 'def greeting():\n    return "hello"\n', 'def greeting():\n    return "goodbye"\n'
COMMAND = "python3 -c 'import greet; print(greet.greeting().upper())' | tee ran.txt"
OUTPUT = "GOODBYE\n"


@dataclass(frozen=True)
class Call:
    """A call of one of the agent's tools, as its model makes it."""

    tool: str
    arguments: dict[str, Any]


@dataclass(frozen=True)
class Agent:
    """``start`` gets the server's address and the agent's home, writes settings there, returns command and environment.

    ``calls`` reads the file of a folder, edits it, and runs it. ``is_quick``: its instructions are few.
    """

    name: str
    path: str
    start: Callable[[str, Path], tuple[list[str], dict[str, str]]]
    calls: Callable[[Path], Sequence[Call]]
    is_quick: bool = False


def _start_qwen(url: str, home: Path) -> tuple[list[str], dict[str, str]]:
    settings = {
        "privacy": {"usageStatisticsEnabled": False},
        "general": {"disableAutoUpdate": True, "disableUpdateNag": True},
    }
    (home / ".qwen").mkdir()
    (home / ".qwen" / "settings.json").write_text(json.dumps(settings))
    command = ["qwen", "--auth-type", "openai", "--yolo", "--output-format", "stream-json", "-p", TASK]
    return command, {"OPENAI_BASE_URL": f"{url}/v1", "OPENAI_API_KEY": KEY, "OPENAI_MODEL": MODEL}


def _qwen_calls(folder: Path) -> list[Call]:
    file = str(folder / FILE)
    return [
        Call("read_file", {"file_path": file}),
        Call("edit", {"file_path": file, "old_string": "hello", "new_string": "goodbye"}),
        Call("run_shell_command", {"command": COMMAND, "description": "Runs it", "is_background": False}),
    ]


def _start_opencode(url: str, home: Path) -> tuple[list[str], dict[str, str]]:
    provider = {
        "npm": "@ai-sdk/openai-compatible",
        "name": "Local",
        "options": {"baseURL": f"{url}/v1", "apiKey": KEY},
        "models": {MODEL: {"name": MODEL, "limit": {"context": 65536, "output": 2048}}},
    }
    settings = {
        "model": f"local/{MODEL}",
        "small_model": f"local/{MODEL}",
        "enabled_providers": ["local"],
        "provider": {"local": provider},
        "autoupdate": False,
        "share": "disabled",
        "permission": {"edit": "allow", "bash": "allow", "webfetch": "deny"},
    }
    (home / "opencode.json").write_text(json.dumps(settings))
    silent = ("OPENCODE_DISABLE_AUTOUPDATE", "OPENCODE_DISABLE_MODELS_FETCH", "OPENCODE_DISABLE_LSP_DOWNLOAD")
    command = ["opencode", "run", "--format", "json", TASK]
    return command, {"OPENCODE_CONFIG": str(home / "opencode.json"), **dict.fromkeys(silent, "1")}


def _opencode_calls(folder: Path) -> list[Call]:
    file = str(folder / FILE)
    return [
        Call("read", {"filePath": file}),
        Call("edit", {"filePath": file, "oldString": "hello", "newString": "goodbye"}),
        Call("bash", {"command": COMMAND, "description": "Runs it"}),
    ]


def _start_pi(api: str, suffix: str, url: str, home: Path) -> tuple[list[str], dict[str, str]]:
    model = {"id": MODEL, "reasoning": True, "contextWindow": 65536, "maxTokens": 4096}
    provider = {"baseUrl": f"{url}{suffix}", "api": api, "apiKey": KEY, "models": [model]}
    (home / ".pi" / "agent").mkdir(parents=True)
    (home / ".pi" / "agent" / "models.json").write_text(json.dumps({"providers": {"local": provider}}))
    command = ["pi", "--provider", "local", "--model", MODEL, "--thinking", "medium", "--mode", "json", "-p", TASK]
    return command, {"PI_OFFLINE": "1"}


def _pi_calls(_: Path) -> list[Call]:
    return [
        Call("read", {"path": FILE}),
        Call("edit", {"path": FILE, "edits": [{"oldText": "hello", "newText": "goodbye"}]}),
        Call("bash", {"command": COMMAND}),
    ]


AGENTS = (
    Agent("qwen-code", "/v1/chat/completions", _start_qwen, _qwen_calls),
    Agent("opencode", "/v1/chat/completions", _start_opencode, _opencode_calls),
    Agent("pi", "/v1/chat/completions", partial(_start_pi, "openai-completions", "/v1"), _pi_calls, is_quick=True),
)

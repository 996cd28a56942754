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
# One that Codex knows: it gives it a tool for patches whose input is text in a grammar.
CODEX_MODEL = "gpt-5.5"
KEY = "sk-of-nobody"
TASK = "Change the greeting in greet.py to goodbye and run it."
THOUGHT, SAID, LAST_WORD = "The file comes first.", "Now both at once.", "The greeting is goodbye now."
FILE, BEFORE, AFTER = "greet.py", 'def greeting():\n    return "hello"\n', 'def greeting():\n    return "goodbye"\n'
COMMAND = "python3 -c 'import greet; print(greet.greeting().upper())' | tee ran.txt"
OUTPUT = "GOODBYE\n"
PATCH = (
    "*** Begin Patch\n*** Update File: greet.py\n@@\n def greeting():\n"
    '-    return "hello"\n+    return "goodbye"\n*** End Patch\n'
)


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


def _start_codex(model: str, url: str, home: Path) -> tuple[list[str], dict[str, str]]:
    (home / "config.toml").write_text(
        f'model = "{model}"\nmodel_provider = "local"\ncheck_for_update_on_startup = false\n'
        f'[analytics]\nenabled = false\n[model_providers.local]\nname = "Local"\nbase_url = "{url}/v1"\n'
        'env_key = "LOCAL_KEY"\nwire_api = "responses"\nrequest_max_retries = 0\nstream_max_retries = 0\n'
    )
    command = ["codex", "exec", "--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox", "--json", TASK]
    return command, {"CODEX_HOME": str(home), "LOCAL_KEY": KEY}


def _codex_calls(_: Path) -> list[Call]:
    commands = [f"cat {FILE}", f"apply_patch <<'EOF'\n{PATCH}EOF", COMMAND]
    return [Call("exec_command", {"cmd": command}) for command in commands]


def _codex_calls_with_a_patch(folder: Path) -> list[Call]:
    read, _, execute = _codex_calls(folder)
    return [read, Call("apply_patch", {"input": PATCH}), execute]


def _start_claude(url: str, home: Path) -> tuple[list[str], dict[str, str]]:
    models = ("ANTHROPIC_MODEL", "ANTHROPIC_SMALL_FAST_MODEL", "ANTHROPIC_DEFAULT_HAIKU_MODEL")
    allowed = ["--allowedTools", "Read", "Edit", "Bash", "--"]
    return ["claude", "-p", "--output-format", "stream-json", "--verbose", *allowed, TASK], {
        "CLAUDE_CONFIG_DIR": str(home),
        "ANTHROPIC_BASE_URL": url,
        "ANTHROPIC_API_KEY": KEY,
        "CLAUDE_CODE_MAX_RETRIES": "0",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        **dict.fromkeys(models, MODEL),
    }


def _claude_calls(folder: Path) -> list[Call]:
    file = str(folder / FILE)
    return [
        Call("Read", {"file_path": file}),
        Call("Edit", {"file_path": file, "old_string": "hello", "new_string": "goodbye"}),
        Call("Bash", {"command": COMMAND, "description": "Runs it"}),
    ]


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
    Agent("codex", "/v1/responses", partial(_start_codex, MODEL), _codex_calls),
    Agent("codex-with-its-own-model", "/v1/responses", partial(_start_codex, CODEX_MODEL), _codex_calls_with_a_patch),
    Agent("claude-code", "/v1/messages", _start_claude, _claude_calls),
    Agent("qwen-code", "/v1/chat/completions", _start_qwen, _qwen_calls),
    Agent("opencode", "/v1/chat/completions", _start_opencode, _opencode_calls),
    Agent("pi", "/v1/chat/completions", partial(_start_pi, "openai-completions", "/v1"), _pi_calls, is_quick=True),
    Agent("pi-messages", "/v1/messages", partial(_start_pi, "anthropic-messages", ""), _pi_calls, is_quick=True),
    Agent("pi-responses", "/v1/responses", partial(_start_pi, "openai-responses", "/v1"), _pi_calls, is_quick=True),
)

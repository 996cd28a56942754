"""Writes calls as the families do, for the cases."""
# ruff: noqa: RUF001 - DeepSeek's tokens have such letters.

from __future__ import annotations

HOSTILE = '{"city": "a } ] </tool_call> <|call|> \\" \\\\ \\u00e9 \U0001f600 [TOOL_CALLS]", "where": {"a": [{"b": {}}, []]}}'
DAYS = '{"days": 1}'
V3, V3_END = "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"
CALL, SEP, CALL_END = "<｜tool▁call▁begin｜>", "<｜tool▁sep｜>", "<｜tool▁call▁end｜>"


def hermes(arguments: str, name: str = "weather") -> str:
    return f'<tool_call>\n{{"name": "{name}", "arguments": {arguments}}}\n</tool_call>'


def coder(*arguments: tuple[str, str], name: str = "weather") -> str:
    lines = "".join(f"<parameter={key}>\n{value}\n</parameter>\n" for key, value in arguments)
    return f"<tool_call>\n<function={name}>\n{lines}</function>\n</tool_call>"


def glm(*arguments: tuple[str, str], name: str = "weather") -> str:
    lines = "".join(f"<arg_key>{key}</arg_key>\n<arg_value>{value}</arg_value>\n" for key, value in arguments)
    return f"<tool_call>{name}\n{lines}</tool_call>"


def v3(arguments: str, name: str = "weather") -> str:
    return f"{CALL}function{SEP}{name}\n```json\n{arguments}\n```{CALL_END}"


def v31(arguments: str, name: str = "weather") -> str:
    return f"{CALL}{name}{SEP}{arguments}{CALL_END}"


def gemma(arguments: str, name: str = "weather") -> str:
    return f"<|tool_call>call:{name}{{{arguments}}}<tool_call|>"


def message(channel: str, body: str, end: str = "<|end|>") -> str:
    return f"<|channel|>{channel}<|message|>{body}{end}"

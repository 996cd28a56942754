"""Ollama's messages as chat templates read them: ids of calls that nobody gave, and whose result is whose."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from yeoul.web_process.ollama.schemas.messages import Message, for_template


def rendered(*messages: Mapping[str, object]) -> list[dict[str, Any]]:
    return for_template(msgspec.convert(list(messages), list[Message]))


def call(name: str, **fields: object) -> dict[str, object]:
    return {"function": {"name": name, "arguments": {"a": 1}}, **fields}


def test_roles_thoughts_and_missing_content():
    messages = rendered(
        {"role": "Developer", "content": "be kind"},
        {"role": "assistant", "thinking": "hm"},
        {"role": "user", "content": "hi"},
    )
    assert messages == [
        {"role": "system", "content": "be kind"},
        {"role": "assistant", "content": "", "reasoning_content": "hm"},
        {"role": "user", "content": "hi"},
    ]


def test_calls_without_ids_get_some_which_stay_the_same_as_the_conversation_grows():
    first = {"role": "assistant", "tool_calls": [call("f"), call("g")]}
    short, long = rendered(first), rendered(first, {"role": "tool", "content": "x"}, first)
    assert short[0] == long[0]
    ids = [one["id"] for message in long for one in message.get("tool_calls", [])]
    assert len(set(ids)) == 4
    assert all(len(one) == 9 and one.isalnum() for one in ids)


def test_a_result_names_its_call_by_id_by_name_or_by_order():
    calls = {"role": "assistant", "tool_calls": [call("f", id="one"), call("g", id="two"), call("h", id="three")]}
    results = [
        {"role": "tool", "content": "3", "tool_call_id": "three"},
        {"role": "tool", "content": "2", "tool_name": "g"},
        {"role": "tool", "content": "1"},
        {"role": "tool", "content": "?", "tool_name": "other", "tool_call_id": "four"},
    ]
    named = [(message.get("tool_call_id"), message.get("name")) for message in rendered(calls, *results)[1:]]
    assert named == [("three", "h"), ("two", "g"), ("one", "f"), ("four", "other")]

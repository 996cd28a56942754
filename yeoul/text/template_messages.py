"""Brings OpenAI's messages into the form that a chat template reads; knows no template's text. The chat template calls it.

A message's content is a text or a list of parts, and many templates read one of the two only: of the other they print
nothing, or Python's own notation. Which form keeps the text is tried out, role by role, when a template is loaded.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from yeoul.errors import InvalidRequestError

ContentForm = Literal["any", "text", "parts"]

_PROBE = "a text to be found again"
_CALL = {"id": "call00001", "type": "function", "function": {"name": "f", "arguments": {}}}
_DO, _ASK, _SAY = {"role": "system"}, {"role": "user"}, {"role": "assistant"}
_REPORT = {"role": "tool", "tool_call_id": _CALL["id"], "name": "f"}
# Conversations whose message at the place is the one that is looked for; some templates want a system message first.
_CONVERSATIONS: dict[str, list[tuple[int, list[dict[str, Any]]]]] = {
    "system": [(0, [_DO, _ASK])],
    "user": [(0, [_ASK]), (1, [_DO, _ASK])],
    "assistant": [(1, [_ASK, _SAY, _ASK]), (2, [_DO, _ASK, _SAY, _ASK])],
    "tool": [
        (2, [_ASK, {**_SAY, "tool_calls": [_CALL]}, _REPORT]),
        (3, [_DO, _ASK, {**_SAY, "tool_calls": [_CALL]}, _REPORT]),
    ],
}


def find_content_forms(render: Callable[[list[dict[str, Any]]], str]) -> dict[str, ContentForm]:
    """The form of content that a template reads for each role; ``render`` gives nothing where the template fails."""
    forms: dict[str, ContentForm] = {}
    for role, conversations in _CONVERSATIONS.items():
        reads_text, reads_parts = (
            any(
                _keeps_probe(render(_filled(chat, place, is_parts, others_are_parts)))
                for others_are_parts in (is_parts, not is_parts)
                for place, chat in conversations
            )
            for is_parts in (False, True)
        )
        forms[role] = "text" if not reads_parts else "any" if reads_text else "parts"
    return forms


def _filled(messages: list[dict[str, Any]], place: int, is_parts: bool, others_are_parts: bool) -> list[dict[str, Any]]:
    contents = {True: _content(_PROBE, is_parts), False: _content("-", others_are_parts)}
    return [{**message, "content": contents[index == place]} for index, message in enumerate(messages)]


def _content(text: str, is_parts: bool) -> object:
    return [{"type": "text", "text": text}] if is_parts else text


def _keeps_probe(prompt: str) -> bool:
    """Whether the text is there, and not as a part's notation in Python or JSON."""
    return _PROBE in prompt and f"'text': '{_PROBE}'" not in prompt and f'"text": "{_PROBE}"' not in prompt


def without_developers(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Copies of the messages, with the older name of a role that most templates do not know."""
    return [{**message, "role": "system"} if message.get("role") == "developer" else dict(message) for message in messages]


def adapt_messages(messages: Sequence[Mapping[str, Any]], forms: Mapping[str, ContentForm]) -> list[dict[str, Any]]:
    """Copies of the messages: content in the form that the template reads for their role, tool calls as objects.

    Raises:
        InvalidRequestError: a part that is no text, for a template that knows only text.
    """
    adapted = []
    for original in messages:
        message = _with_parsed_arguments(original)
        form = forms.get(str(message.get("role")), forms["user"])
        if form == "parts" and isinstance(message.get("content"), str):
            message["content"] = _content(message["content"], True)
        adapted.append(_with_joined_text(message) if form == "text" else message)
    return adapted


def _with_joined_text(message: dict[str, Any]) -> dict[str, Any]:
    content = message.get("content")
    if not isinstance(content, list):
        return message
    texts = []
    for part in content:
        if not isinstance(part, Mapping) or part.get("type") != "text" or not isinstance(part.get("text"), str):
            raise InvalidRequestError(
                "this model reads text only: expected content to be a string, or parts of the type text", param="messages"
            )
        texts.append(part["text"])
    return {**message, "content": "\n".join(texts)}


def _with_parsed_arguments(message: Mapping[str, Any]) -> dict[str, Any]:
    """OpenAI sends a call's arguments as a string of JSON; templates write them out as the object that it holds."""
    calls = message.get("tool_calls")
    if not isinstance(calls, list):
        return dict(message)
    return {**message, "tool_calls": [_with_parsed_call(call) for call in calls]}


def _with_parsed_call(call: Any) -> Any:
    match call:
        case {"function": {"arguments": str(arguments)}}:
            try:
                parsed = json.loads(arguments)
            except (ValueError, RecursionError):
                return call
            return {**call, "function": {**call["function"], "arguments": parsed}} if isinstance(parsed, dict) else call
        case _:
            return call

"""Brings OpenAI's messages into the form that chat templates read; knows no template's text. The chat template calls it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import nodes

from yeoul.errors import InvalidRequestError


def adapt_messages(messages: Sequence[Mapping[str, Any]], *, reads_parts: bool) -> list[dict[str, Any]]:
    """Copies of the messages: text parts joined by line breaks unless the template ``reads_parts``, tool calls as objects.

    Raises:
        InvalidRequestError: a part that is no text, for a template that knows only text.
    """
    adapted = [_with_parsed_arguments(message) for message in messages]
    return adapted if reads_parts else [_with_joined_text(message) for message in adapted]


def reads_content_parts(tree: nodes.Template) -> bool:
    """Whether a loop of the template runs over a message's ``content``, or over a name that is set to it."""
    aliases = {"content"}
    for assignment in tree.find_all(nodes.Assign):
        if isinstance(assignment.target, nodes.Name) and _is_content(assignment.node, set()):
            aliases.add(assignment.target.name)
    return any(_is_content(loop.iter, aliases) for loop in tree.find_all(nodes.For))


def _is_content(node: nodes.Node, aliases: set[str]) -> bool:
    match node:
        case nodes.Getattr(attr="content"):
            return True
        case nodes.Getitem(arg=nodes.Const(value="content")):
            return True
        case nodes.Name(name=name):
            return name in aliases
        case nodes.Filter(node=nodes.Node() as inner):
            return _is_content(inner, aliases)
        case _:
            return False


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

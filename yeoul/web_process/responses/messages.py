"""From the items of a conversation to the messages that chat templates read; knows no engine and no store.

What an assistant did in one turn are several items here (reasoning, text, calls) and one message there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from yeoul.web_process.answers.custom_tools import custom_arguments
from yeoul.web_process.responses.compaction import ASKED, opened, told
from yeoul.web_process.responses.schemas.input_items import InputItem, ItemPart
from yeoul.web_process.responses.tool_names import joined_name

_CALLS = ("function_call", "custom_tool_call")


def messages_of(instructions: str | None, items: Iterable[InputItem]) -> list[dict[str, Any]]:
    """The messages, oldest first. What stands before the first user's words is one system message: templates want one."""
    messages: list[dict[str, Any]] = []
    if instructions:
        messages.append({"role": "system", "content": instructions})
    for item in told(list(items)):
        if item.kind == "compaction":
            messages.append({"role": "assistant", "content": opened(item.encrypted_content or "")})
        elif item.kind == "compaction_trigger":
            messages.append({"role": "user", "content": ASKED})
        elif item.kind == "message" and item.role != "assistant":
            _add_message(messages, item)
        elif item.kind in ("function_call_output", "custom_tool_call_output"):
            messages.append(
                {
                    "role": "tool",
                    "tool_call_id": item.call_id,
                    "content": _content(None if isinstance(item.output, dict) else item.output),
                }
            )
        elif item.kind == "message":
            _add_text(messages, item)
        elif item.kind == "reasoning":
            _add_reasoning(messages, item)
        elif item.kind in _CALLS:
            _turn(messages).setdefault("tool_calls", []).append(_call(item))
    for message in messages:
        message.setdefault("content", "")
    return messages


def _add_message(messages: list[dict[str, Any]], item: InputItem) -> None:
    role = "system" if item.role == "developer" else item.role
    content = _content(item.content)
    if role == "system" and messages and all(message["role"] == "system" for message in messages):
        messages[-1]["content"] = _joined(messages[-1]["content"], content)
    else:
        messages.append({"role": role, "content": content})


def _joined(first: str | list[dict[str, str]], second: str | list[dict[str, str]]) -> str | list[dict[str, str]]:
    texts = [
        content if isinstance(content, str) else "\n".join(part["text"] for part in content) for content in (first, second)
    ]
    return "\n\n".join(texts)


def _turn(messages: list[dict[str, Any]]) -> dict[str, Any]:
    """The assistant's message that is being told; a new one after anybody else's."""
    if not messages or messages[-1]["role"] != "assistant":
        messages.append({"role": "assistant"})
    return messages[-1]


def _add_text(messages: list[dict[str, Any]], item: InputItem) -> None:
    turn = _turn(messages)
    if "content" in turn or "tool_calls" in turn:
        turn = {"role": "assistant"}
        messages.append(turn)
    turn["content"] = _content(item.content)


def _add_reasoning(messages: list[dict[str, Any]], item: InputItem) -> None:
    """What was thought; of what another server thought only the summary is to be had."""
    text = _text(item.content) or _text(item.summary)
    if not text:
        return
    turn = _turn(messages)
    if turn.keys() & {"content", "tool_calls", "reasoning_content"}:
        turn = {"role": "assistant"}
        messages.append(turn)
    turn["reasoning_content"] = text


def _call(item: InputItem) -> dict[str, Any]:
    arguments = custom_arguments(item.input or "") if item.kind == "custom_tool_call" else item.arguments
    function = {"name": joined_name(item.namespace, item.name or ""), "arguments": arguments}
    return {"id": item.call_id, "type": "function", "function": function}


def _content(content: str | Sequence[ItemPart] | None) -> str | list[dict[str, str]]:
    if isinstance(content, str) or content is None:
        return content or ""
    return [{"type": "text", "text": part.written or ""} for part in content]


def _text(content: str | Sequence[ItemPart] | None) -> str:
    if isinstance(content, str) or content is None:
        return content or ""
    return "\n".join(part.written or "" for part in content)

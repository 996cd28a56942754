"""Brings a conversation into an order that a chat template takes; knows no template's text. The chat template calls it.

Agents write instructions between the turns, several messages in a row, several calls at once and long ids of calls. Many
templates refuse one of these, or leave it out without a word. Which ones a template keeps is tried out when it is loaded; the
others become the nearest thing that it keeps, in place, so that the prompt of a conversation that grows begins as it did.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_Message = dict[str, Any]

_BETWEEN = "\n\n"
# Nine letters and digits: what Mistral's templates want.
_CALL_ID = "call{:05}"


@dataclass(frozen=True)
class MessageOrder:
    """What a template keeps: a system message at the front, later ones, users' messages in a row, calls at once, any ids."""

    has_system: bool = True
    has_later_systems: bool = True
    has_users_in_a_row: bool = True
    has_calls_at_once: bool = True
    has_any_call_ids: bool = True


def find_message_order(render: Callable[[list[_Message]], str]) -> MessageOrder:
    """What the template keeps. ``render`` gives nothing where it fails, and takes messages as they are sent.

    A text is lost only where what would take its place has it: a template that cannot be tried out is left alone.
    """

    def keeps(messages: list[_Message], instead: list[_Message]) -> bool:
        texts = [str(message["content"]) for message in messages if message["content"]]
        texts += [call["function"]["name"] for message in messages for call in message.get("tool_calls", [])]
        natural, other = render(messages), render(instead)
        return not any(text in other and text not in natural for text in texts)

    has_system = keeps([_told("system", 1), _told("user", 2)], [_told("user", 1, 2)])
    front = [_told("system", 0)] if has_system else []
    past = [*front, _told("user", 1), _told("assistant", 2)]
    return MessageOrder(
        has_system=has_system,
        has_later_systems=all(
            keeps(messages, instead)
            for messages, instead in (
                ([*past, _told("system", 3), _told("user", 4)], [*past, _told("user", 3, 4)]),
                ([*front, _told("user", 1), _told("system", 2)], [*front, _told("user", 1, 2)]),
            )
        ),
        has_users_in_a_row=keeps([*front, _told("user", 1), _told("user", 2)], [*front, _told("user", 1, 2)]),
        has_calls_at_once=keeps(
            [*front, _told("user", 1), _calling(2, 3), _report(2), _report(3)],
            [*front, _told("user", 1), _calling(2), _report(2), _calling(3), _report(3)],
        ),
        has_any_call_ids=keeps(
            _with_ids([*front, _told("user", 1), _calling(2), _report(2)], "call_that_is_long_{}".format),
            [*front, _told("user", 1), _calling(2), _report(2)],
        ),
    )


def _told(role: str, *numbers: int) -> _Message:
    return {"role": role, "content": _BETWEEN.join(f"the text {number} of all" for number in numbers)}


def _calling(*numbers: int) -> _Message:
    functions = {_CALL_ID.format(number): {"name": f"function_{number}", "arguments": {}} for number in numbers}
    calls = [{"id": call_id, "type": "function", "function": function} for call_id, function in functions.items()]
    return {"role": "assistant", "content": "", "tool_calls": calls}


def _report(number: int) -> _Message:
    return {**_told("tool", number), "tool_call_id": _CALL_ID.format(number), "name": f"function_{number}"}


def order_messages(messages: Sequence[Mapping[str, Any]], order: MessageOrder) -> list[_Message]:
    """The conversation as the template takes it; no text is lost."""
    ordered = [dict(message) for message in messages]
    if not order.has_calls_at_once:
        ordered = list(_with_single_calls(ordered))
    if not order.has_any_call_ids:
        ordered = _with_ids(ordered, _CALL_ID.format)
    if not order.has_later_systems or not order.has_system:
        ordered = _with_users_for_systems(ordered, order.has_system)
    if not order.has_users_in_a_row:
        ordered = _joined(ordered, "user")
    return ordered


def _with_users_for_systems(messages: list[_Message], has_system: bool) -> list[_Message]:
    """The user tells what the system would; with ``has_system`` not at the front, where all of it becomes one message."""
    num_first = next((place for place, message in enumerate(messages) if message.get("role") != "system"), len(messages))
    first = _joined(messages[:num_first], "system") if has_system else []
    others = messages[num_first:] if has_system else messages
    return first + [{**message, "role": "user"} if message.get("role") == "system" else message for message in others]


def _joined(messages: list[_Message], role: str) -> list[_Message]:
    """Messages of the role that follow each other become one."""
    joined: list[_Message] = []
    for of_role, run in itertools.groupby(messages, key=lambda message: message.get("role")):
        same = list(run)
        joined += [{**same[0], "content": _joined_content(same)}] if of_role == role and len(same) > 1 else same
    return joined


def _joined_content(messages: list[_Message]) -> object:
    contents = [message["content"] for message in messages if message.get("content")]
    if all(isinstance(content, str) for content in contents):
        return _BETWEEN.join(contents)
    return [
        part
        for content in contents
        for part in ([{"type": "text", "text": content}] if isinstance(content, str) else content)
    ]


def _with_single_calls(messages: list[_Message]) -> Iterator[_Message]:
    """Calls that were made at once follow each other, each with its result; those that lack one stay as they are."""
    place = 0
    while place < len(messages):
        message = messages[place]
        calls = message.get("tool_calls") or []
        place += 1
        results = {
            result.get("tool_call_id"): result
            for result in messages[place : place + len(calls)]
            if result.get("role") == "tool"
        }
        if len(calls) < 2 or {call.get("id") for call in calls} != results.keys() or len(results) < len(calls):
            yield message
            continue
        place += len(calls)
        for number, call in enumerate(calls):
            yield (
                {**message, "tool_calls": [call]}
                if number == 0
                else {"role": "assistant", "content": "", "tool_calls": [call]}
            )
            yield results[call.get("id")]


def _with_ids(messages: list[_Message], name: Callable[[int], str]) -> list[_Message]:
    """Calls are named by their number; so are results, by the call that they name."""
    names: dict[object, str] = {}
    renamed = []
    for message in messages:
        if calls := message.get("tool_calls"):
            for call in calls:
                names[call.get("id")] = name(len(names))
            message = {**message, "tool_calls": [{**call, "id": names[call.get("id")]} for call in calls]}
        elif message.get("tool_call_id") in names:
            message = {**message, "tool_call_id": names[message["tool_call_id"]]}
        renamed.append(message)
    return renamed

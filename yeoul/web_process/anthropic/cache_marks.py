"""What ``cache_control`` asks for: which part of a request is to be kept for how long; knows no template and no cache.

The order is Anthropic's: tools, then the system prompt, then messages. Whatever stands before a mark is meant as well, so
only the last mark of each time counts.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from yeoul.errors import InvalidRequestError
from yeoul.web_process.answers.lease_marks import FIVE_MINUTES, HOUR, MARK, LeaseMark
from yeoul.web_process.anthropic.schemas.content import Block, CacheControl, InnerBlock
from yeoul.web_process.anthropic.schemas.tools import Tool

if TYPE_CHECKING:
    from yeoul.web_process.answers.conversation import Conversation
    from yeoul.web_process.anthropic.schemas.messages import CountTokensRequest

MAX_NUM_MARKS = 4

Place = tuple[str, int, int]


class CacheMark(NamedTuple):
    """``place`` is a field, an index in it and one of a block of that message; None: the end."""

    control: CacheControl
    place: Place | None

    @property
    def seconds(self) -> float:
        """How long the part is to be kept."""
        return HOUR if self.control.ttl == "1h" else FIVE_MINUTES


def check_marks(body: CountTokensRequest) -> None:
    """Raises InvalidRequestError for more marks than Anthropic takes."""
    if (num_marks := sum(1 for _ in _marks_of(body))) > MAX_NUM_MARKS:
        raise InvalidRequestError(
            f"a maximum of {MAX_NUM_MARKS} blocks with cache_control may be provided; found {num_marks}",
            param="cache_control",
        )


def leases_of(body: CountTokensRequest, converse: Callable[[CountTokensRequest], Conversation]) -> list[LeaseMark]:
    """What is to be kept, the longest time first. ``converse`` makes the conversation of a request that has a mark in it."""
    marks = list(_marks_of(body))
    of_hour = [mark for mark in marks if mark.seconds == HOUR][-1:]
    last = marks[-1:]
    chosen = of_hour if of_hour == last else of_hour + last
    return [
        LeaseMark(mark.seconds, None if mark.place is None else functools.partial(_converse, converse, body, mark.place))
        for mark in chosen
    ]


def _converse(converse: Callable[[CountTokensRequest], Conversation], body: CountTokensRequest, place: Place) -> Conversation:
    return converse(_with_mark(body, place))


def _marks_of(body: CountTokensRequest) -> Iterator[CacheMark]:
    """Those inside a result count for all of it."""
    for index, tool in enumerate(body.tools or ()):
        if tool.cache_control is not None:
            yield CacheMark(tool.cache_control, ("tools", index, 0))
    for index, block in enumerate(() if isinstance(body.system, str) or body.system is None else body.system):
        if block.cache_control is not None:
            yield CacheMark(block.cache_control, ("system", index, 0))
    last = len(body.messages) - 1
    for index, message in enumerate(body.messages):
        content = () if isinstance(message.content, str) else message.content
        for number, block in enumerate(content):
            is_end = index == last and number == len(content) - 1
            place = None if is_end else ("messages", index, number)
            for inner in block.content if isinstance(block.content, list) else ():
                if inner.cache_control is not None:
                    yield CacheMark(inner.cache_control, place)
            if block.cache_control is not None:
                yield CacheMark(block.cache_control, place)
    if body.cache_control is not None:
        yield CacheMark(body.cache_control, None)


def _with_mark(body: CountTokensRequest, place: Place) -> CountTokensRequest:
    """The same request with MARK behind a place, and otherwise such that a template takes it as it took the other."""
    field, index, number = place
    behind = index + 1
    match field:
        case "tools":
            tools = body.tools or []
            tools = [*tools[:behind], Tool(name=MARK, input_schema={"type": "object"}), *tools[behind:]]
            return msgspec.structs.replace(body, tools=tools)
        case "system":
            assert isinstance(body.system, list)
            return msgspec.structs.replace(body, system=[*body.system[:behind], _text(), *body.system[behind:]])
    messages = list(body.messages)
    blocks = list(messages[index].blocks)
    blocks[number : number + 1] = _marked(blocks[number])
    messages[index] = msgspec.structs.replace(messages[index], content=blocks)
    return msgspec.structs.replace(body, messages=messages)


def _marked(block: Block) -> list[Block]:
    """A block with MARK at its end. A result stays one message: what comes behind it would be another."""
    match block.type:
        case "tool_result":
            content = [InnerBlock(type="text", text=block.content)] if isinstance(block.content, str) else block.content
            return [msgspec.structs.replace(block, content=[*(content or []), _text()])]
        case "tool_use":
            return [msgspec.structs.replace(block, input={**(block.input or {}), MARK: MARK})]
        case "thinking":
            return [msgspec.structs.replace(block, thinking=f"{block.thinking}{MARK}")]
    return [block, Block(type="text", text=MARK)]


def _text() -> InnerBlock:
    return InnerBlock(type="text", text=MARK)

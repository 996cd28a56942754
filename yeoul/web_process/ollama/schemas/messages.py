"""The messages and tools of Ollama's chats, and what chat templates read of them; knows nothing of routes or the engine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar

from msgspec import Meta

from yeoul.web_process.engine.tool_calls import OfferedTool, ToolName
from yeoul.web_process.http.openapi import says
from yeoul.web_process.http.request_body import Label, RequestBody

_Struct = type[RequestBody]
_ROLES = ("system", "developer", "user", "assistant", "tool")


class CalledFunction(RequestBody, kw_only=True):
    """What is called, and with what."""

    name: Annotated[Label, says("The tool's name.")]
    arguments: Annotated[dict[str, Any] | None, says("Its arguments.")] = None
    index: Annotated[int | None, says("The call's place among those of its message; the order tells it as well.")] = None


class ToolCall(RequestBody, kw_only=True):
    """A call that the model made. Ollama's own library forgets the ids."""

    function: Annotated[CalledFunction, says("What is called.")]
    id: Annotated[Label | None, says("By which the result names it.")] = None
    type: Annotated[str | None, says("Has no effect.")] = None

    inner: ClassVar[dict[str, _Struct]] = {"function": CalledFunction}


class Message(RequestBody, kw_only=True):
    """One message."""

    role: Annotated[Label, says("`system`, `developer`, `user`, `assistant` or `tool`.")]
    content: Annotated[str | None, says("What is said.")] = None
    thinking: Annotated[str | None, says("What the assistant thought.")] = None
    tool_calls: Annotated[list[ToolCall], Meta(max_length=128, description="The calls that the assistant made.")] | None = (
        None
    )
    tool_name: Annotated[Label | None, says("The tool whose result this is.")] = None
    tool_call_id: Annotated[Label | None, says("The id of the call whose result this is.")] = None

    inner: ClassVar[dict[str, _Struct]] = {"tool_calls": ToolCall}

    def __post_init__(self) -> None:
        if self.role.lower() not in _ROLES:
            raise ValueError(f"role is {self.role[:40]!r}; expected one of {', '.join(_ROLES)}")


class ToolFunction(RequestBody, kw_only=True):
    """What a tool is called and takes."""

    name: ToolName
    description: Annotated[str | None, says("What it does, for the model.")] = None
    parameters: Annotated[dict[str, Any] | None, says("What its arguments are, as a JSON schema.")] = None


class Tool(RequestBody, kw_only=True):
    """One tool."""

    function: Annotated[ToolFunction, says("What it is called and takes.")]
    type: Annotated[str | None, says("Has no effect: functions are the only kind.")] = None

    inner: ClassVar[dict[str, _Struct]] = {"function": ToolFunction}

    @property
    def offered(self) -> OfferedTool:
        """The tool, whatever API it came by."""
        schema = self.function.parameters or {"type": "object", "properties": {}}
        return OfferedTool(self.function.name, schema, self.function.description or "")


def for_template(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """The messages as chat templates know them.

    Calls without an id get one, and results that name none get those of the calls before them, in their order: there are
    templates that write no conversation without. They are the same whenever the conversation is sent again.
    """
    num_calls = 0
    open_calls: list[tuple[str, str]] = []  # id and name
    rendered = []
    for message in messages:
        role = message.role.lower()
        fields: dict[str, Any] = {"role": "system" if role == "developer" else role, "content": message.content or ""}
        if message.thinking:
            fields["reasoning_content"] = message.thinking
        if message.tool_calls:
            calls, open_calls = [], []
            for call in message.tool_calls:
                call_id = call.id or f"call{num_calls:05d}"
                num_calls += 1
                open_calls.append((call_id, call.function.name))
                function = {"name": call.function.name, "arguments": call.function.arguments or {}}
                calls.append({"id": call_id, "type": "function", "function": function})
            fields["tool_calls"] = calls
        if role == "tool":
            _name_result(fields, message, open_calls)
        rendered.append(fields)
    return rendered


def _name_result(fields: dict[str, Any], message: Message, open_calls: list[tuple[str, str]]) -> None:
    """Says whose result it is: by the id that it says, else by the name, else the first call that has none yet."""
    for matches in (
        [call for call in open_calls if call[0] == message.tool_call_id],
        [call for call in open_calls if call[1] == message.tool_name],
        open_calls[:1],
    ):
        if matches:
            open_calls.remove(matches[0])
            fields["tool_call_id"], fields["name"] = matches[0]
            break
    fields |= {"tool_call_id": message.tool_call_id} if message.tool_call_id else {}
    fields |= {"name": message.tool_name} if message.tool_name else {}

"""The messages and tools of Ollama's chats, and what chat templates read of them; knows nothing of routes or the engine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar

from msgspec import Meta

from yeoul.web_process.engine.tool_calls import OfferedTool, ToolName
from yeoul.web_process.http.request_body import Label, RequestBody

_Struct = type[RequestBody]
_ROLES = ("system", "developer", "user", "assistant", "tool")


class CalledFunction(RequestBody, kw_only=True):
    """``index`` is the call's place among those of its message, which the order tells as well."""

    name: Label
    arguments: dict[str, Any] | None = None
    index: int | None = None


class ToolCall(RequestBody, kw_only=True):
    """A call that the model made. Ollama's own library forgets the ids."""

    function: CalledFunction
    id: Label | None = None
    type: str | None = None

    inner: ClassVar[dict[str, _Struct]] = {"function": CalledFunction}


class Message(RequestBody, kw_only=True):
    """One message. ``tool_name`` says whose result a message of role ``tool`` is."""

    role: Label
    content: str | None = None
    thinking: str | None = None
    tool_calls: Annotated[list[ToolCall], Meta(max_length=128)] | None = None
    tool_name: Label | None = None
    tool_call_id: Label | None = None

    inner: ClassVar[dict[str, _Struct]] = {"tool_calls": ToolCall}

    def __post_init__(self) -> None:
        if self.role.lower() not in _ROLES:
            raise ValueError(f"role is {self.role[:40]!r}; expected one of {', '.join(_ROLES)}")


class ToolFunction(RequestBody, kw_only=True):
    """What a tool is called and takes."""

    name: ToolName
    description: str | None = None
    parameters: dict[str, Any] | None = None


class Tool(RequestBody, kw_only=True):
    """One tool."""

    function: ToolFunction
    type: str | None = None

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

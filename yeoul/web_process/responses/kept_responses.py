"""KeptResponses: what came before a request (a previous response, a conversation), and what is kept of its answer.

Knows the items and the tables, nothing of routes and the engine.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from yeoul.errors import InvalidRequestError, NotFoundError
from yeoul.web_process.responses.response_object import ResponseName
from yeoul.web_process.responses.schemas.input_items import InputItem, items_of, read_items
from yeoul.web_process.responses.schemas.response_request import ContextFields
from yeoul.web_process.store.conversation_table import ConversationTable
from yeoul.web_process.store.database import Database
from yeoul.web_process.store.kept_bytes import KeptBytes
from yeoul.web_process.store.response_table import KeptResponse, ResponseTable

_FIRST_INPUT = 0x8000  # ids of input items, behind those of output items
_MAX_NUM_LINKS = 4096
_MAX_BYTES_ON_LOOP = 1 << 14  # of a request whose items are written down; a larger one's in a thread
_PREFIXES = {
    "message": "msg", "reasoning": "rs", "function_call": "fc", "function_call_output": "fco", "custom_tool_call": "ctc",
    "custom_tool_call_output": "ctco", "compaction": "cmp",
}  # fmt: skip


class Context(NamedTuple):
    """What the model is told: all that came before and the request's own input, which ``input`` has as it is kept."""

    items: list[InputItem]
    num_bytes: int
    input: bytes


class KeptResponses:
    """All of one server.

    Args:
        database: where they are.
        bounds: how much may be kept.
        most_bytes: of what the model is told, the largest body that a request may have.
    """

    def __init__(self, database: Database, bounds: KeptBytes, most_bytes: int) -> None:
        self._database = database
        self._most_bytes = most_bytes
        self.responses = ResponseTable(database, bounds)
        self.conversations = ConversationTable(database, bounds)

    async def context(self, owner: str, body: ContextFields, name: ResponseName, num_body_bytes: int) -> Context:
        """What the model is told for a request; its new items have ids then.

        Raises:
            NotFoundError: what it refers to is not there, or is another's.
            InvalidRequestError: what came before is not finished, or is too much.
        """
        own = items_of(body.input)
        needs_store = body.previous_response_id or body.conversation_id or any(item.kind == "item_reference" for item in own)
        if not needs_store:
            is_short = num_body_bytes <= _MAX_BYTES_ON_LOOP
            encoded = _encoded(own, name) if is_short else await asyncio.to_thread(_encoded, own, name)
            return Context(own, num_body_bytes, encoded)

        def work(connection: sqlite3.Connection) -> Context:
            if body.previous_response_id is not None:
                before = self._chain(connection, owner, body.previous_response_id)
            elif body.conversation_id is not None:
                before = self.conversations.packed_items_now(connection, owner, body.conversation_id)
            else:
                before = []
            if (num_bytes := sum(map(len, before)) + num_body_bytes) > self._most_bytes:
                raise InvalidRequestError(
                    f"the conversation has {num_bytes} bytes; expected at most {self._most_bytes}: begin another",
                    param="input",
                )
            earlier = [read_items([item])[0] for packed in before for item in _as_list(msgspec.json.decode(packed))]
            known = {item.id: item for item in earlier if item.id is not None}
            found = [self._resolve(connection, owner, item, known) for item in own]
            return Context([*earlier, *found], num_bytes, _encoded(found, name))

        return await self._database.run(work)

    async def keep(self, kept: KeptResponse, *, events: Sequence[bytes] | None = None) -> None:
        """Keeps a finished response; with ``events`` (packed in blocks) one that was kept unfinished, unless it was deleted.

        Its conversation has its items from then on.
        """

        def work(connection: sqlite3.Connection) -> None:
            if events is None:
                self.responses.add_now(connection, kept)
            elif not self.responses.finish_now(connection, kept, events):
                return
            if kept.conversation_id is not None:
                items = [*msgspec.json.decode(kept.input), *msgspec.json.decode(kept.output or b"[]")]
                with contextlib.suppress(NotFoundError):  # deleted meanwhile
                    self.conversations.append_now(connection, kept.owner, kept.conversation_id, items)

        await self._database.run(work)

    def _chain(self, connection: sqlite3.Connection, owner: str, response_id: str) -> list[bytes]:
        """The input and output of a response and of all before it, the oldest first."""
        links: list[bytes] = []
        next_id: str | None = response_id
        num_bytes = 0
        while next_id is not None:
            try:
                kept = self.responses.get_now(connection, owner, next_id)
            except NotFoundError as error:
                raise NotFoundError(error.message, param="previous_response_id", code="previous_response_not_found") from None
            if kept.answer is None:
                raise InvalidRequestError(
                    f"the response {next_id!r} is not finished: wait for it, or cancel it", param="previous_response_id"
                )
            links += [kept.output or b"[]", kept.input]
            num_bytes += len(links[-1]) + len(links[-2])
            if num_bytes > self._most_bytes or len(links) > 2 * _MAX_NUM_LINKS:
                raise InvalidRequestError(
                    f"what came before {response_id!r} has more than {self._most_bytes} bytes or {_MAX_NUM_LINKS} responses:"
                    " begin anew",
                    param="previous_response_id",
                )
            next_id = kept.previous_id
        return links[::-1]

    def _resolve(self, connection: sqlite3.Connection, owner: str, item: InputItem, known: dict[str, InputItem]) -> InputItem:
        """The item that a reference names: of the conversation, or of any response that is kept."""
        if item.kind != "item_reference":
            return item
        assert item.id is not None
        if item.id in known:
            return known[item.id]
        try:
            kept = self.responses.get_now(connection, owner, ResponseName.of_item(item.id).id)
        except NotFoundError:
            kept = None
        for packed in [] if kept is None else [kept.output or b"[]", kept.input]:
            for candidate in msgspec.json.decode(packed):
                if candidate.get("id") == item.id:
                    return read_items([candidate])[0]
        raise NotFoundError(f"there is no item {item.id[:80]!r} here; send the item itself", param="input")


def numbered(items: Sequence[dict[str, Any]], name: ResponseName) -> list[dict[str, Any]]:
    """The same items, each with an id, its own or one of a response's or conversation's."""
    return [
        {"id": name.item_id(_PREFIXES.get(item["type"], "item"), _FIRST_INPUT + index), "status": "completed", **item}
        for index, item in enumerate(items)
    ]


def _encoded(items: Sequence[InputItem], name: ResponseName) -> bytes:
    return msgspec.json.encode(numbered([item.as_json() for item in items], name))


def _as_list(value: Any) -> list[dict[str, Any]]:
    return value if isinstance(value, list) else [value]

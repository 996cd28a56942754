"""``/v1/conversations``: items that are kept, for responses to go on from; knows no engine."""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Path, Request, Response

from yeoul.web_process.http.caller import caller_of
from yeoul.web_process.http.openapi import OF_BODIES, OF_IDS, answers_of, body_of
from yeoul.web_process.http.writing import json_response
from yeoul.web_process.responses.kept_responses import KeptResponses, numbered
from yeoul.web_process.responses.pages import After, Limit, Order, list_of
from yeoul.web_process.responses.response_object import ResponseName, encode_json
from yeoul.web_process.responses.schemas.answers import ITEM, Conversation, DeletedConversation, ItemList
from yeoul.web_process.responses.schemas.conversation_requests import ConversationRequest, ItemsRequest
from yeoul.web_process.responses.schemas.input_items import InputItem
from yeoul.web_process.server_context import ServerContext
from yeoul.web_process.store.conversation_table import KeptConversation

ConversationId = Annotated[str, Path(description="The id of a conversation.")]
ItemId = Annotated[str, Path(description="The id of an item.")]

_OF_BOTH = OF_BODIES | OF_IDS
_PATH = "/v1/conversations/{conversation_id}"


def conversations_router(context: ServerContext, kept: KeptResponses) -> APIRouter:
    """The routes, bound to what is kept."""
    router, conversations = APIRouter(), kept.conversations

    @router.post(
        "/v1/conversations", responses=answers_of(Conversation, errors=OF_BODIES), openapi_extra=body_of(ConversationRequest)
    )
    async def create_conversation(request: Request) -> Response:
        """A new one."""
        body = await context.bodies.read(request, ConversationRequest)
        new = KeptConversation(id=f"conv_{uuid.uuid4().hex}", created_at=int(time.time()), metadata=body.metadata or {})
        await conversations.add(caller_of(request).tenant, new, _named(body.items or []))
        return json_response(_written(new))

    @router.get(_PATH, responses=answers_of(Conversation, errors=OF_IDS))
    async def get_conversation(request: Request, conversation_id: ConversationId) -> Response:
        """One of them."""
        return json_response(_written(await conversations.get(caller_of(request).tenant, conversation_id)))

    @router.post(_PATH, responses=answers_of(Conversation, errors=_OF_BOTH), openapi_extra=body_of(ConversationRequest))
    async def update_conversation(request: Request, conversation_id: ConversationId) -> Response:
        """Gives it other metadata."""
        body = await context.bodies.read(request, ConversationRequest)
        changed = await conversations.change(caller_of(request).tenant, conversation_id, body.metadata or {})
        return json_response(_written(changed))

    @router.delete(_PATH, responses=answers_of(DeletedConversation, errors=OF_IDS))
    async def delete_conversation(request: Request, conversation_id: ConversationId) -> Response:
        """Forgets it and its items."""
        await conversations.delete(caller_of(request).tenant, conversation_id)
        return json_response(encode_json(DeletedConversation(id=conversation_id)))

    @router.get(f"{_PATH}/items", responses=answers_of(ItemList, errors=OF_IDS))
    async def list_items(
        request: Request, conversation_id: ConversationId, limit: Limit = 20, order: Order = "desc", after: After = None
    ) -> Response:
        """Its items, page by page."""
        owner = caller_of(request).tenant
        items = await conversations.items(owner, conversation_id, after=after, is_rising=order == "asc", limit=limit + 1)
        return json_response(list_of(items, limit))

    @router.post(f"{_PATH}/items", responses=answers_of(ItemList, errors=_OF_BOTH), openapi_extra=body_of(ItemsRequest))
    async def create_items(request: Request, conversation_id: ConversationId) -> Response:
        """More items."""
        body = await context.bodies.read(request, ItemsRequest)
        items = _named(body.items)
        await conversations.append(caller_of(request).tenant, conversation_id, items)
        return json_response(list_of(items, len(items)))

    @router.get(f"{_PATH}/items/{{item_id}}", responses=answers_of(ITEM, errors=OF_IDS))
    async def get_item(request: Request, conversation_id: ConversationId, item_id: ItemId) -> Response:
        """One of its items."""
        return json_response(encode_json(await conversations.item(caller_of(request).tenant, conversation_id, item_id)))

    @router.delete(f"{_PATH}/items/{{item_id}}", responses=answers_of(Conversation, errors=OF_IDS))
    async def delete_item(request: Request, conversation_id: ConversationId, item_id: ItemId) -> Response:
        """Forgets one of its items."""
        return json_response(_written(await conversations.delete_item(caller_of(request).tenant, conversation_id, item_id)))

    return router


def _written(kept: KeptConversation) -> bytes:
    return encode_json(Conversation(**msgspec.structs.asdict(kept)))


def _named(items: Sequence[InputItem]) -> list[dict[str, Any]]:
    return numbered([item.as_json() for item in items], ResponseName.fresh())

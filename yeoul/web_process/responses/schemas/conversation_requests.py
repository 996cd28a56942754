"""The requests of ``/v1/conversations``; knows nothing of routes or tables."""

from __future__ import annotations

from typing import Annotated, ClassVar

from msgspec import Meta

from yeoul.errors import InvalidRequestError
from yeoul.web_process.http.request_body import Metadata, RequestBody
from yeoul.web_process.responses.schemas.input_items import InputItem

_Struct = type[RequestBody]
NewItems = Annotated[list[InputItem], Meta(max_length=1024, description="What is added to it.")]


class ConversationRequest(RequestBody, kw_only=True):
    """A new conversation, or other metadata for one."""

    items: NewItems | None = None
    metadata: Metadata | None = None

    inner: ClassVar[dict[str, _Struct]] = {"items": InputItem}

    def __post_init__(self) -> None:
        check_items(self.items or [])


class ItemsRequest(RequestBody, kw_only=True):
    """More items of a conversation."""

    items: NewItems

    inner: ClassVar[dict[str, _Struct]] = {"items": InputItem}

    def __post_init__(self) -> None:
        check_items(self.items)


def check_items(items: list[InputItem]) -> None:
    """Raises InvalidRequestError for what is none by itself."""
    if any(item.kind == "item_reference" for item in items):
        raise InvalidRequestError("a conversation takes no item_reference; send the item itself", param="items")
    ids = [item.id for item in items if item.id is not None]
    if len(set(ids)) < len(ids):
        raise InvalidRequestError("two items have the same id; give each its own, or none", param="items")

"""Compaction: what came before in a conversation as one item, whose text the model has written; knows no engine and no route.

Clients take the item for a secret and send it back as it is. There is nothing in it that they have not seen or could not
ask for, so the text stands in it as Base64.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from yeoul.web_process.responses.schemas.input_items import InputItem

ASKED = (
    "Write down where this conversation stands, for somebody who goes on with it and sees nothing of it but your text and"
    " what the user has said: what is to be done, what has been done and found out, with the names, paths, commands and"
    " numbers that matter, what was decided and why, and what comes next. Write only that."
)
"""What the model is asked for in place of a ``compaction_trigger``."""

_MARK = "yeoul-1:"
_TOLD = "Where the conversation stands:\n\n"
_STAY = ("user", "system", "developer")


def sealed(text: str) -> str:
    """The ``encrypted_content`` of an item."""
    return _MARK + base64.b64encode(text.encode()).decode()


def opened(content: str) -> str:
    """The text of an item, as the model is told of it.

    Raises:
        ValueError: no server of ours has made it.
    """
    if content.startswith(_MARK):
        try:
            return _TOLD + base64.b64decode(content[len(_MARK) :], validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            pass
    raise ValueError(
        "an item of the type compaction was made by another server, which alone can read it, or is damaged: send the items"
        " that it stands for"
    )


def stays(item: InputItem) -> bool:
    """Whether an item is told beside the compaction that stands for what came before."""
    return item.kind == "message" and item.role in _STAY


def told(items: Sequence[InputItem]) -> list[InputItem]:
    """What of a conversation the model is told: what stays before the last compaction, and all from there on."""
    last = max((place for place, item in enumerate(items) if item.kind == "compaction"), default=0)
    left = [item for item in items[:last] if stays(item)] + list(items[last:])
    return [item for place, item in enumerate(left) if item.kind != "compaction_trigger" or place == len(left) - 1]

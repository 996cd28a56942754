"""The requests of Ollama's routes that make no text; knows nothing of routes or the engine."""

from __future__ import annotations

from typing import Annotated, ClassVar

from msgspec import Meta

from yeoul.web_process.http.openapi import says
from yeoul.web_process.http.request_body import RequestBody, ServedBody
from yeoul.web_process.ollama.schemas.keep_alive import KeepAlive
from yeoul.web_process.ollama.schemas.names import TaggedName
from yeoul.web_process.ollama.schemas.options import Options

MAX_NUM_INPUTS = 2048


class EmbedRequest(ServedBody, kw_only=True):
    """``POST /api/embed``."""

    model: TaggedName
    input: Annotated[
        str | Annotated[list[str], Meta(max_length=MAX_NUM_INPUTS)] | None,
        says("A text or several; without any this only asks for the model to be loaded."),
    ] = None
    truncate: Annotated[
        bool | None,
        says("Whether of a text that does not fit the beginning is taken, which is the default, or it is refused."),
    ] = None
    dimensions: (
        Annotated[
            int,
            Meta(
                ge=0,
                le=1 << 20,
                description="So many first values of a vector are kept, and its length made 1 again; 0: all.",
            ),
        ]
        | None
    ) = None
    options: Annotated[Options | None, says("Has no effect: vectors are not sampled.")] = None
    keep_alive: KeepAlive = None

    inner: ClassVar[dict[str, type[RequestBody]]] = {"options": Options}

    @property
    def inputs(self) -> list[str]:
        """The texts; an empty one alone asks only for the model to be loaded."""
        return self.input if isinstance(self.input, list) else [self.input] if self.input else []


class EmbeddingsRequest(ServedBody, kw_only=True):
    """``POST /api/embeddings``, the older form for one text."""

    model: TaggedName
    prompt: Annotated[str | None, says("The text; without it this only asks for the model to be loaded.")] = None
    options: Annotated[Options | None, says("Has no effect: vectors are not sampled.")] = None
    keep_alive: KeepAlive = None

    inner: ClassVar[dict[str, type[RequestBody]]] = {"options": Options}


class ModelRequest(RequestBody, kw_only=True):
    """What is about a model."""

    model: TaggedName | None = None
    name: Annotated[str | None, says("The older name of `model`.")] = None
    verbose: Annotated[bool | None, says("Has no effect.")] = None
    stream: Annotated[bool | None, says("Whether a pull is answered in lines, which is the default.")] = None

    def __post_init__(self) -> None:
        if not (self.model or self.name):
            raise ValueError("the field 'model' is missing")

    @property
    def wanted(self) -> str:
        """The name, wherever it stands."""
        return self.model or self.name or ""

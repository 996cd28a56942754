"""The requests of Ollama's routes that make no text; knows nothing of routes or the engine."""

from __future__ import annotations

from typing import Annotated, ClassVar

from msgspec import Meta

from yeoul.web_process.http.request_body import RequestBody, ServedBody
from yeoul.web_process.ollama.schemas.options import Options

MAX_NUM_INPUTS = 2048


class EmbedRequest(ServedBody, kw_only=True):
    """``POST /api/embed``. ``truncate`` is the default: of what does not fit the beginning is taken."""

    model: str
    input: str | Annotated[list[str], Meta(max_length=MAX_NUM_INPUTS)] | None = None
    truncate: bool | None = None
    dimensions: Annotated[int, Meta(ge=0, le=1 << 20)] | None = None
    options: Options | None = None

    inner: ClassVar[dict[str, type[RequestBody]]] = {"options": Options}

    @property
    def inputs(self) -> list[str]:
        """The texts; an empty one alone asks only for the model to be loaded."""
        return self.input if isinstance(self.input, list) else [self.input] if self.input else []


class EmbeddingsRequest(ServedBody, kw_only=True):
    """``POST /api/embeddings``, the older form for one text."""

    model: str
    prompt: str | None = None
    options: Options | None = None

    inner: ClassVar[dict[str, type[RequestBody]]] = {"options": Options}


class ModelRequest(RequestBody, kw_only=True):
    """What is about a model: ``name`` is the older ``model``."""

    model: str | None = None
    name: str | None = None
    verbose: bool | None = None
    stream: bool | None = None

    def __post_init__(self) -> None:
        if not (self.model or self.name):
            raise ValueError("the field 'model' is missing")

    @property
    def wanted(self) -> str:
        """The name, wherever it stands."""
        return self.model or self.name or ""

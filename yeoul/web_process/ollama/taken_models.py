"""take_model(): the model of one of Ollama's requests, and how long it is to stay; knows no route."""

from __future__ import annotations

from fastapi import Request

from yeoul.web_process.engine.served_name import ServedName
from yeoul.web_process.ollama.schemas.keep_alive import seconds_of
from yeoul.web_process.ollama.schemas.others import EmbeddingsRequest, EmbedRequest
from yeoul.web_process.ollama.schemas.requests import TextRequest
from yeoul.web_process.server_context import ServerContext


async def take_model(
    context: ServerContext, request: Request, name: str, body: TextRequest | EmbedRequest | EmbeddingsRequest
) -> ServedName:
    """Errors as for ``find_model``; a ``keep_alive`` that is none is an InvalidRequestError. The one model always stays."""
    if body.keep_alive is not None:
        if context.fleet.is_lasting:
            request.state.unknown_fields.note("keep_alive")
        else:
            context.fleet.keep(context.fleet.find(name), seconds_of(body.keep_alive))
    return await context.find_model(name)


async def load_or_unload(context: ServerContext, model: ServedName, keep_alive: float | str | None) -> str:
    """What a request without anything to answer asks for: which of both it was."""
    if keep_alive is not None and not context.fleet.is_lasting and seconds_of(keep_alive) == 0:
        context.fleet.unload(context.fleet.find(model.name))
        return "unload"
    await context.fleet.until_loaded(model.llm)
    return "load"

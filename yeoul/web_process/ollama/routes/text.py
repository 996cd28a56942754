"""``POST /api/chat`` and ``/api/generate``; knows the shape of request and answer, nothing of how tokens are made."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response

from yeoul.errors import InvalidRequestError
from yeoul.web_process.answers.conversation import StartedChat, start_chat
from yeoul.web_process.engine.admission import named_as
from yeoul.web_process.engine.answer_grammars import AnswerForm
from yeoul.web_process.engine.prompt_frame import PromptFrame
from yeoul.web_process.engine.served_name import ServedName
from yeoul.web_process.http.answering import respond
from yeoul.web_process.http.caller import caller_of
from yeoul.web_process.http.openapi import body_of
from yeoul.web_process.http.writing import json_response
from yeoul.web_process.ollama.line_format import ChatFormat, GenerateFormat, LineFormat, encode, written_time
from yeoul.web_process.ollama.schemas.answers import ChatAnswer, GeneratedText, answers
from yeoul.web_process.ollama.schemas.requests import ChatRequest, GenerateRequest, TextRequest
from yeoul.web_process.ollama.taken_models import load_or_unload, take_model
from yeoul.web_process.server_context import ServerContext


def text_router(context: ServerContext) -> APIRouter:
    """The routes, bound to the engine."""
    router = APIRouter()

    @router.post("/api/chat", responses=answers(ChatAnswer, in_lines=True), openapi_extra=body_of(ChatRequest))
    async def chat(request: Request) -> Response:
        """Answers the last message of a chat, line by line unless stream is false."""
        body = await context.bodies.read(request, ChatRequest)
        model = await take_model(context, request, body.model, body)
        if not body.messages:
            reason = await load_or_unload(context, model, body.keep_alive)
            return _loaded(body.model, reason, {"message": {"role": "assistant", "content": ""}})
        return await answer(request, body, model, ChatFormat)

    @router.post("/api/generate", responses=answers(GeneratedText, in_lines=True), openapi_extra=body_of(GenerateRequest))
    async def generate(request: Request) -> Response:
        """Answers a prompt, line by line unless stream is false."""
        body = await context.bodies.read(request, GenerateRequest)
        model = await take_model(context, request, body.model, body)
        if not body.prompt:
            return _loaded(body.model, await load_or_unload(context, model, body.keep_alive), {"response": ""})
        return await answer(request, body, model, GenerateFormat)

    async def answer(
        request: Request, body: ChatRequest | GenerateRequest, model: ServedName, make_format: type[LineFormat]
    ) -> Response:
        _check_thinking(body, model)
        if isinstance(body, GenerateRequest) and body.is_text:
            started = await continue_text(request, body, model)
        else:
            conversation = body.conversation(context.to_sampling(body, model), request.state.num_body_bytes)
            started = await start_chat(model, conversation, context.terms(caller_of(request), body, model))
        request.state.unknown_fields.note(*body.without_effect(started.unread))
        return await respond(
            request,
            started.stream,
            lambda: make_format(body.model, started.stream, model=model, make_reader=started.make_reader),
            streams=body.streams,
            keep_alive_seconds=context.settings.time.keep_alive_seconds,
        )

    async def continue_text(request: Request, body: GenerateRequest, model: ServedName) -> StartedChat:
        wanted = body.wanted()
        with named_as("prompt"):
            stream = await model.llm.submit(
                [body.prompt or ""],
                context.to_sampling(body, model),
                terms=context.terms(caller_of(request), body, model),
                form=None if wanted is None else AnswerForm(wanted),
                frame=PromptFrame(suffix=body.suffix or None),
            )
        return StartedChat(stream, None, set(body.template_arguments()))

    return router


def _check_thinking(body: TextRequest, model: ServedName) -> None:
    if body.think and body.think != "none" and model.llm.text.families.reasoning is None:
        raise InvalidRequestError(
            f"{model.name!r} does not support thinking, as far as its chat template tells: leave think out, or start the"
            " server with --reasoning-parser",
            param="think",
        )


def _loaded(name: str, reason: str, fields: dict[str, Any]) -> Response:
    """To a request without anything to answer, which asks for the model to be loaded or unloaded."""
    head = {"model": name, "created_at": written_time()}
    return json_response(encode({**head, **fields, "done": True, "done_reason": reason}))

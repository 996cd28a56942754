"""``POST /v1/messages`` and ``/v1/messages/count_tokens``; know nothing of how tokens are made."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from yeoul.messages.sampling import SamplingParams
from yeoul.web_process.answers.conversation import read_chat, start_chat
from yeoul.web_process.anthropic.answer_blocks import encode_json
from yeoul.web_process.anthropic.errors import BEGINNING
from yeoul.web_process.anthropic.message_format import MessageFormat
from yeoul.web_process.anthropic.schemas.answers import EVENTS, AnswerOfMessage, AnthropicError, TokenCount
from yeoul.web_process.anthropic.schemas.messages import CountTokensRequest, MessagesRequest
from yeoul.web_process.http.answering import respond
from yeoul.web_process.http.caller import caller_of
from yeoul.web_process.http.openapi import answers_of, body_of
from yeoul.web_process.http.writing import json_response
from yeoul.web_process.server_context import ServerContext


def messages_router(context: ServerContext) -> APIRouter:
    """The routes, bound to the engine."""
    router = APIRouter()

    @router.post(
        BEGINNING,
        responses=answers_of(AnswerOfMessage, error=AnthropicError, events=EVENTS),
        openapi_extra=body_of(MessagesRequest),
    )
    async def create_message(request: Request) -> Response:
        """Answers the last message of a conversation, as Anthropic's API does."""
        body = await context.bodies.read(request, MessagesRequest)
        model = await context.find_model(body.model)
        conversation = body.conversation(context.to_sampling(body, model), request.state.num_body_bytes)
        chat = await start_chat(model, conversation, context.terms(caller_of(request), body, model))
        request.state.unknown_fields.note(*body.without_effect(chat.unread))
        return await respond(
            request,
            chat.stream,
            lambda: MessageFormat(
                body, chat.stream, model=model, make_reader=chat.make_reader, spell_error=request.state.error_shape
            ),
            streams=body.stream is True,
            keep_alive_seconds=context.settings.time.keep_alive_seconds,
        )

    @router.post(
        f"{BEGINNING}/count_tokens",
        responses=answers_of(TokenCount, error=AnthropicError),
        openapi_extra=body_of(CountTokensRequest),
    )
    async def count_tokens(request: Request) -> Response:
        """How many tokens a conversation has, as ``/v1/messages`` counts them."""
        body = await context.bodies.read(request, CountTokensRequest)
        model = await context.find_model(body.model)
        terms = context.terms(caller_of(request), body, model)
        conversation = body.conversation(SamplingParams(), request.state.num_body_bytes)
        token_ids, unread = await read_chat(model, conversation, terms)
        request.state.unknown_fields.note(*body.without_effect(unread))
        return json_response(encode_json(TokenCount(input_tokens=len(token_ids))))

    return router

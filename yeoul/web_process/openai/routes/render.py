"""What a request would make the model read, without asking it: routers count on it for whose cache has a prompt.

``POST /v1/chat/completions/render`` and ``/v1/completions/render`` (vLLM's), ``/v1/chat/completions/input_tokens`` and
``/apply-template`` (llama.cpp's).
"""

from __future__ import annotations

import msgspec
from fastapi import APIRouter, Request, Response

from yeoul.messages.sampling import SamplingParams
from yeoul.web_process.answers.conversation import read_chat, render
from yeoul.web_process.engine.admission import check_token_ids, named_as
from yeoul.web_process.engine.service_terms import ServiceTerms
from yeoul.web_process.engine.ticket import guess_num_tokens
from yeoul.web_process.http.caller import caller_of
from yeoul.web_process.http.openapi import answers_of, array_of, body_of
from yeoul.web_process.http.writing import encode_list, json_response, write_apart
from yeoul.web_process.openai.json_writing import encode_json
from yeoul.web_process.openai.schemas.answers import InputTokens, PromptOfChat, RenderedPrompt
from yeoul.web_process.openai.schemas.chat import ChatRequest
from yeoul.web_process.openai.schemas.completions import CompletionRequest
from yeoul.web_process.server_context import ServerContext

_FEW_TOKENS = 4096
_LIST = array_of(RenderedPrompt)


def render_router(context: ServerContext) -> APIRouter:
    """The routes, bound to the tokenizer."""
    router = APIRouter()

    @router.post("/v1/chat/completions/render", responses=answers_of(RenderedPrompt), openapi_extra=body_of(ChatRequest))
    async def render_chat(request: Request) -> Response:
        """The tokens of a chat, as it would be answered."""
        body = await context.bodies.read(request, ChatRequest)
        model = await context.find_model(body.model)
        terms = context.terms(caller_of(request), body, model)
        conversation = body.conversation(context.to_sampling(body, model), request.state.num_body_bytes)
        read, unread = await read_chat(model, conversation, terms)
        request.state.unknown_fields.note(*body.without_effect(unread))
        limits = model.llm.limits
        with named_as(conversation.field):
            token_ids = check_token_ids(conversation.frame.cut(read, conversation.sampling, limits), limits)
        return await _answer([token_ids], model.name, conversation.sampling, terms, is_list=False)

    @router.post("/v1/chat/completions/input_tokens", responses=answers_of(InputTokens), openapi_extra=body_of(ChatRequest))
    async def count_tokens(request: Request) -> Response:
        """How many tokens the prompt of a chat has, however many there may be."""
        body = await context.bodies.read(request, ChatRequest)
        model = await context.find_model(body.model)
        conversation = body.conversation(context.to_sampling(body, model), request.state.num_body_bytes)
        token_ids, unread = await read_chat(model, conversation, context.terms(caller_of(request), body, model))
        request.state.unknown_fields.note(*body.without_effect(unread))
        return json_response(encode_json(InputTokens(input_tokens=len(token_ids))))

    @router.post("/v1/completions/render", responses=answers_of(_LIST), openapi_extra=body_of(CompletionRequest))
    async def render_completion(request: Request) -> Response:
        """The tokens of each prompt."""
        body = await context.bodies.read(request, CompletionRequest)
        model = await context.find_model(body.model)
        terms, sampling = context.terms(caller_of(request), body, model), context.to_sampling(body, model)
        adds_special_tokens = body.add_special_tokens is not False
        num_tokens = guess_num_tokens(request.state.num_body_bytes)
        with model.llm.take_ticket(terms, len(body.prompt), num_tokens) as ticket:
            async with ticket.in_time():
                token_ids = await model.llm.text.tokenize_all(
                    body.prompt, sampling, model.llm.limits, adds_special_tokens, terms.tenant, body.frame(body.suffix)
                )
        return await _answer(token_ids, model.name, sampling, terms, is_list=True)

    @router.post("/apply-template", responses=answers_of(PromptOfChat), openapi_extra=body_of(ChatRequest))
    async def apply_template(request: Request) -> Response:
        """The text of a chat as the model's template writes it."""
        body = await context.bodies.read(request, ChatRequest)
        model = await context.find_model(body.model)
        terms, num_bytes = context.terms(caller_of(request), body, model), request.state.num_body_bytes
        with model.llm.take_ticket(terms, 1, guess_num_tokens(num_bytes)) as ticket:
            async with ticket.in_time():
                prompt, unread = await render(model, body.conversation(context.to_sampling(body, model), num_bytes), terms)
        request.state.unknown_fields.note(*body.without_effect(unread))
        return json_response(encode_json(PromptOfChat(prompt=prompt)))

    return router


async def _answer(
    token_ids: list[list[int]], name: str, sampling: SamplingParams, terms: ServiceTerms, *, is_list: bool
) -> Response:
    """As vLLM tells of prompts; long ones are written in a thread."""
    about = {
        "model": name,
        "sampling_params": msgspec.to_builtins(sampling),
        "priority": terms.priority,
        "features": None,
        "stream": False,
    }

    def written() -> bytes:
        head = encode_json(about)[:-1]
        entries = [b'%b,"token_ids":%b}' % (head, encode_list(tokens)) for tokens in token_ids]
        return b"[%b]" % b",".join(entries) if is_list else entries[0]

    return json_response(written() if sum(map(len, token_ids)) <= _FEW_TOKENS else await write_apart(written))

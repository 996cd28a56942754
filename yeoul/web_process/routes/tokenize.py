"""``POST /tokenize`` and ``/detokenize``; knows the tokenizer, and nothing of the engine."""

from __future__ import annotations

from fastapi import APIRouter, Request

from yeoul.web_process.admission import check_text_length, check_token_ids
from yeoul.web_process.body_reader import read_body
from yeoul.web_process.errors_http import named_as
from yeoul.web_process.routes.openapi import answers_of, body_of
from yeoul.web_process.schemas.answers import DETOKENIZED, TOKENS
from yeoul.web_process.schemas.texts import DetokenizeRequest, TokenizeRequest
from yeoul.web_process.server_context import ServerContext


def tokenize_router(context: ServerContext) -> APIRouter:
    """The routes, bound to the tokenizer."""
    router = APIRouter()

    @router.post("/tokenize", responses=answers_of(TOKENS), openapi_extra=body_of(TokenizeRequest))
    async def tokenize(request: Request) -> dict[str, object]:
        """The tokens of a text, or of a chat as the model's template writes it."""
        body = await read_body(request, TokenizeRequest, context.max_body_bytes)
        context.check_model(body.model)
        text = context.llm.text
        if body.messages is None:
            prompt, adds_special_tokens = body.prompt or "", body.add_special_tokens is not False
        else:
            messages = [message.for_template() for message in body.messages]
            adds_generation_prompt = body.add_generation_prompt is not False
            prompt = await text.render_chat(messages, add_generation_prompt=adds_generation_prompt)
            adds_special_tokens = body.add_special_tokens is True
        check_text_length(prompt, context.llm.limits)
        token_ids = await text.encode(prompt, adds_special_tokens)
        return {
            "count": len(token_ids),
            "max_model_len": context.llm.limits.max_model_len,
            "tokens": token_ids,
            "token_strs": list(map(text.tokenizer.token_text, token_ids)) if body.return_token_strs else None,
        }

    @router.post("/detokenize", responses=answers_of(DETOKENIZED), openapi_extra=body_of(DetokenizeRequest))
    async def detokenize(request: Request) -> dict[str, object]:
        """The text of tokens."""
        body = await read_body(request, DetokenizeRequest, context.max_body_bytes)
        context.check_model(body.model)
        with named_as("tokens"):
            token_ids = check_token_ids(body.tokens, context.llm.limits) if body.tokens else []
        return {"prompt": context.llm.text.tokenizer.decode(token_ids, skip_special_tokens=False)}

    return router

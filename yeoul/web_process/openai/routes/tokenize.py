"""``POST /tokenize`` and ``/detokenize``; knows the tokenizer, and nothing of the engine."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from yeoul.web_process.engine.admission import check_text_length, check_token_ids, named_as
from yeoul.web_process.engine.model_text import ModelText
from yeoul.web_process.engine.ticket import guess_num_tokens
from yeoul.web_process.http.caller import caller_of
from yeoul.web_process.http.openapi import answers_of, body_of
from yeoul.web_process.http.writing import encode_list, json_response, write_apart
from yeoul.web_process.openai.json_writing import encode_json
from yeoul.web_process.openai.schemas.answers import Detokenized, TokenizerInfo, Tokens
from yeoul.web_process.openai.schemas.texts import DetokenizeRequest, TokenizeRequest
from yeoul.web_process.server_context import AskedModel, ServerContext

_FEW_TOKENS = 4096


def tokenize_router(context: ServerContext) -> APIRouter:
    """The routes, bound to the tokenizer."""
    router = APIRouter()

    @router.post("/tokenize", responses=answers_of(Tokens), openapi_extra=body_of(TokenizeRequest))
    async def tokenize(request: Request) -> Response:
        """The tokens of a text, or of a chat as the model's template writes it."""
        body = await context.bodies.read(request, TokenizeRequest)
        model = await context.find_model(body.model)
        text, terms = model.llm.text, context.terms(caller_of(request), model=model)
        with model.llm.take_ticket(terms, 1, guess_num_tokens(request.state.num_body_bytes)) as ticket:
            async with ticket.in_time():
                if body.messages is None:
                    prompt, adds_special_tokens = body.prompt or "", body.add_special_tokens is not False
                else:
                    messages = body.messages
                    prompt, _ = await text.render_chat(
                        lambda: [message.for_template() for message in messages],
                        request.state.num_body_bytes,
                        tools=[tool.offered.for_template() for tool in body.tools or ()] or None,
                        add_generation_prompt=body.add_generation_prompt is not False,
                        template_arguments=body.chat_template_kwargs,
                        tenant=terms.tenant,
                    )
                    adds_special_tokens = body.add_special_tokens is True
                check_text_length(prompt, model.llm.limits)
                token_ids = await text.encode(prompt, adds_special_tokens, terms.tenant)

        def written() -> bytes:
            texts = encode_list(token_ids, text.tokenizer.token_text) if body.return_token_strs else b"null"
            numbers = (len(token_ids), model.llm.limits.max_model_len)
            return b'{"count":%d,"max_model_len":%d,"tokens":%b,"token_strs":%b}' % (*numbers, encode_list(token_ids), texts)

        return json_response(written() if len(token_ids) <= _FEW_TOKENS else await write_apart(written))

    @router.post("/detokenize", responses=answers_of(Detokenized), openapi_extra=body_of(DetokenizeRequest))
    async def detokenize(request: Request) -> Response:
        """The text of tokens."""
        body = await context.bodies.read(request, DetokenizeRequest)
        model = await context.find_model(body.model)
        with named_as("tokens"):
            token_ids = check_token_ids(body.tokens, model.llm.limits) if body.tokens else []
        prompt = model.llm.text.tokenizer.decode(token_ids, skip_special_tokens=False)
        return json_response(encode_json(Detokenized(prompt=prompt)))

    @router.get("/tokenizer_info", responses=answers_of(TokenizerInfo, errors={404, 503}))
    async def tokenizer_info(model: AskedModel = None) -> Response:
        """What a client needs to know to count tokens by itself."""
        llm = (await context.find_shown(model)).llm
        return json_response(encode_json(_about(llm.text, llm.limits.max_model_len)))

    return router


def _about(text: ModelText, max_model_len: int) -> TokenizerInfo:
    tokenizer = text.tokenizer
    eos_tokens = [tokenizer.token_text(token_id) for token_id in tokenizer.eos_token_ids]
    return TokenizerInfo(
        vocab_size=tokenizer.vocab_size,
        model_max_length=max_model_len,
        bos_token=None if tokenizer.bos_token_id is None else tokenizer.token_text(tokenizer.bos_token_id),
        # The first under vLLM's name, too: lm-eval counts tokens here where it finds it.
        eos_token=next(iter(eos_tokens), None),
        eos_tokens=eos_tokens,
        special_token_ids=sorted(tokenizer.special_token_ids),
        added_tokens=dict(tokenizer.added_tokens),
        chat_template=text.template_source,
    )

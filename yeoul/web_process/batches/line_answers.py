"""LineAnswers: answers a line of a batch as the route of its ``url`` would, without HTTP; knows no file and no store.

What cannot be answered for reasons of its own has an error as its answer. While the engine starts or recovers, a line waits.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import msgspec

from yeoul.errors import BusyError, InvalidRequestError, ProcessDeadError, YeoulError
from yeoul.web_process.answers.sampled_body import SampledBody
from yeoul.web_process.batches.batch_lines import AnsweredLine, BatchLine, write_response
from yeoul.web_process.batches.response_lines import start_line_response
from yeoul.web_process.http.error_responses import foreseen, openai_error
from yeoul.web_process.http.request_body import ServedBody, parse_body
from yeoul.web_process.http.unknown_fields import UnknownFields
from yeoul.web_process.openai.schemas.chat import ChatRequest
from yeoul.web_process.openai.schemas.completions import CompletionRequest
from yeoul.web_process.openai.schemas.texts import EmbeddingRequest
from yeoul.web_process.openai.started_answers import (
    MakeTerms,
    StartedAnswer,
    start_chat_completion,
    start_completion,
    start_embeddings,
)
from yeoul.web_process.responses.schemas.response_request import ResponseRequest
from yeoul.web_process.server_context import ServerContext

logger = logging.getLogger(__name__)

_MAX_BYTES_ON_LOOP = 1 << 14
_PAUSES_SECONDS = (0.05, 0.1, 0.25, 0.5, 1.0)


class _Endpoint(NamedTuple):
    """The body of its requests, and what answers them."""

    body: type[ServedBody]
    start: Callable[[ServerContext, Any, int, MakeTerms], Awaitable[StartedAnswer[Any, Any]]]


ENDPOINTS: dict[str, _Endpoint] = {
    "/v1/chat/completions": _Endpoint(ChatRequest, start_chat_completion),
    "/v1/completions": _Endpoint(
        CompletionRequest, lambda context, body, _, make_terms: start_completion(context, body, make_terms)
    ),
    "/v1/responses": _Endpoint(ResponseRequest, start_line_response),
    "/v1/embeddings": _Endpoint(EmbeddingRequest, start_embeddings),
}
"""What the requests of a batch may be, by their url."""


class LineAnswers:
    """The answers to the lines of one batch.

    Args:
        context: of the server.
        make_terms: on what terms they are served.
        of_all: the name of the batch, from which ids and seeds are made.
    """

    def __init__(self, context: ServerContext, make_terms: MakeTerms, of_all: str) -> None:
        self._context = context
        self._make_terms = make_terms
        self._of_all = of_all

    async def answer(self, line: BatchLine) -> AnsweredLine:
        """The answer, or the error that is one.

        Raises:
            ProcessDeadError: the engine is dead for good.
        """
        attempt = 0
        while True:
            try:
                return await self._answer(line)
            except ProcessDeadError:
                raise
            except Exception as error:
                if isinstance(error, BusyError) and not error.is_final:
                    await asyncio.sleep(_PAUSES_SECONDS[min(attempt, len(_PAUSES_SECONDS) - 1)])
                    attempt += 1
                    continue
                if not isinstance(error, YeoulError):
                    logger.exception("the line %r of %s failed", line.custom_id[:60], self._of_all)
                told = foreseen(error)
                return write_response(line, self._of_all, told.status, "", msgspec.json.encode(openai_error(told)))

    async def _answer(self, line: BatchLine) -> AnsweredLine:
        endpoint = ENDPOINTS[line.url]
        raw = bytes(line.body)
        unknown = UnknownFields(is_strict=self._context.settings.server.strict_requests)
        if len(raw) <= _MAX_BYTES_ON_LOOP:
            body = parse_body(raw, endpoint.body, unknown)
        else:
            body = await asyncio.to_thread(parse_body, raw, endpoint.body, unknown)
        if isinstance(body, SampledBody):
            if body.stream:
                raise InvalidRequestError("answers of a batch are written whole: leave stream out", param="stream")
            if body.seed is None:
                body.seed = line.seed(self._of_all)
        await self._context.fleet.until_found(body.model)  # nobody waits for it as people do, who order a model by asking
        started = await endpoint.start(self._context, body, len(raw), self._make_terms)
        outputs = await started.stream.collect()
        num_tokens = sum(len(output.token_ids) for output in outputs)
        return write_response(line, self._of_all, 200, started.stream.request_id, await started.written(outputs), num_tokens)

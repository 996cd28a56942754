"""``/v1/responses``; knows the shape of request and answer, nothing of how tokens are made."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated

import msgspec
from fastapi import APIRouter, Path, Query, Request, Response
from starlette.responses import StreamingResponse

from yeoul.errors import InvalidRequestError, RequestFailedError, UnavailableError
from yeoul.messages.sampling import SamplingParams
from yeoul.web_process.answers.conversation import read_chat
from yeoul.web_process.http.answering import collect, respond
from yeoul.web_process.http.caller import caller_of
from yeoul.web_process.http.openapi import OF_IDS, answers_of, body_of
from yeoul.web_process.http.sse import EVENT_HEADERS, EVENTS
from yeoul.web_process.http.writing import json_response, write_apart
from yeoul.web_process.responses.background import BackgroundRequest, BackgroundResponses, BackgroundRun
from yeoul.web_process.responses.compaction import stays
from yeoul.web_process.responses.elsewhere import EventsElsewhere
from yeoul.web_process.responses.event_log import block_of, read_packed
from yeoul.web_process.responses.kept_responses import KeptResponses, numbered
from yeoul.web_process.responses.new_responses import conversation_of, kept_answer, start_response
from yeoul.web_process.responses.pages import After, Limit, Order, Page, page_of
from yeoul.web_process.responses.response_object import ResponseName, ResponseObject, encode_json
from yeoul.web_process.responses.schemas.answers import CompactedResponse, DeletedResponse, InputTokens, ItemList
from yeoul.web_process.responses.schemas.answers import Response as ResponseAnswer
from yeoul.web_process.responses.schemas.events import EVENTS as EVENTS_OF_RESPONSE
from yeoul.web_process.responses.schemas.response_request import CompactRequest, InputTokensRequest, ResponseRequest
from yeoul.web_process.server_context import ServerContext
from yeoul.web_process.siblings import NO_SIBLINGS
from yeoul.web_process.store.response_table import KeptResponse

ResponseId = Annotated[str, Path(description="The id of a response.")]
Streams = Annotated[bool, Query(description="Whether to tell it as events, where they are kept.")]
StartingAfter = Annotated[
    int | None, Query(ge=-1, le=2**53, description="The sequence number of the event behind which to begin.")
]


class ResponseRoutes:
    """What the routes do."""

    def __init__(self, context: ServerContext, kept: KeptResponses) -> None:
        self._context = context
        self._kept = kept
        self._background = BackgroundResponses(context, kept)
        context.lasting.append(self._background)
        self._elsewhere = EventsElsewhere(context.siblings, self._background, kept)
        context.asked[self._elsewhere.name] = self._elsewhere.answer

    async def create(self, request: Request) -> Response:
        """Answers, whole, as typed events, or in the background."""
        context = self._context
        body = await context.bodies.read(request, ResponseRequest)
        model, caller, name = await context.find_model(body.model), caller_of(request), ResponseName.fresh()
        sampling = context.to_sampling(body, model)
        if sampling.seed is None:
            body.seed = model.llm.draw_seed()
            sampling = msgspec.structs.replace(sampling, seed=body.seed)
        found = await self._kept.context(caller.tenant, body, name, request.state.num_body_bytes)
        response = ResponseObject(name, body, model.name, sampling)
        kept = KeptResponse(
            id=name.id,
            owner=caller.tenant,
            input=found.input,
            previous_id=body.previous_response_id,
            conversation_id=body.conversation_id,
        )
        terms = context.terms(caller, body, model)
        if body.background:
            await context.fleet.until_loaded(model.llm)
            again = BackgroundRequest(
                body=body,
                items=found.items,
                num_bytes=found.num_bytes,
                model=model.name,
                fingerprint=model.system_fingerprint,
                created_at=response.created_at,
            )
            response.status, kept.request = "queued", await asyncio.to_thread(encode_json, again)
            run = await self._background.start(kept, again, response, model, terms)
            return self._events(run, 0) if body.stream else json_response(run.now())
        started = await start_response(model, response, found.items, found.num_bytes, terms)
        request.state.unknown_fields.note(*started.without_effect)

        async def keep() -> None:
            started.answer.finish()
            if body.is_stored:
                await self._kept.keep(kept_answer(kept, started.answer))

        return await respond(
            request,
            started.stream,
            lambda: started.answer,
            streams=body.stream is True,
            keep_alive_seconds=context.settings.time.keep_alive_seconds,
            before_end=keep,
        )

    async def get(self, request: Request, response_id: str, stream: bool, starting_after: int | None) -> Response:
        """A response as it is, or its events from one number on."""
        owner, first = caller_of(request).tenant, 0 if starting_after is None else starting_after + 1
        if (run := self._background.find(owner, response_id)) is not None:
            return self._events(run, first) if stream else json_response(run.now())
        kept = await self._kept.responses.get(owner, response_id)
        if kept.answer is None and stream and self._context.siblings is not NO_SIBLINGS:
            seconds = self._context.settings.time.keep_alive_seconds
            return event_response(self._elsewhere.read(owner, response_id, first, seconds))
        if kept.answer is None:
            raise _not_here(response_id)
        if not stream:
            return json_response(kept.answer)
        place, blocks = await self._kept.responses.events(response_id, block_of(first))
        if not blocks:
            raise InvalidRequestError(
                f"the response {response_id!r} did not run in the background: its events were not kept; leave stream out",
                param="stream",
            )
        return event_response(read_packed(blocks, place, first))

    async def cancel(self, request: Request, response_id: str) -> Response:
        """Ends what runs in the background, with what it has."""
        owner = caller_of(request).tenant
        if (run := self._background.find(owner, response_id)) is not None:
            await run.cancel()
        kept = await self._finished(owner, response_id)
        if msgspec.json.decode(kept.answer or b"{}").get("background") is not True:
            raise InvalidRequestError(
                f"the response {response_id!r} did not run in the background; only such can be cancelled", param="response_id"
            )
        return json_response(kept.answer or b"")

    async def delete(self, request: Request, response_id: str) -> Response:
        """Forgets a response; one that runs ends."""
        owner = caller_of(request).tenant
        if (run := self._background.find(owner, response_id)) is not None:
            await run.cancel()
        await self._kept.responses.delete(owner, response_id)
        return json_response(encode_json(DeletedResponse(id=response_id)))

    async def input_items(self, request: Request, response_id: str, page: Page) -> Response:
        """What a response was given."""
        kept = await self._kept.responses.get(caller_of(request).tenant, response_id)
        return json_response(await asyncio.to_thread(lambda: page_of(msgspec.json.decode(kept.input), page)))

    async def input_tokens(self, request: Request) -> Response:
        """How many tokens the prompt of a request would have."""
        context = self._context
        body = await context.bodies.read(request, InputTokensRequest)
        model, caller = await context.find_model(body.model), caller_of(request)
        found = await self._kept.context(caller.tenant, body, ResponseName.fresh(), request.state.num_body_bytes)
        conversation = conversation_of(body, found.items, SamplingParams(), found.num_bytes)
        token_ids, unread = await read_chat(model, conversation, context.terms(caller, body, model))
        request.state.unknown_fields.note(*body.without_effect(unread))
        return json_response(encode_json(InputTokens(input_tokens=len(token_ids))))

    async def compact(self, request: Request) -> Response:
        """What the user has said, and one item for all else."""
        context = self._context
        body = (await context.bodies.read(request, CompactRequest)).as_response()
        model, caller, name = await context.find_model(body.model), caller_of(request), ResponseName.fresh()
        found = await self._kept.context(caller.tenant, body, name, request.state.num_body_bytes)
        response = ResponseObject(name, body, model.name, context.to_sampling(body, model))
        terms = context.terms(caller, body, model)
        started = await start_response(model, response, found.items, found.num_bytes, terms)
        request.state.unknown_fields.note(*started.without_effect)
        answer, outputs = started.answer, await collect(request, started.stream)
        await write_apart(lambda: answer.whole(outputs))
        compaction = next((item for item in msgspec.json.decode(answer.output()) if item["type"] == "compaction"), None)
        if compaction is None:
            raise RequestFailedError("the model wrote nothing that could stand for the conversation: go on with it as it is")
        said = await asyncio.to_thread(lambda: numbered([item.as_json() for item in found.items if stays(item)], name))
        written = {
            "id": name.id,
            "object": "response.compaction",
            "created_at": response.created_at,
            "output": [*said, compaction],
            "usage": answer.counts.as_json(),
        }
        return json_response(await write_apart(lambda: encode_json(written)))

    async def _finished(self, owner: str, response_id: str) -> KeptResponse:
        kept = await self._kept.responses.get(owner, response_id)
        if kept.answer is None:
            raise _not_here(response_id)
        return kept

    def _events(self, run: BackgroundRun, first: int) -> Response:
        return event_response(run.log.read(first, self._context.settings.time.keep_alive_seconds))


def _not_here(response_id: str) -> UnavailableError:
    return UnavailableError(f"the response {response_id!r} is about to go on; ask again in a moment")


def event_response(events: AsyncIterator[bytes]) -> Response:
    """A stream that nothing but its reader depends on."""
    return StreamingResponse(events, headers={"content-type": EVENTS.decode(), **EVENT_HEADERS})


def responses_router(context: ServerContext, kept: KeptResponses) -> APIRouter:
    """The routes, bound to the engine."""
    router, routes = APIRouter(), ResponseRoutes(context, kept)

    @router.post(
        "/v1/responses",
        responses=answers_of(ResponseAnswer, events=EVENTS_OF_RESPONSE),
        openapi_extra=body_of(ResponseRequest),
    )
    async def create_response(request: Request) -> Response:
        """Answers, whole, as typed events, or in the background."""
        return await routes.create(request)

    @router.post("/v1/responses/compact", responses=answers_of(CompactedResponse), openapi_extra=body_of(CompactRequest))
    async def compact_conversation(request: Request) -> Response:
        """Makes a long conversation short, to go on with."""
        return await routes.compact(request)

    @router.post("/v1/responses/input_tokens", responses=answers_of(InputTokens), openapi_extra=body_of(InputTokensRequest))
    async def count_input_tokens(request: Request) -> Response:
        """How many tokens the model would be told."""
        return await routes.input_tokens(request)

    @router.get(
        "/v1/responses/{response_id}", responses=answers_of(ResponseAnswer, events=EVENTS_OF_RESPONSE, errors=OF_IDS | {503})
    )
    async def get_response(
        request: Request, response_id: ResponseId, stream: Streams = False, starting_after: StartingAfter = None
    ) -> Response:
        """A response that is kept, or, of one in the background, its events behind a sequence number."""
        return await routes.get(request, response_id, stream, starting_after)

    @router.post("/v1/responses/{response_id}/cancel", responses=answers_of(ResponseAnswer, errors=OF_IDS | {503}))
    async def cancel_response(request: Request, response_id: ResponseId) -> Response:
        """Ends a response that runs in the background; it keeps what it has."""
        return await routes.cancel(request, response_id)

    @router.delete("/v1/responses/{response_id}", responses=answers_of(DeletedResponse, errors=OF_IDS))
    async def delete_response(request: Request, response_id: ResponseId) -> Response:
        """Forgets a response."""
        return await routes.delete(request, response_id)

    @router.get("/v1/responses/{response_id}/input_items", responses=answers_of(ItemList, errors=OF_IDS))
    async def list_input_items(
        request: Request, response_id: ResponseId, limit: Limit = 20, order: Order = "desc", after: After = None
    ) -> Response:
        """What a response was given."""
        return await routes.input_items(request, response_id, Page(limit, order, after))

    return router

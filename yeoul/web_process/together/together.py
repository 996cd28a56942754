"""Together: ASGI, around the routes of a web process that has siblings: their answers and its own become one.

What is one of all (a store, an engine's numbers) any process answers alone, and nothing of that comes by here. What a process
has of its own (requests, counters, threads) is joined; what only one of them can do (end a request, cancel a response that
it makes) the one does. A sibling answers for itself: its routes are asked below this.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import TypeVar
from urllib.parse import quote

import msgspec
from starlette.datastructures import QueryParams
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from yeoul.messages.siblings import SiblingAnswer, SiblingQuestion
from yeoul.messages.topology import Topology
from yeoul.web_process.live.requests.request_summary import RequestList, RequestSummary
from yeoul.web_process.live.topology.inside_answers import Log
from yeoul.web_process.server_context import ServerContext
from yeoul.web_process.together.events import JoinedEvents
from yeoul.web_process.together.inner_call import WholeAnswer, answer_sibling, call_inside, question_of, send_whole
from yeoul.web_process.together.joins import join_logs, join_requests, join_topologies
from yeoul.web_process.together.numbers import SharedNumbers

Join = Callable[[Scope, WholeAnswer], Awaitable[WholeAnswer]]
Struct = TypeVar("Struct", bound=msgspec.Struct)

_OK = 200
_LIST = "/debug/requests"
_EVENTS = ("GET", "/debug/events")
_ELSEWHERE = (404, 503)  # what one process says of what another one may have
_REFUSED = (401, 403)  # to this client, by any process
_YES = ("true", "1", "yes", "on", "t", "y")  # as FastAPI reads them
_LIVING = ("waiting", "running")
_encode = msgspec.json.Encoder().encode


class _Load(msgspec.Struct):
    server_load: int


class _Aborted(msgspec.Struct):
    aborted: bool


class Together:
    """``app`` is all routes with their guards; ``numbers`` joins ``/metrics``."""

    def __init__(self, app: ASGIApp, context: ServerContext, numbers: SharedNumbers) -> None:
        self._app = app
        self._siblings = context.siblings
        self._numbers = numbers
        self._joins: list[tuple[str, re.Pattern[str], Join]] = [
            (method, re.compile(pattern), join)
            for method, pattern, join in (
                ("GET", r"/metrics", self._join_metrics),
                ("GET", r"/load", self._join_load),
                ("GET", r"/topology", self._join_topology),
                ("GET", r"/debug/log", self._join_log),
                ("GET", r"/debug/stack/[^/]+", self._find_stack),
                ("GET", r"/debug/requests", self._join_requests),
                ("POST", r"/debug/requests/.+/abort", self._abort),
                ("GET", r"/debug/requests/.+/trace", self._find_elsewhere),
                ("GET", r"/debug/requests/.+", self._find_story),
                ("GET", r"/v1/responses/[^/]+", self._find_elsewhere),
                ("POST", r"/v1/responses/[^/]+/cancel", self._find_elsewhere),
            )
        ]
        self._deletes_response = re.compile(r"/v1/responses/[^/]+")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on, and joins what is to be joined."""
        if scope["type"] == "http" and (scope["method"], scope["path"]) == _EVENTS:
            await self._app(scope, receive, self._with_others(scope, send))
            return
        join = self._find_join(scope) if scope["type"] == "http" else None
        if join is None:
            if scope["type"] == "http" and scope["method"] == "DELETE" and self._deletes_response.fullmatch(scope["path"]):
                await self._end_elsewhere(scope)
            await self._app(scope, receive, send)
            return
        if scope["path"] == _LIST and (before := QueryParams(scope["query_string"]).get("before")):
            scope.setdefault("state", {})["edge"] = await self._find_arrival(scope, before)
        original = dict(scope)  # the routes change it
        answer = await join(original, await call_inside(self._app, scope, receive))
        await send_whole(answer, send)

    async def _end_elsewhere(self, scope: Scope) -> None:
        """A response that is to be deleted ends where it runs, if this client may see it."""
        path = (scope.get("raw_path") or scope["path"].encode()).decode("latin-1")
        looking = question_of({**scope, "query_string": b""}, method="GET")
        local = await answer_sibling(self._app, {}, self._siblings.index, looking)
        if local.status in (_OK, *_ELSEWHERE):
            await self._siblings.ask(question_of(scope, method="POST", path=f"{path}/cancel"))

    def _with_others(self, scope: Scope, send: Send) -> Send:
        asking = dict(scope)
        joined = JoinedEvents(
            self._siblings,
            self._ask_all,
            lambda path, query: question_of({**asking, "query_string": query.encode()}, path=path),
        )
        is_good = False

        async def send_joined(message: Message) -> None:
            nonlocal is_good
            if message["type"] == "http.response.start":
                is_good = message["status"] == _OK
            elif is_good and message.get("body"):
                message = {**message, "body": await joined.join(message["body"])}
            await send(message)

        return send_joined

    async def _ask_all(self, question: SiblingQuestion) -> list[SiblingAnswer]:
        own = answer_sibling(self._app, {}, self._siblings.index, question)
        answer, others = await asyncio.gather(own, self._siblings.ask(question))
        return [answer, *others]

    def _find_join(self, scope: Scope) -> Join | None:
        if scope["method"] == "HEAD" or QueryParams(scope["query_string"]).get("stream", "").lower() in _YES:
            return None
        for method, pattern, join in self._joins:
            if method == scope["method"] and pattern.fullmatch(scope["path"]):
                return join
        return None

    async def _ask(self, scope: Scope) -> list[SiblingAnswer]:
        return await self._siblings.ask(question_of(scope))

    async def _join_metrics(self, scope: Scope, local: WholeAnswer) -> WholeAnswer:
        return local._replace(body=await self._numbers.joined()) if local.status == _OK else local

    async def _join_load(self, scope: Scope, local: WholeAnswer) -> WholeAnswer:
        if local.status != _OK:
            return local
        own = msgspec.json.decode(local.body, type=_Load)
        others = _read(await self._ask(scope), _Load)
        return local._replace(body=_encode(_Load(own.server_load + sum(one.server_load for _, one in others))))

    async def _join_topology(self, scope: Scope, local: WholeAnswer) -> WholeAnswer:
        if local.status != _OK:
            return local
        others = await self._ask(scope)

        def work() -> bytes:
            own = msgspec.json.decode(local.body, type=Topology)
            return _encode(join_topologies(own, self._siblings.index, _read(others, Topology)))

        return local._replace(body=await asyncio.to_thread(work))

    async def _join_log(self, scope: Scope, local: WholeAnswer) -> WholeAnswer:
        if local.status in _REFUSED:
            return local
        answers = await self._ask(scope)
        if local.status != _OK:
            return _best(local, answers)
        limit = int(QueryParams(scope["query_string"]).get("limit", "1000"))

        def work() -> bytes:
            own = msgspec.json.decode(local.body, type=Log)
            return _encode(join_logs([own, *(log for _, log in _read(answers, Log))], limit))

        return local._replace(body=await asyncio.to_thread(work))

    async def _join_requests(self, scope: Scope, local: WholeAnswer) -> WholeAnswer:
        if local.status != _OK:
            return local
        answers, query = await self._ask(scope), QueryParams(scope["query_string"])
        limit, slowest = int(query.get("limit", "100")), query.get("order") == "slowest"

        def work() -> bytes:
            own = msgspec.json.decode(local.body, type=RequestList)
            pages = [own, *(page for _, page in _read(answers, RequestList))]
            return _encode(join_requests(pages, limit, slowest=slowest))

        return local._replace(body=await asyncio.to_thread(work))

    async def _find_arrival(self, scope: Scope, name: str) -> float | None:
        """When the last request of a page came, which may be known to one process alone."""
        question = question_of({**scope, "query_string": b""}, path=f"{_LIST}/{quote(name, safe='')}")
        own = await answer_sibling(self._app, {}, self._siblings.index, question)
        if own.status in _REFUSED:
            return None
        answers = [own, *await self._siblings.ask(question)]
        return max((one.arrived for _, one in _read(answers, RequestSummary)), default=None)

    async def _find_elsewhere(self, scope: Scope, local: WholeAnswer) -> WholeAnswer:
        return _best(local, await self._ask(scope)) if local.status in _ELSEWHERE else local

    async def _find_stack(self, scope: Scope, local: WholeAnswer) -> WholeAnswer:
        """Of another web process that one itself knows more than the keeper: its tasks."""
        index = scope["path"].rpartition("_")[2] if "/Web_" in scope["path"] else ""
        if index.isdigit() and int(index) != self._siblings.index:
            for answer in await self._ask(scope):
                if answer.index == int(index) and answer.status == _OK:
                    return local._replace(status=_OK, body=answer.body)
        return local

    async def _find_story(self, scope: Scope, local: WholeAnswer) -> WholeAnswer:
        """A name that clients gave may be that of several requests: the last one is meant, wherever it is."""
        if local.status not in (_OK, *_ELSEWHERE):
            return local
        if local.status == _OK:
            own = msgspec.json.decode(local.body, type=RequestSummary)
            if own.state in _LIVING or scope["path"].endswith(f"/{own.id}"):
                return local
        answers = await self._ask(scope)
        if local.status != _OK:
            return _best(local, answers)
        last, body = own.arrived, local.body
        for answer in answers:
            if (one := _decode(answer, RequestSummary)) is not None and one.arrived > last:
                last, body = one.arrived, answer.body
        return local._replace(body=body)

    async def _abort(self, scope: Scope, local: WholeAnswer) -> WholeAnswer:
        if local.status == _OK and msgspec.json.decode(local.body, type=_Aborted).aborted:
            return local
        if local.status not in (_OK, *_ELSEWHERE):
            return local
        answers = await self._ask(scope)
        for answer in answers:
            if (told := _decode(answer, _Aborted)) is not None and told.aborted:
                return local._replace(status=answer.status, body=answer.body)
        return local if local.status == _OK else _best(local, answers)


def _best(local: WholeAnswer, answers: list[SiblingAnswer]) -> WholeAnswer:
    """A good one of the siblings', or one's own."""
    for answer in answers:
        if answer.status not in (*_ELSEWHERE, 500):
            return local._replace(status=answer.status, body=answer.body)
    return local


def _decode(answer: SiblingAnswer, kind: type[Struct]) -> Struct | None:
    if answer.status != _OK:
        return None
    try:
        return msgspec.json.decode(answer.body, type=kind)
    except msgspec.MsgspecError:
        return None


def _read(answers: list[SiblingAnswer], kind: type[Struct]) -> list[tuple[int, Struct]]:
    decoded = ((answer.index, _decode(answer, kind)) for answer in answers)
    return [(index, one) for index, one in decoded if one is not None]

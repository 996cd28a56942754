"""Relay: stands for the engines towards the web processes, and for these towards the engines; knows no process and no text.

A web process speaks with it as with an EngineCore that never dies. Each gets what its own requests have gained, and hears of
all steps. ``KeeperLife`` makes it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence

import msgspec

from yeoul.engines.engine_observer import EngineObserver
from yeoul.engines.engine_slots import EngineSlots
from yeoul.engines.incidents import DeathCause
from yeoul.errors import InvalidRequestError, ProcessDeadError, YeoulError
from yeoul.keeper_process.relayed_requests import Owner, RelayedRequest, RelayTable
from yeoul.keeper_process.sibling_questions import SiblingQuestions
from yeoul.keeper_process.web_link import WebLink
from yeoul.log import of_request
from yeoul.messages.keeper import AskSiblings, Drained, EachEngine, KeeperNews, OthersWait, SiblingSays, WebMessage
from yeoul.messages.outputs import EngineDead, EngineReady, RequestFault, RequestOutput, StepFacts, StepOutputs, UtilityResult
from yeoul.messages.requests import AbortRequests, AddRequest, Hello, UtilityCall
from yeoul.messages.topology import Incident

logger = logging.getLogger(__name__)

_ENGINES_NOTICE_SECONDS = 0.25
_WAIT_NOTICE_SECONDS = 0.01  # between what others are told of what waits
_IDLE_STEPS = 64  # of which a web process is told at once that has nothing in them

Answer = Callable[[WebLink, list[str]], Awaitable[str]]


class Relay(EngineObserver):
    """``answers`` are the calls of web processes that are not passed on to the engines."""

    def __init__(self, num_engines: int, num_prefill_engines: int = 0) -> None:
        self.table = RelayTable(self, num_engines, num_prefill_engines)
        self.answers: dict[str, Answer] = {}
        self._engines: EngineSlots | None = None
        self._links: dict[int, WebLink] = {}
        self._ready: EngineReady | None = None
        self._siblings = SiblingQuestions(self._links)
        self._calls: set[asyncio.Task[None]] = set()
        self._incidents: list[Incident] = []
        self._deaths: list[tuple[str, str]] = []
        self._recoveries: list[float] = []
        self._untold: dict[int, tuple[list[tuple[str, str]], list[float]]] = {}  # deaths and recoveries, by place
        self._is_telling_news = self._is_telling_waits = self._is_telling_engines = False
        self._told_waits: dict[int, dict[str, tuple[int, int]]] = {}
        self.table.on_wait = self._note_waits

    @property
    def is_serving(self) -> bool:
        """Whether there may be web processes that have clients."""
        return self._ready is not None

    def serve(self, engines: EngineSlots, ready: EngineReady) -> None:
        """The engines take requests: whoever has said hello, or will, is told so."""
        self._engines, self._ready = engines, ready
        engines.incidents.listeners.append(self._note_incident)
        for link in self._links.values():
            self._welcome(link)

    def open(self, link: WebLink) -> None:
        """A web process is being started."""
        self._links[link.index] = link
        self._untold.setdefault(link.index, ([], []))

    def close(self, link: WebLink) -> None:
        """It has ended: nobody waits for its requests any longer."""
        link.close()
        if self._links.get(link.index) is link:
            del self._links[link.index]
        self._told_waits.pop(link.index, None)
        self.table.forget(link)
        self._siblings.forget(link.index)

    def tell_death(self, death: ProcessDeadError) -> None:
        """No engine is left: all web processes end, as one with engines of its own would."""
        for link in self._links.values():
            link.send(EngineDead(death.role, death.cause, death.details, death.exit_code, is_final=True))

    # What web processes say

    def take(self, link: WebLink, message: WebMessage) -> None:
        """On the loop, in the order in which it was said."""
        if isinstance(message, AddRequest):
            self._add(link, message)
        elif isinstance(message, AbortRequests):
            ours = [name for name in message.request_ids if self._is_of(link, name)]
            now = time.monotonic()
            for request in self.table.withdraw(ours, are_complete=message.are_complete):
                request.give_up(now)
            link.has_answered = link.has_answered or message.are_complete
        elif isinstance(message, UtilityCall):
            task = asyncio.create_task(self._answer(link, message), name="answer_web")
            self._calls.add(task)
            task.add_done_callback(self._calls.discard)
        elif isinstance(message, AskSiblings):
            self._siblings.ask(link, message)
        elif isinstance(message, SiblingSays):
            self._siblings.take(link, message)
        elif isinstance(message, Drained):
            link.has_drained.set()
        elif isinstance(message, Hello):
            link.is_greeting = True
            self._welcome(link)

    def _is_of(self, link: WebLink, request_id: str) -> bool:
        request = self.table.by_id.get(request_id)
        return request is not None and request.owner is link

    def _add(self, link: WebLink, add: AddRequest) -> None:
        if add.request_id in self.table.by_id:
            link.refuse(add.request_id, RequestFault("another request has this id", InvalidRequestError.status))
            return
        request = RelayedRequest(add, time.monotonic() - add.age_seconds, link)
        try:
            self.table.add_one(request)
        except Exception as error:
            logger.exception("this request cannot be passed on", extra=of_request(add.request_id))
            if add.request_id in self.table.by_id:
                self.table.end([add.request_id])
            link.refuse(add.request_id, RequestFault(f"the request cannot be passed on to an engine: {error}"))

    async def _answer(self, link: WebLink, call: UtilityCall) -> None:
        try:
            if call.method in self.answers:
                value = await self.answers[call.method](link, call.arguments)
            else:
                assert self._engines is not None, "it was told that engines are ready"
                value = await self._engines.call(call.method, call.arguments)
            result = UtilityResult(call.call_id, value)
        except YeoulError as error:
            result = UtilityResult(call.call_id, error=error.message)
        except TimeoutError:
            result = UtilityResult(call.call_id, error=f"no engine has answered to {call.method} in time")
        except Exception as error:
            logger.exception("%s has asked what could not be answered: %s", link.name, call.method)
            result = UtilityResult(call.call_id, error=f"{call.method} failed: {error}")
        link.send(result)

    # What they are told

    def _welcome(self, link: WebLink) -> None:
        if self._ready is None or self._engines is None or not link.is_greeting or link.is_welcome:
            return
        link.is_welcome = True
        link.send(self._engines.ready or self._ready)
        link.send(StepOutputs(statistics=self.table.statistics))
        link.send(_news(self._engines, self._engines.incidents.last))
        self._tell_waits()
        self._note_engines()

    def note_ready(self, link: WebLink) -> None:
        """It counts from now on: what nobody in this place could count is told to it."""
        link.is_counting = True
        deaths, recoveries = self._untold[link.index]
        if self._engines is not None and (deaths or recoveries):
            self._untold[link.index] = ([], [])
            link.send(_news(self._engines, [], deaths, recoveries))

    def stepped(self, message: StepOutputs) -> None:
        """Passes on what an engine has said to whom it concerns."""
        self._note_engines()
        outputs, begun = self._by_owner(message)
        for link in self._links.values():
            if not link.is_welcome:
                continue
            own = outputs.get(link, [])
            link.steps += message.steps if len(own) == len(message.outputs) else _steps_for(message, own)
            if own or link in begun or len(link.steps) >= _IDLE_STEPS or not message.steps:
                told = StepOutputs(own, self.table.statistics, begun.get(link, []), link.steps, message.sent, message.engine)
                link.send(told)
                link.steps = []
            if any(output.finish_reason is not None for output in own):
                link.has_answered = True

    def _by_owner(self, message: StepOutputs) -> tuple[dict[Owner, list[RequestOutput]], dict[Owner, list[str]]]:
        outputs: dict[Owner, list[RequestOutput]] = {}
        begun: dict[Owner, list[str]] = {}
        here = self.table.engines[message.engine].states  # what another engine has by now, this one speaks of too late
        for output in message.outputs:
            if isinstance(request := here.get(output.request_id), RelayedRequest) and output.turn == request.turn:
                told = output
                if output.is_kept or output.turn:  # of which whoever waits for it knows nothing
                    told = msgspec.structs.replace(output, is_kept=False, turn=0)
                outputs.setdefault(request.owner, []).append(told)
        for request_id in message.begun:
            if isinstance(request := here.get(request_id), RelayedRequest):
                begun.setdefault(request.owner, []).append(request_id)
        return outputs, begun

    def _note_engines(self) -> None:
        if not self._is_telling_engines and len(self.table.engines) > 1:
            self._is_telling_engines = True
            asyncio.get_running_loop().call_later(_ENGINES_NOTICE_SECONDS, self._tell_engines)

    def _tell_engines(self) -> None:
        self._is_telling_engines = False
        if self._engines is not None:
            told = EachEngine([slot.facts for slot in self._engines.slots])
            for link in self._links.values():
                if link.is_welcome:
                    link.send(told)

    def lost(self, role: str, cause: DeathCause) -> None:
        """See ``EngineObserver``."""
        self._deaths.append((role, cause))
        self._note_news()

    def replaced(self, seconds: float) -> None:
        """See ``EngineObserver``."""
        self._recoveries.append(seconds)
        self._note_news()

    def _note_incident(self, incident: Incident) -> None:
        self._incidents.append(incident)
        self._note_news()

    def _note_news(self) -> None:
        """Told once all that belongs together has been noted."""
        if not self._is_telling_news:
            self._is_telling_news = True
            asyncio.get_running_loop().call_soon(self._tell_news)

    def _tell_news(self) -> None:
        self._is_telling_news = False
        if (engines := self._engines) is None:
            return
        news = _news(engines, self._incidents, self._deaths, self._recoveries)
        self._incidents, self._deaths, self._recoveries = [], [], []
        for index, (deaths, recoveries) in self._untold.items():
            link = self._links.get(index)
            is_counting = link is not None and link.is_counting
            if not is_counting:  # whoever comes counts on from what was counted in this place
                deaths += news.deaths
                recoveries += news.recoveries
            if link is not None and link.is_welcome:
                link.send(news if is_counting else msgspec.structs.replace(news, deaths=[], recoveries=[]))
        self._note_engines()

    def _note_waits(self) -> None:
        are_several = len(self._links) > 1 or bool(self._told_waits)  # one that is alone now was told of another
        if not self._is_telling_waits and are_several:
            self._is_telling_waits = True
            asyncio.get_running_loop().call_later(_WAIT_NOTICE_SECONDS, self._tell_waits)

    def _tell_waits(self) -> None:
        """The waiting queue has room for so many of all together."""
        self._is_telling_waits = False
        own = {link.index: self.table.waiting_of(link) for link in self._links.values()}
        total: Counter[tuple[str, str]] = Counter()
        for counts in own.values():
            total.update(counts)
        for link in self._links.values():
            others = total - own[link.index]
            told = {tenant: (others[tenant, "requests"], others[tenant, "tokens"]) for tenant, _ in others}
            if link.is_welcome and told != self._told_waits.get(link.index, {}):
                self._told_waits[link.index] = told
                link.send(OthersWait(told))


def _news(
    engines: EngineSlots,
    incidents: Sequence[Incident],
    deaths: Sequence[tuple[str, str]] = (),
    recoveries: Sequence[float] = (),
) -> KeeperNews:
    restarts = dict(engines.incidents.num_restarts)
    return KeeperNews(list(incidents), restarts, list(deaths), list(recoveries), engines.lost, engines.state == "stalled")


def _steps_for(message: StepOutputs, own: list[RequestOutput]) -> list[StepFacts]:
    """The steps as they are for whom only these outputs are for."""
    names = {output.request_id for output in own}
    steps, start = [], 0
    for facts in message.steps:
        end = start + facts.num_outputs
        num_outputs = sum(output.request_id in names for output in message.outputs[start:end]) if own else 0
        prompts = [prompt for prompt in facts.prompts if prompt[0] in names]
        steps.append(_with(facts, num_outputs, prompts))
        start = end
    return steps


def _with(facts: StepFacts, num_outputs: int, prompts: list[tuple[str, int]]) -> StepFacts:
    return StepFacts(
        facts.number,
        facts.started,
        facts.seconds,
        facts.num_tokens,
        facts.num_requests,
        num_outputs,
        prompts,
        facts.parts,
    )

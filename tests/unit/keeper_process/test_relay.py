"""The relay between web processes and engines, with fakes at both ends."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import cast

import msgspec

from tests.unit.web_process.fake_engine_client import FakeEngineClient, settings, until
from yeoul.config.parts import EnginePlace
from yeoul.config.settings import Settings
from yeoul.engines.engine_slots import EngineSlots
from yeoul.keeper_process.relay import Relay
from yeoul.keeper_process.web_link import WebLink
from yeoul.messages.keeper import AskSiblings, KeeperMessage, KeeperNews, OthersWait, SiblingAsks, SiblingSays, SiblingsSay
from yeoul.messages.outputs import (
    EngineReady,
    RequestOutput,
    StepFacts,
    StepOutputs,
    UtilityResult,
    WorkersLost,
    WorkersReplaced,
)
from yeoul.messages.requests import AbortRequests, AddRequest, Hello, UtilityCall
from yeoul.messages.sampling import SamplingParams
from yeoul.messages.siblings import SiblingAnswer, SiblingQuestion
from yeoul.model_files.describe import describe
from yeoul.model_files.description import ModelDescription, ModelFiles

FILES = ModelFiles(name="fake", file_format="fake", path="")
LIMIT_SECONDS = 60.0


class FakeLink(WebLink):
    """Keeps what a web process would be sent."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.is_greeting = self.is_welcome = self.is_counting = self.has_answered = False
        self.has_drained = asyncio.Event()
        self.steps = []
        self.sent: list[KeeperMessage] = []

    def send(self, message: KeeperMessage) -> None:
        self.sent.append(message)

    def close(self) -> None:
        pass

    @property
    def outputs(self) -> list[RequestOutput]:
        return [output for message in self.sent if isinstance(message, StepOutputs) for output in message.outputs]

    @property
    def facts(self) -> list[StepFacts]:
        return [facts for message in self.sent if isinstance(message, StepOutputs) for facts in message.steps]

    def tokens_of(self, request_id: str) -> bytes:
        return bytes(
            token for one in self.outputs if one.request_id == request_id for token in one.new_token_ids if token < 256
        )

    def last(self, kind: type[msgspec.Struct]) -> object:
        return next(message for message in reversed(self.sent) if isinstance(message, kind))


class Scene:
    """A relay before one engine, or more, with two web processes that have said hello."""

    def __init__(self, num_engines: int = 1) -> None:
        self.relay = Relay(num_engines)
        self.clients: list[FakeEngineClient] = []
        self.engines = EngineSlots(self.relay.table, self._connect)
        self.webs = [FakeLink(0), FakeLink(1)]

    @property
    def engine(self) -> FakeEngineClient:
        return self.clients[-1]

    def _connect(
        self, chosen: Settings, files: ModelFiles, description: ModelDescription, max_model_len: int, place: EnginePlace
    ) -> FakeEngineClient:
        self.clients.append(FakeEngineClient(chosen, files, description, max_model_len, place))
        self.engine.may_be_replaced = True
        return self.engine

    async def __aenter__(self) -> Scene:
        self.engines.spawn(settings(), FILES, describe(FILES), 256)
        for web in self.webs:
            self.relay.open(web)
            self.relay.take(web, Hello("0"))
        ready = await self.engines.start()
        self.engines.serve()
        self.relay.serve(self.engines, ready)
        for web in self.webs:
            self.relay.note_ready(web)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.engines.stop()


def play(scene: Callable[[Scene], Awaitable[None]], num_engines: int = 1) -> None:
    async def run() -> None:
        async with Scene(num_engines) as made:
            await asyncio.wait_for(scene(made), LIMIT_SECONDS)

    asyncio.run(run())


def add(request_id: str, **more: object) -> AddRequest:
    sampling = SamplingParams(max_tokens=32, seed=1)
    return AddRequest(request_id=request_id, prompt_token_ids=[1, 2, 3], sampling=sampling, **more)  # type: ignore[arg-type]


def is_done(web: FakeLink, request_id: str) -> Callable[[], bool]:
    return lambda: any(one.request_id == request_id and one.finish_reason is not None for one in web.outputs)


def test_each_web_process_gets_its_own_outputs_and_hears_of_every_step():
    async def scene(made: Scene) -> None:
        first, second = made.webs
        made.engine.gate.clear()
        made.relay.take(first, add("a"))
        made.relay.take(second, add("b"))
        made.relay.take(second, add("c"))
        made.engine.gate.set()
        await until(is_done(first, "a"))
        await until(is_done(second, "c"))
        assert {one.request_id for one in first.outputs} == {"a"}
        assert {one.request_id for one in second.outputs} == {"b", "c"}
        assert first.tokens_of("a") == second.tokens_of("b") == b"hello world"
        assert [facts.number for facts in first.facts] == [facts.number for facts in second.facts]
        assert sum(facts.num_outputs for facts in first.facts) == len(first.outputs)
        assert sum(facts.num_outputs for facts in second.facts) == len(second.outputs)
        assert [name for facts in second.facts for name, _ in facts.prompts] == ["b", "c"]
        assert {facts.num_requests for facts in first.facts} == {3}
        assert made.relay.table.by_id == {}

    play(scene)


def test_what_a_dead_web_process_had_is_given_up_and_others_go_on():
    async def scene(made: Scene) -> None:
        first, second = made.webs
        made.engine.gate.clear()
        made.relay.take(first, add("a"))
        made.relay.take(second, add("b"))
        await until(lambda: made.engine.num_running == 2)
        made.relay.close(first)
        assert made.engine.aborted == ["a"]
        made.engine.gate.set()
        await until(is_done(second, "b"))
        assert second.tokens_of("b") == b"hello world"
        assert first.outputs == []

    play(scene)


def test_requests_of_all_go_on_in_another_engine_and_all_hear_of_it():
    async def scene(made: Scene) -> None:
        for web, name in zip(made.webs, "ab", strict=True):
            made.relay.take(web, add(name))
        await until(lambda: all(len(web.outputs) >= 3 for web in made.webs))
        made.engine.gate.clear()
        made.engine.die()
        made.engine.gate.set()
        for web, name in zip(made.webs, "ab", strict=True):
            await until(is_done(web, name))
            assert web.tokens_of(name) == b"hello world"
        news = [message for message in made.webs[0].sent if isinstance(message, KeeperNews)]
        await until(lambda: any(one.recoveries for one in made.webs[0].sent if isinstance(one, KeeperNews)))
        news = [message for message in made.webs[0].sent if isinstance(message, KeeperNews)]
        assert [incident.kind for one in news for incident in one.incidents] == ["death", "restart", "restart", "recovery"]
        assert any(one.lost is not None for one in news)
        assert news[-1].lost is None

    play(scene)


def test_whoever_waits_for_what_went_from_engine_to_engine_and_back_gets_each_token_once():
    async def scene(made: Scene) -> None:
        web, _ = made.webs
        for client in made.clients:
            client.gate.clear()
        made.relay.take(web, add("a"))
        one, other = sorted(made.clients, key=lambda client: -len(client.added))

        def make(client: FakeEngineClient, turn: int, token: bytes, *, is_kept: bool = False) -> None:
            output = RequestOutput(request_id="a", new_token_ids=list(token), is_kept=is_kept, turn=turn)
            client.emit(StepOutputs([output], engine=client.place.index))

        make(one, 0, b"h")
        await until(lambda: web.tokens_of("a") == b"h")
        one.emit(WorkersLost("Worker_0", "was killed by signal 9 (SIGKILL)", -9))
        await until(lambda: bool(other.added))
        one.emit(WorkersReplaced([], 1.0))
        await until(lambda: made.engines.slots[one.place.index].state == "ready")
        make(other, 1, b"e", is_kept=True)
        await until(lambda: len(one.added) == 2)
        assert (one.added[1].turn, bytes(one.added[1].output_token_ids)) == (2, b"he")
        make(one, 0, b"e")  # late
        make(one, 2, b"l")
        for client in made.clients:
            client.gate.set()
        await until(is_done(web, "a"))
        assert web.tokens_of("a").startswith(b"hel")
        assert {(output.turn, output.is_kept) for output in web.outputs} == {(0, False)}

    play(scene, 2)


def test_a_web_process_that_comes_later_is_told_what_has_happened():
    async def scene(made: Scene) -> None:
        made.engines.incidents.note("Web_1", "restart", "another one has taken its place")
        late = FakeLink(1)
        made.relay.open(late)
        made.relay.take(late, Hello("0"))
        ready, _, news = late.sent[:3]
        assert isinstance(ready, EngineReady)
        assert isinstance(news, KeeperNews)
        assert [incident.process for incident in news.incidents] == ["Web_1"]
        assert news.restarts == {"Web_1": 1}

    play(scene)


def test_each_is_told_what_of_the_others_waits_and_that_it_waits_no_longer():
    async def scene(made: Scene) -> None:
        first, second = made.webs
        made.engine.gate.clear()
        made.relay.take(first, add("a", tenant="key"))
        await until(lambda: any(isinstance(message, OthersWait) for message in second.sent))
        assert second.last(OthersWait) == OthersWait({"key": (1, 3)})
        made.engine.gate.set()
        await until(lambda: second.last(OthersWait) == OthersWait({}))
        assert not any(isinstance(message, OthersWait) for message in first.sent)

    play(scene)


def test_an_id_that_is_in_use_is_refused_and_a_stranger_cannot_end_it():
    async def scene(made: Scene) -> None:
        first, second = made.webs
        made.engine.gate.clear()
        made.relay.take(first, add("a"))
        made.relay.take(second, add("a"))
        assert second.outputs[0].fault is not None
        assert second.outputs[0].fault.status == 400
        made.relay.take(second, AbortRequests(["a"]))
        assert made.engine.aborted == []
        made.engine.gate.set()
        await until(is_done(first, "a"))

    play(scene)


def test_a_request_that_ends_at_a_stop_string_is_complete_for_the_engine_too():
    async def scene(made: Scene) -> None:
        made.engine.gate.clear()
        made.relay.take(made.webs[0], add("a"))
        made.relay.take(made.webs[0], AbortRequests(["a"], are_complete=True))
        assert made.engine.sent[-1] == AbortRequests(["a"], are_complete=True)
        assert made.webs[0].has_answered

    play(scene)


def test_calls_are_passed_on_to_the_engines_or_answered_here():
    async def scene(made: Scene) -> None:
        web = made.webs[0]

        async def tell_ids(asker: WebLink, arguments: list[str]) -> str:
            return ",".join(made.relay.table.ids_of(asker))

        made.relay.answers = {"unfinished_request_ids": tell_ids}
        made.engine.gate.clear()
        made.relay.take(web, add("a"))
        made.relay.take(made.webs[1], add("b"))
        made.relay.take(web, UtilityCall(1, "unfinished_request_ids"))
        made.relay.take(web, UtilityCall(2, "reset_prefix_cache"))
        await until(lambda: sum(isinstance(message, UtilityResult) for message in web.sent) == 2)
        results = {message.call_id: message.value for message in web.sent if isinstance(message, UtilityResult)}
        assert results == {1: "a", 2: "reset_prefix_cache"}

    play(scene)


def test_siblings_answer_and_one_that_ends_meanwhile_is_left_out():
    async def scene(made: Scene) -> None:
        first, second = made.webs
        third = FakeLink(2)
        made.relay.open(third)
        made.relay.take(third, Hello("0"))
        made.relay.take(first, AskSiblings(7, SiblingQuestion("GET", "/metrics")))
        asked = second.last(SiblingAsks)
        assert isinstance(asked, SiblingAsks)
        assert asked == third.last(SiblingAsks)
        made.relay.take(second, SiblingSays(asked.number, SiblingAnswer(1, 200, b"numbers")))
        assert not any(isinstance(message, SiblingsSay) for message in first.sent)
        made.relay.close(third)
        assert first.last(SiblingsSay) == SiblingsSay(7, [SiblingAnswer(1, 200, b"numbers")])

    play(scene)


def test_deaths_of_which_a_place_could_not_hear_are_told_to_whoever_comes_into_it():
    async def scene(made: Scene) -> None:
        first, second = made.webs
        for web in made.webs:
            made.relay.close(web)
            made.relay.lost(web.name, "signal")
        await asyncio.sleep(0)  # they are told together
        made.relay.replaced(1.5)
        await asyncio.sleep(0)
        first.sent.clear()
        second.sent.clear()
        for web in made.webs:
            web.is_welcome = web.is_counting = False
            made.relay.open(web)
            made.relay.take(web, Hello("0"))
            assert not cast(KeeperNews, web.last(KeeperNews)).deaths  # nobody is there yet who counts them
            made.relay.note_ready(web)
            news = [message for message in web.sent if isinstance(message, KeeperNews)]
            assert [death for one in news for death in one.deaths] == [("Web_0", "signal"), ("Web_1", "signal")]
            assert [seconds for one in news for seconds in one.recoveries] == [1.5]

    play(scene)


def test_the_last_one_that_is_left_hears_that_what_a_dead_one_had_waits_no_longer():
    async def scene(made: Scene) -> None:
        first, second = made.webs
        made.engine.gate.clear()
        made.relay.take(first, add("a", tenant="key"))
        await until(lambda: any(isinstance(message, OthersWait) for message in second.sent))
        made.relay.close(first)
        await until(lambda: second.last(OthersWait) == OthersWait({}))
        made.engine.gate.set()

    play(scene)

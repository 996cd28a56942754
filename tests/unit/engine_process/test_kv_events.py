"""EngineCore tells a router, in vLLM's form, what it has in its cache; deaths of workers and who does not read included."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import threading

import msgspec
import pytest

from tests.kv_event_reader import AllBlocksCleared, BlockStored, Subscriber
from tests.unit.engine_process.engine_talk import converse, request, until
from tests.unit.engine_process.test_replaced_workers import DEATH, hear_all_until
from yeoul import __version__
from yeoul.config.settings import CacheSettings
from yeoul.engine_process import kv_events
from yeoul.errors import ConfigError
from yeoul.messages.outputs import EngineReady, WorkersReplaced
from yeoul.messages.requests import Hello, UtilityCall
from yeoul.transport.event_sockets import EventSockets

PROMPT = list(range(40, 80))


def settings_of(folder, **fields) -> CacheSettings:
    config = {
        "enable_kv_cache_events": True,
        "endpoint": f"ipc://{folder}/live",
        "replay_endpoint": f"ipc://{folder}/replay",
        "topic": "kv@pod@fake",
    }
    return CacheSettings(num_blocks_override=64, kv_events_config=json.dumps(config | fields))


def subscriber(folder) -> contextlib.closing[Subscriber]:
    return contextlib.closing(Subscriber(f"ipc://{folder}/live", f"ipc://{folder}/replay", b"kv@pod@fake"))


async def ask(client, prompt=PROMPT, **fields):
    """A request with 20 tokens to come: 3 blocks are full at its end."""
    message = msgspec.structs.replace(request(max_tokens=20), prompt_token_ids=prompt, **fields)
    client.say(message)
    await client.hear_until_finished(1)


async def take_until(router: Subscriber, condition):
    """Messages until that is so; returns their batches."""
    batches = []
    while not condition():
        batches.append(await asyncio.to_thread(router.take))
        assert batches[-1] is not None, "no further message came"
    return batches


def test_a_router_knows_after_each_step_what_is_cached_and_what_no_more(tmp_path):
    async def scenario(client, executor, core):
        with subscriber(tmp_path) as router:
            client.say(Hello(__version__))
            ready = await client.hear()
            assert isinstance(ready, EngineReady)
            assert ready.kv_events is not None
            assert ready.kv_events.endpoint == f"ipc://{tmp_path}/live"
            await asyncio.to_thread(router.take)  # the empty one that a subscription brings
            await ask(client)
            await take_until(router, lambda: router.index.num_known_blocks(PROMPT) == 2 and len(router.index.tokens) == 3)
            client.say(UtilityCall(7, "reset_prefix_cache"))
            await take_until(router, lambda: not router.index.tokens)
            assert router.numbers == list(range(router.numbers[0], router.numbers[-1] + 1))

    converse(tmp_path, scenario, cache=settings_of(tmp_path))


def test_of_a_prompt_with_a_salt_nobody_hears(tmp_path):
    async def scenario(client, executor, core):
        with subscriber(tmp_path) as router:
            client.say(Hello(__version__))
            await client.hear()
            await asyncio.to_thread(router.take)
            await ask(client, cache_salt="a tenant")
            await ask(client, [9] * 40, request_id="b")
            batches = await take_until(router, lambda: len(router.index.tokens) == 3)
            assert router.index.num_known_blocks(PROMPT) == 0
            events = [event for batch in batches for event in batch.events]
            assert all(event.extra_keys is None for event in events if isinstance(event, BlockStored))

    converse(tmp_path, scenario, cache=settings_of(tmp_path))


def test_a_replay_brings_a_router_that_comes_late_to_the_same_knowledge(tmp_path):
    async def scenario(client, executor, core):
        client.say(Hello(__version__))
        await client.hear()
        await ask(client)
        with subscriber(tmp_path) as router:
            batch = await asyncio.to_thread(router.take)
            assert batch is not None
            assert batch.events == []  # it tells its number, which is not 0
            found = await asyncio.to_thread(router.replay, 0)
            for _, payload in found:
                router.index.apply(payload)
            assert [number for number, _ in found] == list(range(router.numbers[-1] + 1))
            assert router.index.num_known_blocks(PROMPT) == 2

    converse(tmp_path, scenario, cache=settings_of(tmp_path))


def test_when_workers_died_nothing_is_cached_until_it_is_computed_again(tmp_path):
    async def scenario(client, executor, core):
        with subscriber(tmp_path) as router:
            client.say(Hello(__version__))
            await client.hear()
            await asyncio.to_thread(router.take)
            await ask(client)
            await take_until(router, lambda: len(router.index.tokens) == 3)
            executor.on_death(DEATH)
            await hear_all_until(client, WorkersReplaced)
            batches = await take_until(router, lambda: not router.index.tokens)
            assert [type(event) for event in batches[-1].events] == [AllBlocksCleared]
            await ask(client, request_id="b")
            await take_until(router, lambda: len(router.index.tokens) == 3)

    converse(tmp_path, scenario, cache=settings_of(tmp_path))


def test_what_goes_wrong_with_events_concerns_no_request(tmp_path, monkeypatch, caplog):
    class Broken(EventSockets):
        def send(self, payload: bytes) -> None:
            raise OSError("no room")

    monkeypatch.setattr(kv_events, "EventSockets", Broken)

    async def scenario(client, executor, core):
        client.say(Hello(__version__))
        await client.hear()
        await ask(client)
        await until(lambda: "no more KV events are told" in caplog.text)
        await ask(client, request_id="b")

    with caplog.at_level(logging.ERROR):
        converse(tmp_path, scenario, cache=settings_of(tmp_path))


def test_a_number_is_missing_where_a_batch_was_lost_and_not_before_those_that_waited(tmp_path, monkeypatch):
    sent: list[str] = []
    may_send, has_sent = threading.Event(), threading.Event()

    class Slow(EventSockets):
        def wait(self) -> bool:
            may_send.wait(10.0)
            return super().wait()

        def skip(self, num_lost: int) -> None:
            sent.append(f"{num_lost} lost")
            super().skip(num_lost)

        def send(self, payload: bytes) -> None:
            sent.append(f"a batch of {len(msgspec.msgpack.decode(payload)[1])}")
            super().send(payload)
            if len(sent) >= 2:
                has_sent.set()

    monkeypatch.setattr(kv_events, "EventSockets", Slow)
    events = kv_events.KVEvents(settings_of(tmp_path, max_queue_size=2))
    blocks = events.of_new_cache()
    assert blocks is not None
    events.start()
    for num_more in (0, 2, 3):  # a cache that is new has an event from the beginning
        for _ in range(num_more):
            blocks.note_cleared()
        events.publish()
    may_send.set()
    assert has_sent.wait(10.0)
    for _ in range(4):
        blocks.note_cleared()
    events.publish()
    events.stop()
    assert sent == ["a batch of 1", "a batch of 2", "1 lost", "a batch of 4"]


def test_an_address_that_cannot_be_used_is_the_users_mistake(tmp_path):
    events = kv_events.KVEvents(settings_of(tmp_path / "no such folder"))
    with pytest.raises(ConfigError, match="choose another one"):
        events.start()
    events.stop()


def test_without_the_setting_there_is_no_thread_no_source_and_no_event():
    events = kv_events.KVEvents(CacheSettings())
    events.start()
    events.publish()
    assert (events.source, events.of_new_cache()) == (None, None)
    events.stop()

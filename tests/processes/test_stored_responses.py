"""What is kept of responses, over real processes: chains, conversations, owners, background, and servers that are killed."""

from __future__ import annotations

import contextlib
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from tests.processes.forced_calls import TEMPLATE, forced
from tests.running_server import RunningServer, free_port

KEYS = ("first-key", "second-key")
FLAGS = ("--allow-forced-tokens", "--chat-template", TEMPLATE, "--max-model-len", "4096", "--reasoning-parser", "none")


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    keys = [argument for key in KEYS for argument in ("--api-key", key)]
    with RunningServer(*FLAGS, *keys, "--fake-step-seconds", "0.002") as running:
        yield running


@contextlib.contextmanager
def client_of(server: RunningServer, key: str = KEYS[0], max_retries: int = 0) -> Iterator[Any]:
    """A client; what is sent is as untyped as what people send."""
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key=key, max_retries=max_retries, timeout=60.0) as client:
        yield client


def texts(items: Any) -> list[str]:
    return [item.content[0].text for item in items]


@pytest.mark.parametrize("streams", [False, True])
def test_a_response_goes_on_from_another(server, streams):
    with client_of(server) as client:
        first = client.responses.create(model="fake", input="one", instructions="be brief", extra_body=forced("two"))
        fields: dict[str, Any] = {"model": "fake", "input": "three", "previous_response_id": first.id}
        if streams:
            with client.responses.stream(**fields, extra_body=forced("four")) as stream:
                second = stream.get_final_response()
        else:
            second = client.responses.create(**fields, extra_body=forced("four"))
        third = client.responses.create(model="fake", input="five", previous_response_id=second.id, extra_body=forced("six"))
        said = [("user", "one"), ("assistant", "two"), ("user", "three"), ("assistant", "four"), ("user", "five")]
        told = [{"role": role, "content": text} for role, text in said]
        whole = client.responses.create(model="fake", input=told, store=False, extra_body=forced("six"))
        assert third.usage.input_tokens == whole.usage.input_tokens, "instructions are not carried on, items are"
        kept = client.responses.retrieve(third.id)
        assert kept.to_dict() == third.to_dict()
        assert kept.previous_response_id == second.id
        assert texts(client.responses.input_items.list(third.id)) == ["five"]
        with pytest.raises(openai.NotFoundError):
            client.responses.retrieve(whole.id)


def test_the_items_of_a_response_come_in_pages_and_can_be_referred_to(server):
    with client_of(server) as client:
        words = [str(number) for number in range(7)]
        first = client.responses.create(
            model="fake", input=[{"role": "user", "content": word} for word in words], extra_body=forced("said")
        )
        page = client.responses.input_items.list(first.id, limit=3)
        assert (texts(page.data), page.has_more) == (["6", "5", "4"], True)
        assert texts(client.responses.input_items.list(first.id, limit=2, order="asc")) == words
        items = [{"type": "item_reference", "id": page.data[0].id}, {"type": "item_reference", "id": first.output[0].id}]
        second = client.responses.create(
            model="fake", input=[*items, {"role": "user", "content": "x"}], extra_body=forced("y")
        )
        assert texts(client.responses.input_items.list(second.id, order="asc")) == ["6", "said", "x"]
        with pytest.raises(openai.NotFoundError, match="send the item itself"):
            client.responses.create(model="fake", input=[{"type": "item_reference", "id": "msg_1"}])


def test_a_conversation_grows_with_its_responses(server):
    with client_of(server) as client:
        conversation = client.conversations.create(items=[{"role": "developer", "content": "rules"}], metadata={"a": "b"})
        for number in range(2):
            answer = client.responses.create(
                model="fake", input=f"question {number}", conversation=conversation.id, extra_body=forced(f"answer {number}")
            )
            assert answer.conversation.id == conversation.id
        said = ["rules", "question 0", "answer 0", "question 1", "answer 1"]
        assert texts(client.conversations.items.list(conversation.id, order="asc", limit=2)) == said
        counted = client.responses.input_tokens.count(model="fake", input="x", conversation=conversation.id)
        answer = client.responses.create(model="fake", input="x", conversation=conversation.id, extra_body=forced("y"))
        assert counted.input_tokens == answer.usage.input_tokens
        (added,) = client.conversations.items.create(conversation.id, items=[{"role": "user", "content": "more"}]).data
        assert client.conversations.items.retrieve(added.id, conversation_id=conversation.id).content[0].text == "more"
        client.conversations.items.delete(added.id, conversation_id=conversation.id)
        assert texts(client.conversations.items.list(conversation.id, limit=1).data) == ["y"]
        assert client.conversations.update(conversation.id, metadata={"c": "d"}).metadata == {"c": "d"}
        assert client.conversations.retrieve(conversation.id).metadata == {"c": "d"}
        assert client.conversations.delete(conversation.id).deleted
        with pytest.raises(openai.NotFoundError):
            client.conversations.retrieve(conversation.id)


def test_another_key_finds_nothing(server):
    with client_of(server) as client, client_of(server, KEYS[1]) as other:
        kept = client.responses.create(model="fake", input="mine", extra_body=forced("secret"))
        running = client.responses.create(model="fake", input="mine", background=True, extra_body=forced("x" * 900))
        conversation = client.conversations.create(items=[{"role": "user", "content": "mine"}])
        for attempt in (
            lambda: other.responses.retrieve(kept.id),
            lambda: other.responses.retrieve(running.id),
            lambda: other.responses.retrieve(running.id, stream=True),
            lambda: other.responses.cancel(running.id),
            lambda: other.responses.delete(kept.id),
            lambda: other.responses.input_items.list(kept.id),
            lambda: other.responses.create(model="fake", input="x", previous_response_id=kept.id),
            lambda: other.responses.create(model="fake", input=[{"type": "item_reference", "id": kept.output[0].id}]),
            lambda: other.responses.create(model="fake", input="x", conversation=conversation.id),
            lambda: other.conversations.retrieve(conversation.id),
            lambda: other.conversations.items.list(conversation.id),
            lambda: other.conversations.delete(conversation.id),
        ):
            with pytest.raises(openai.NotFoundError):
                attempt()
        assert client.responses.retrieve(kept.id).output_text == "secret"
        client.responses.delete(running.id)
        with pytest.raises(openai.NotFoundError):
            client.responses.retrieve(running.id)


def test_a_background_response_goes_on_without_its_client(server):
    with client_of(server) as client:
        stream = client.responses.create(
            model="fake", input="hi", background=True, stream=True, extra_body=forced("Some words for a while.")
        )
        first = next(iter(stream))
        assert (first.type, first.response.status) == ("response.created", "queued")
        stream.close()
        events = list(client.responses.retrieve(first.response.id, stream=True))
        assert [event.sequence_number for event in events] == list(range(len(events)))
        assert events[-1].response.output_text == "Some words for a while."
        late = list(client.responses.retrieve(first.response.id, stream=True, starting_after=5))
        assert late == events[6:]
        kept = client.responses.retrieve(first.response.id)
        assert kept.to_dict() == events[-1].response.to_dict()
        assert client.responses.cancel(kept.id).status == "completed"
        with client.responses.stream(response_id=kept.id, starting_after=9) as helper:
            assert next(iter(helper)).sequence_number == 10
            assert helper.get_final_response().output_text == kept.output_text
        ordinary = client.responses.create(model="fake", input="hi", extra_body=forced("x"))
        for attempt in (client.responses.cancel, lambda name: client.responses.retrieve(name, stream=True)):
            with pytest.raises(openai.BadRequestError, match="did not run in the background"):
                attempt(ordinary.id)


def test_a_background_response_that_is_cancelled_keeps_what_it_has(server):
    with client_of(server) as client:
        running = client.responses.create(model="fake", input="hi", background=True, extra_body=forced("x" * 2000))
        assert running.status == "queued"
        for event in client.responses.retrieve(running.id, stream=True):
            if event.sequence_number == 20:
                break
        with pytest.raises(openai.BadRequestError, match="not finished"):
            client.responses.create(model="fake", input="x", previous_response_id=running.id)
        cancelled = client.responses.cancel(running.id)
        assert cancelled.status == "cancelled"
        assert 10 < len(cancelled.output_text) < 2000
        assert client.responses.cancel(running.id).to_dict() == cancelled.to_dict()
        assert list(client.responses.retrieve(running.id, stream=True))[-1].type == "response.incomplete"


def anonymous(events: bytes, response_id: str) -> bytes:
    """Without the ids and times, which are its own."""
    events = events.replace(response_id.removeprefix("resp_").encode(), b"ID")
    return re.sub(rb'"(created_at|completed_at)":\d+', rb'"\1":0', events)


def events_of(url: str, response_id: str, starting_after: int = -1, most: int | None = None) -> bytes:
    """The bytes of whole events; the client goes away after ``most`` of them."""
    received = b""
    address = f"{url}/v1/responses/{response_id}?stream=true&starting_after={starting_after}"
    with contextlib.suppress(httpx.TransportError), httpx.stream("GET", address, timeout=60.0) as answer:
        answer.raise_for_status()
        for piece in answer.iter_bytes():
            received += piece
            if most is not None and received.count(b"event: ") > most:
                break
    blocks = [block + b"\n\n" for block in received.split(b"\n\n")[:-1] if block]
    return b"".join(blocks if most is None else blocks[:most])


def last_number(events: bytes) -> int:
    return int(re.findall(rb'"sequence_number":(\d+)}\n', events)[-1])


def started(server: RunningServer, num_tokens: int) -> str:
    body = {
        "input": "hi",
        "background": True,
        "max_output_tokens": num_tokens,
        "seed": 5,
        "ignore_eos": True,
        "top_logprobs": 1,
    }
    answer = httpx.post(f"{server.url}/v1/responses", json=body, timeout=30.0)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["id"])


@pytest.mark.parametrize(
    ("num_tokens", "num_kills"), [(300, 1), pytest.param(2000, 5, marks=[pytest.mark.long, pytest.mark.timeout(600)])]
)
def test_a_background_response_is_the_same_to_the_byte_when_client_and_server_are_killed(
    tmp_path: Path, num_tokens, num_kills
):
    """Its client goes away and its server is killed again and again: each next one goes on where it was."""
    port = free_port()
    flags = (*FLAGS, "--data-dir", str(tmp_path / "data"), "--fake-step-seconds", "0.004")
    with RunningServer(*flags, port=port) as server:
        undisturbed_id = started(server, num_tokens)
        undisturbed = events_of(server.url, undisturbed_id)
        assert undisturbed.count(b"response.output_text.delta") > num_tokens // 2
        httpx.post(f"{server.url}/v1/responses", json={"input": "hi", "max_output_tokens": 2})
    seen, response_id = b"", ""
    for life in range(num_kills + 1):
        with RunningServer(*flags, port=port) as server:
            response_id = response_id or started(server, num_tokens)
            after = last_number(seen) if seen else -1
            if life == num_kills:
                seen += events_of(server.url, response_id, after)
                again = events_of(server.url, response_id)
                assert httpx.get(f"{server.url}/v1/responses/{response_id}").json()["status"] == "incomplete"
                break
            wanted = undisturbed.count(b"event: ") * (life + 1) // (num_kills + 1)
            seen += events_of(server.url, response_id, after, most=wanted - after)
            os.kill(server.pid, signal.SIGKILL)
            server.process.wait(10)
    assert seen == again, "what was seen in pieces is what is kept"
    usage = rb'"cached_tokens":\d+'
    assert re.sub(usage, b"", anonymous(seen, response_id)) == re.sub(usage, b"", anonymous(undisturbed, undisturbed_id))


def test_a_server_that_is_stopped_leaves_its_background_responses_to_the_next(tmp_path: Path):
    port = free_port()
    flags = (*FLAGS, "--data-dir", str(tmp_path / "data"), "--fake-step-seconds", "0.005")
    with RunningServer(*flags, port=port) as server:
        response_id = started(server, 300)
        seen = events_of(server.url, response_id, most=50)
        os.kill(server.pid, signal.SIGTERM)
        assert server.wait_exit(10.0) == 0
    with RunningServer(*flags, port=port) as server:
        seen += events_of(server.url, response_id, last_number(seen))
        assert seen == events_of(server.url, response_id)
        assert httpx.get(f"{server.url}/v1/responses/{response_id}").json()["usage"]["output_tokens"] == 300

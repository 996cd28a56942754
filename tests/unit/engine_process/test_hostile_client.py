"""What a client with the right to speak may do wrong: EngineCore drops it or fails the one request, and goes on."""

from __future__ import annotations

import random

import msgspec
import pytest

from tests.hostile_bytes import damage
from tests.unit.engine_process.engine_talk import converse, request
from tests.unit.messages.samples import encoded
from yeoul import __version__
from yeoul.messages.outputs import EngineReady
from yeoul.messages.requests import AddRequest, Hello, Shutdown
from yeoul.messages.sampling import SamplingParams

HARMLESS = [raw for raw in encoded("ClientMessage") if raw != msgspec.msgpack.encode(Shutdown())]


async def greet(client):
    """Says Hello, which ends whatever an earlier message may have begun, and waits for the answer."""
    client.say(Hello(__version__))
    while not isinstance(await client.hear(), EngineReady):
        pass


async def tokens_of(client, message):
    client.say(message)
    outputs = await client.hear_until_finished(1)
    return [token_id for output in outputs for token_id in output.new_token_ids]


def test_a_thousand_damaged_messages_change_nothing(tmp_path, caplog):
    async def scenario(client, executor, core):
        await greet(client)
        expected = await tokens_of(client, request())
        source = random.Random(11)
        for _ in range(1000):
            client.sockets.send(damage(source, source.choice(HARMLESS)))
        await greet(client)
        assert await tokens_of(client, request("b")) == expected
        assert core._scheduler.statistics().num_used_blocks == 0

    converse(tmp_path, scenario)
    assert "dropped a message of" in caplog.text
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize(
    "frames",
    [[], [b""], [b"alone"], [b"1", b"2", b"3"], [b"x"] * 1000],
    ids=["one empty", "empty", "one", "three", "thousand"],
)
def test_frames_of_another_number_are_dropped_with_a_word(tmp_path, caplog, frames):
    async def scenario(client, executor, core):
        await greet(client)
        client.sockets._input.send_multipart(frames or [b""])
        assert len(await tokens_of(client, request())) == 4

    converse(tmp_path, scenario)
    assert f"dropped a message of {len(frames) or 1} frames" in caplog.text


def test_a_client_without_an_id_or_with_an_absurd_one_takes_nothing_over(tmp_path, caplog):
    async def scenario(client, executor, core):
        await greet(client)
        for client_id in (b"", b"\0", b"x" * 300, b"\0" * (1 << 20)):
            client.sockets._input.send_multipart([client_id, msgspec.msgpack.encode(request("stranger"))])
        assert len(await tokens_of(client, request())) == 4

    converse(tmp_path, scenario)
    assert "dropped a AddRequest of a client" in caplog.text


SOUND = SamplingParams(seed=1, max_tokens=4)


def with_sampling(**fields):
    return {"sampling": msgspec.structs.replace(SOUND, **fields)}


# Name -> the fields that are wrong, what the fault must name.
ABSURD = {
    "no temperature": (with_sampling(temperature=float("nan")), "temperature"),
    "a negative temperature": (with_sampling(temperature=-1.0), "temperature"),
    "an infinite penalty": (with_sampling(presence_penalty=float("inf")), "presence_penalty"),
    "top_p of 0": (with_sampling(top_p=0.0), "top_p"),
    "a seed beyond 64 bits": (with_sampling(seed=2**64 - 1), "seed"),
    "a million choices": (with_sampling(n=10**6), "sampling.n"),
    "a bias outside the vocabulary": (with_sampling(logit_bias={2**40: 1.0}), "logit_bias"),
    "a negative stop token": (with_sampling(stop_token_ids=[-1]), "stop_token_ids"),
    "a billion log probabilities": (with_sampling(logprobs=10**9), "logprobs"),
    "log probabilities of the prompt, a billion": (with_sampling(prompt_logprobs=10**9), "prompt_logprobs"),
    "negative max_tokens": (with_sampling(max_tokens=-(2**63)), "max_tokens"),
    "no prompt": ({"prompt_token_ids": []}, "prompt"),
    "a token outside the vocabulary": ({"prompt_token_ids": [1, 2**31 - 1]}, "prompt_token_ids"),
    "a token of 64 bits": ({"prompt_token_ids": [2**64 - 1]}, "prompt_token_ids"),
    "a negative token": ({"prompt_token_ids": [-1]}, "prompt_token_ids"),
    "an output token outside the vocabulary": ({"output_token_ids": [10**6]}, "output_token_ids"),
    "an end of sequence of 64 bits": ({"eos_token_ids": [2**63]}, "eos_token_ids"),
    "a negative choice index": ({"choice_index": -1}, "choice_index"),
    "an unknown pooling": ({"pooling": "x" * 10_000}, "pooling"),
    "a million tokens": ({"prompt_token_ids": [1] * 10**6}, "at most"),
}


def test_a_request_of_absurd_values_fails_alone(tmp_path):
    async def scenario(client, executor, core):
        await greet(client)
        sound = AddRequest(request_id="sound", prompt_token_ids=[1, 2, 3], sampling=SOUND)
        expected = await tokens_of(client, sound)
        for name, (fields, named) in ABSURD.items():
            client.say(msgspec.structs.replace(sound, request_id=name, **fields))
            (output,) = await client.hear_until_finished(1)
            assert output.fault is not None, name
            assert output.fault.status == 400, name
            assert named in output.fault.message, name
            assert len(output.fault.message) < 300, name
        assert await tokens_of(client, sound) == expected
        assert len(executor.successors) == 1  # nobody died of it

    converse(tmp_path, scenario)


@pytest.mark.parametrize(
    "fields",
    [
        {"priority": -(2**63)},
        {"priority": 2**64 - 1},
        {"age_seconds": float("nan")},
        {"age_seconds": float("inf")},
        {"age_seconds": -1e300},
        {"cache_salt": "x" * 10**6},
        {"cache_salt": "\0"},
        {"request_id": ""},
        {"request_id": "x" * 10**6},
    ],
    ids=lambda fields: f"{min(fields)}={str(min(fields.values()))[:20]!r}",
)
def test_odd_but_harmless_values_change_no_answer(tmp_path, fields):
    async def scenario(client, executor, core):
        await greet(client)
        sound = AddRequest(request_id="sound", prompt_token_ids=[1, 2, 3], sampling=SOUND)
        expected = await tokens_of(client, sound)
        assert await tokens_of(client, msgspec.structs.replace(sound, **fields)) == expected

    converse(tmp_path, scenario)

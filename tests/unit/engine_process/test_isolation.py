"""Whatever EngineCore does for one request may fail, and fails that request alone: an error for it, nothing for the others.

``ACTIONS`` lists what EngineCore, and the worker that it calls here, do for a single request. Each is made to raise for the
request named poison, which is computed in the same steps as two others.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from tests.fake_answer import expected_tokens
from tests.unit.engine_process.engine_talk import converse
from yeoul import __version__
from yeoul.kv_cache.block_hash import extend_hashes
from yeoul.messages.outputs import RequestOutput
from yeoul.messages.requests import AddRequest, Hello
from yeoul.messages.sampling import SamplingParams
from yeoul.scheduler import request as scheduler_request
from yeoul.scheduler import scheduler as scheduler_module
from yeoul.scheduler.answers import AnswerReader
from yeoul.scheduler.stopping import StopRule
from yeoul.worker_process import fake_model, fake_model_runner, input_batch
from yeoul.worker_process.fake_model_runner import FakeModelRunner
from yeoul.worker_process.input_batch import InputBatch

POISON_SEED = 666
POISON_PROMPT = list(b"!" * 20)
PROMPT = list(b"a river that is long enough for a block")

# What is broken, by whose name, and where the error shows.
ACTIONS: dict[str, tuple[Any, str]] = {
    "checking it against the limits": (scheduler_module, "find_flaw"),
    "hashing the keys that separate tenants": (scheduler_request, "root_hash"),
    "preparing its conditions to stop": (StopRule, "__init__"),
    "asking whether it ends": (StopRule, "find_ending"),
    "applying a worker's answer": (AnswerReader, "_apply"),
    "taking it into a worker's batch": (input_batch, "request_state_from_message"),
    "extending its block table": (InputBatch, "_extend"),
    "preparing its sampling": (fake_model, "sampling_noise"),
    "collecting log probabilities of its prompt": (fake_model_runner, "_fake_logprobs"),
    "sampling its token": (FakeModelRunner, "_result"),
}


def add(request_id: str) -> AddRequest:
    is_poison = request_id == "poison"
    return AddRequest(
        request_id=request_id,
        prompt_token_ids=POISON_PROMPT if is_poison else PROMPT,
        sampling=SamplingParams(
            seed=POISON_SEED if is_poison else 1, max_tokens=4, ignore_eos=True, prompt_logprobs=17 if is_poison else None
        ),
        cache_salt=request_id,
    )


def concerns_poison(value: object) -> bool:
    """Whether an argument of an action is the poison, or a part of it."""
    return (
        getattr(value, "request_id", value) == "poison"
        or getattr(value, "last_length", None) == len(POISON_PROMPT) + 4
        or getattr(value, "seed", None) == POISON_SEED
        or (isinstance(value, tuple) and value == ("poison",))
        or (isinstance(value, int) and value == 17)
    )


def break_for_poison(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str) -> list[str]:
    """From now on the function raises when it is called for the poison; the list grows with each time."""
    whole: Callable[..., Any] = getattr(owner, name)
    injected: list[str] = []

    def broken(*arguments: Any) -> Any:
        if any(map(concerns_poison, arguments)):
            injected.append(name)
            raise RuntimeError("injected")
        return whole(*arguments)

    monkeypatch.setattr(owner, name, broken)
    return injected


def outcome(outputs: list[RequestOutput], request_id: str) -> tuple[list[int], RequestOutput]:
    """The tokens of a request, and its last output."""
    own = [output for output in outputs if output.request_id == request_id]
    return [token_id for output in own for token_id in output.new_token_ids], own[-1]


async def meet(client: Any, core: Any, *poison: bytes) -> RequestOutput:
    """The poison's last output; the two beside it, and one after it, have the tokens that they have alone."""
    client.say(Hello(__version__))
    await client.hear()
    client.say(add("before"))
    for payload in poison:
        client.sockets.send(payload)
    client.say(add("behind"))
    outputs = await client.hear_until_finished(3)
    client.say(add("afterwards"))
    outputs += await client.hear_until_finished(1)
    expected = expected_tokens(PROMPT, add("before").sampling, 4)
    for name in ("before", "behind", "afterwards"):
        tokens, last = outcome(outputs, name)
        assert (tokens, last.finish_reason, last.fault) == (expected, "length", None), name
    assert not core._scheduler.has_unfinished
    assert core._cache.num_used_blocks == 0
    return outcome(outputs, "poison")[1]


@pytest.mark.parametrize("ahead", [False, True], ids=["a step at a time", "a step ahead"])
@pytest.mark.parametrize("name", ACTIONS)
def test_an_action_that_fails_for_one_request_fails_it_alone(name, ahead, tmp_path, monkeypatch):
    async def scenario(client, executor, core):
        last = await meet(client, core, msgspec.msgpack.encode(add("poison")))
        assert last.finish_reason == "error"
        assert last.fault is not None
        assert last.fault.status == 500
        assert "injected" in last.fault.message
        assert len(executor.successors) == 1, "the workers were replaced"
        assert injected

    injected = break_for_poison(monkeypatch, *ACTIONS[name])
    converse(tmp_path, scenario, check_invariants=True, async_scheduling=ahead)


def test_a_request_whose_blocks_cannot_be_named_is_answered_and_shares_none(tmp_path, monkeypatch):
    whole = extend_hashes

    def broken(hashes, root, token_ids, *numbers):
        if token_ids[: len(POISON_PROMPT)] == POISON_PROMPT:
            raise OverflowError("injected")
        whole(hashes, root, token_ids, *numbers)

    async def scenario(client, executor, core):
        last = await meet(client, core, msgspec.msgpack.encode(add("poison")))
        assert (last.finish_reason, last.fault) == ("length", None)

    monkeypatch.setattr(scheduler_request, "extend_hashes", broken)
    converse(tmp_path, scenario, check_invariants=True)


def test_an_output_that_cannot_be_encoded_fails_its_request_alone(tmp_path, monkeypatch):
    whole = AnswerReader._complete_first

    def oversized(reader, request, output):
        output = whole(reader, request, output)
        return msgspec.structs.replace(output, num_cached_tokens=2**70) if request.request_id == "poison" else output

    async def scenario(client, executor, core):
        client.say(Hello(__version__))
        await client.hear()
        client.say(add("before"), add("poison"), add("behind"))
        outputs = await client.hear_until_finished(3)
        poison = next(output for output in outputs if output.request_id == "poison")
        assert poison.fault is not None
        assert "OverflowError" in poison.fault.message
        expected = expected_tokens(PROMPT, add("before").sampling, 4)
        assert outcome(outputs, "before")[0] == outcome(outputs, "behind")[0] == expected

    monkeypatch.setattr(AnswerReader, "_complete_first", oversized)
    converse(tmp_path, scenario)


def test_a_request_that_cannot_be_decoded_is_told_so_and_nobody_waits_for_it(tmp_path):
    fields = msgspec.msgpack.decode(msgspec.msgpack.encode(add("poison")))
    payload = msgspec.msgpack.encode(fields | {"prompt_token_ids": "text"})

    async def scenario(client, executor, core):
        last = await meet(client, core, payload)
        assert last.fault is not None
        assert "prompt_token_ids" in last.fault.message

    converse(tmp_path, scenario)


@pytest.mark.parametrize("token_id", [-1, 2**31, 2**63])
def test_a_sampled_token_that_is_none_fails_its_request_alone(token_id, tmp_path, monkeypatch):
    whole = FakeModelRunner._result

    def absurd(runner, batch, state, *numbers):
        result = whole(runner, batch, state, *numbers)
        return msgspec.structs.replace(result, token_ids=[token_id]) if state.request_id == "poison" else result

    async def scenario(client, executor, core):
        last = await meet(client, core, msgspec.msgpack.encode(add("poison")))
        assert last.fault is not None
        assert str(token_id) in last.fault.message

    monkeypatch.setattr(FakeModelRunner, "_result", absurd)
    converse(tmp_path, scenario, check_invariants=True)

"""Whatever bytes come in place of a message, decoding ends at once: in a message, or an error that receivers expect."""

from __future__ import annotations

import typing

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.hostile_bytes import ABSURD, damaged, little_memory, little_time
from tests.unit.messages.samples import MESSAGES, encoded
from yeoul.messages.steps import StepResult, WorkerMessage

EXPECTED = (msgspec.MsgspecError, UnicodeError, RecursionError)
"""What each receiver catches: InputSockets, AsyncMPClient, MultiprocExecutor and child_reports."""


@pytest.mark.parametrize("name", MESSAGES)
def test_there_is_a_sample_of_every_message(name):
    union, samples = MESSAGES[name]
    assert {type(sample) for sample in samples} == set(typing.get_args(union))
    assert [msgspec.msgpack.decode(raw, type=union) for raw in encoded(name)] == samples


@pytest.mark.parametrize("name", MESSAGES)
@given(data=st.data())
@settings(max_examples=80)
@little_time(2)
def test_damaged_messages_are_refused_or_are_messages(name, data):
    union = MESSAGES[name][0]
    raw = data.draw(damaged(encoded(name)))
    try:
        message = msgspec.msgpack.decode(raw, type=union)
    except EXPECTED:
        return
    assert isinstance(message, typing.get_args(union))
    msgspec.msgpack.encode(message)  # and what was understood can be passed on


@pytest.mark.parametrize("name", MESSAGES)
def test_lengths_that_nobody_could_send_cost_no_memory(name):
    union = MESSAGES[name][0]
    with little_memory(1 << 20):
        for raw in encoded(name):
            for piece in ABSURD:
                for place in range(0, len(raw), 3):
                    try:
                        msgspec.msgpack.decode(raw[:place] + piece + raw[place:], type=union)
                    except EXPECTED:
                        continue


@pytest.mark.parametrize("results", [[["r", [-1]]], [["r", [2**31]]], [["r", [2**63]]], [["r", [1.5]]]])
def test_an_answer_with_a_token_that_cannot_be_is_no_answer(results):
    with pytest.raises(msgspec.ValidationError, match=r"results\[0\]"):
        msgspec.msgpack.decode(
            msgspec.msgpack.encode({"type": "step", "step_number": 1, "results": results}), type=WorkerMessage
        )


@pytest.mark.parametrize("seconds", [-1.0, float("nan"), float("inf"), 1e300])
def test_an_answer_with_a_time_that_cannot_be_is_no_answer(seconds):
    with pytest.raises(msgspec.ValidationError, match="compute_seconds"):
        msgspec.msgpack.decode(msgspec.msgpack.encode(StepResult(1, [], seconds)), type=WorkerMessage)

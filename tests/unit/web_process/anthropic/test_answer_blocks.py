"""The blocks of an answer: the same whole, and however the events cut it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import jiter
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from yeoul.text.answers.parts import CallArguments, CallBegin, Part, ReasoningPart, TextPart
from yeoul.web_process.anthropic.answer_blocks import AnswerBlocks, whole_blocks

ANSWER: list[Part] = [
    ReasoningPart("first, a thought"),
    TextPart("I look — süß."),
    CallBegin(0, "weather"),
    CallArguments(0, '{"city": "Süß \\"Fluß\\"", "big": 123456789012345678901234567890}'),
    CallBegin(1, "now"),
    CallArguments(1, "{}"),
    TextPart("and then "),
    ReasoningPart("another thought"),
    TextPart("said."),
]


def events_of(written: bytes) -> list[dict[str, Any]]:
    events = []
    for block in written.decode().split("\n\n")[:-1]:
        name, data = block.split("\n")
        fields = json.loads(data.removeprefix("data: "))
        assert name == f"event: {fields['type']}"
        events.append(fields)
    return events


def add_up(events: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """What a client makes of the events; their order is checked on the way."""
    blocks: list[dict[str, Any]] = []
    is_open, written = False, ""
    for event in events:
        match event["type"]:
            case "content_block_start":
                assert not is_open
                assert event["index"] == len(blocks)
                blocks.append(dict(event["content_block"]))
                is_open, written = True, ""
            case "content_block_delta":
                assert is_open
                assert event["index"] == len(blocks) - 1
                delta = event["delta"]
                field = {"text_delta": "text", "thinking_delta": "thinking", "signature_delta": "signature"}.get(
                    delta["type"]
                )
                if field is not None:
                    blocks[-1][field] += delta[field]
                else:
                    written += delta["partial_json"]
            case "content_block_stop":
                assert is_open
                assert event["index"] == len(blocks) - 1
                is_open = False
                if blocks[-1]["type"] == "tool_use":
                    blocks[-1]["input"] = json.loads(written)
    assert not is_open
    return blocks


def without_ids(blocks: object) -> list[dict[str, Any]]:
    return [block | {"id": ""} for block in json.loads(msgspec.json.encode(blocks))]


def cut(parts: list[Part], cuts: Iterable[int]) -> list[list[Part]]:
    """The parts in pieces that end at these places, and so do their texts."""
    pieces: list[list[Part]] = [[]]
    place, ends = 0, sorted(set(cuts))
    for part in parts:
        if isinstance(part, CallBegin):
            pieces[-1].append(part)
            continue
        rest = part.text
        while rest:
            end = next((end for end in ends if end > place), place + len(rest))
            taken, rest = rest[: end - place], rest[end - place :]
            place += len(taken)
            pieces[-1].append(_like(part, taken))
            if place in ends:
                pieces.append([])
    return pieces


def _like(part: Part, text: str) -> Part:
    match part:
        case TextPart():
            return TextPart(text)
        case ReasoningPart():
            return ReasoningPart(text)
        case CallArguments(index, _):
            return CallArguments(index, text)
        case CallBegin():
            return part


@given(st.sets(st.integers(0, 220)))
def test_every_way_of_cutting_adds_up_to_the_same_blocks(cuts):
    blocks = AnswerBlocks()
    written = b"".join(blocks.add(piece) for piece in cut(ANSWER, cuts)) + blocks.finish()
    found = add_up(events_of(written))
    assert without_ids(found) == without_ids(whole_blocks(ANSWER))
    kinds = ["thinking", "text", "tool_use", "tool_use", "text", "thinking", "text"]
    assert [block["type"] for block in found] == kinds
    assert all(block["signature"] for block in found if block["type"] == "thinking")


def test_arguments_come_as_the_model_wrote_them():
    assert b"123456789012345678901234567890" in msgspec.json.encode(whole_blocks(ANSWER))


def test_an_answer_of_nothing_is_an_empty_text():
    assert add_up(events_of(AnswerBlocks().finish())) == whole_blocks([]) == [{"type": "text", "text": ""}]


WRITTEN = '{"city": "Süß \\"Fluß\\"", "n": [true, 1.5e3, {"deep": [[]], "": "\\\\"}, null], "": {}, "last": "]}," }'


def input_of(arguments: str) -> Any:
    parts: list[Part] = [CallBegin(0, "weather"), *([CallArguments(0, arguments)] if arguments else [])]
    (block,) = json.loads(msgspec.json.encode(whole_blocks(parts)))
    assert block["name"] == "weather"
    return block["input"]


def test_a_call_that_was_cut_off_has_the_input_that_clients_make_of_the_events():
    for end in range(1, len(WRITTEN) + 1):
        written = WRITTEN[:end]
        # Clients take a number for whole wherever it ends.
        if not written[-1].isdigit():
            assert input_of(written) == jiter.from_json(written.encode(), partial_mode=True), written
    assert input_of('{"a": 1, "b": 2') == {"a": 1}


@pytest.mark.parametrize("damaged", ["", "[1]", "[1", "}", "{}}", '{"a" 1, "b"', '{"a": ' * 5000, "[" * 100_000, ':"'])
def test_what_is_no_object_is_no_input(damaged):
    assert input_of(damaged) == {}


def test_every_call_has_an_id_of_its_own():
    first, second = (block["id"] for block in whole_blocks([CallBegin(0, "a"), CallBegin(1, "a")]))
    assert first != second
    assert first.startswith("toolu_")

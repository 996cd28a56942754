"""What clients echo back becomes the messages that templates read: one message a turn, whatever items it came in."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from yeoul.web_process.responses.messages import messages_of
from yeoul.web_process.responses.schemas.input_items import InputItem, read_items


def messages(*items: dict[str, Any], instructions: str | None = None) -> list[dict[str, Any]]:
    return messages_of(instructions, msgspec.convert(list(items), list[InputItem]))


def test_a_turn_of_several_items_is_one_message():
    found = messages(
        {"role": "user", "content": "hi"},
        {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "hm"}]},
        {"type": "message", "id": "m", "role": "assistant", "content": [{"type": "output_text", "text": "I look."}]},
        {"type": "function_call", "call_id": "1", "name": "weather", "arguments": "{}", "status": "completed"},
        {"type": "custom_tool_call", "call_id": "2", "name": "patch", "input": 'a "b"'},
        {"type": "function_call_output", "call_id": "1", "output": "rain"},
        {"type": "custom_tool_call_output", "call_id": "2", "output": [{"type": "input_text", "text": "done"}]},
        {"type": "message", "role": "assistant", "content": "It rains."},
    )
    calls = [
        {"id": "1", "type": "function", "function": {"name": "weather", "arguments": "{}"}},
        {"id": "2", "type": "function", "function": {"name": "patch", "arguments": '{"input":"a \\"b\\""}'}},
    ]
    text = [{"type": "text", "text": "I look."}]
    assert found == [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "reasoning_content": "hm", "content": text, "tool_calls": calls},
        {"role": "tool", "tool_call_id": "1", "content": "rain"},
        {"role": "tool", "tool_call_id": "2", "content": [{"type": "text", "text": "done"}]},
        {"role": "assistant", "content": "It rains."},
    ]


def test_calls_after_outputs_are_another_turn():
    call = {"type": "function_call", "call_id": "1", "name": "now", "arguments": "{}"}
    output = {"type": "function_call_output", "call_id": "1", "output": ""}
    assert [message["role"] for message in messages(call, output, call, output)] == ["assistant", "tool"] * 2


def test_what_stands_before_the_first_user_is_one_system_message():
    found = messages(
        {"role": "developer", "content": [{"type": "input_text", "text": "one"}, {"type": "input_text", "text": "two"}]},
        {"role": "system", "content": "three"},
        {"role": "user", "content": "hi"},
        {"role": "developer", "content": "later"},
        instructions="zero",
    )
    assert [message["role"] for message in found] == ["system", "user", "system"]
    assert found[0]["content"] == "zero\n\none\ntwo\n\nthree"


def test_of_reasoning_without_its_text_the_summary_is_read():
    found = messages({"type": "reasoning", "summary": [{"type": "summary_text", "text": "in short"}]})
    assert found == [{"role": "assistant", "reasoning_content": "in short", "content": ""}]
    assert messages({"type": "reasoning", "summary": [], "encrypted_content": "xyz"}) == []


def test_the_tools_of_a_namespace_have_it_in_their_names():
    found = messages({"type": "function_call", "call_id": "1", "namespace": "n", "name": "now", "arguments": "{}"})
    assert found[0]["tool_calls"][0]["function"]["name"] == "n__now"


def test_what_openais_own_tools_left_is_not_told():
    assert messages({"type": "web_search_call", "id": "ws_1", "status": "completed"}) == []


@pytest.mark.parametrize(
    ("item", "error"),
    [
        ({"type": "computer_call", "id": "c"}, "'computer_call' are not known"),
        ({"type": "function_call", "call_id": "1", "name": "f"}, "no arguments"),
        ({"type": "function_call_output", "output": "x"}, "no call_id"),
        ({"role": "user"}, "no content"),
        ({"role": "user", "content": [{"type": "input_image", "image_url": "data:"}]}, "reads text only"),
        ({"type": "function_call", "call_id": "1", "name": "f", "arguments": "," * 40000}, "more than 32768 entries"),
    ],
)
def test_items_that_mean_nothing_are_refused(item, error):
    with pytest.raises(msgspec.ValidationError, match=error):
        messages(item)


def test_items_are_kept_as_they_can_be_read_again():
    items = [
        {"role": "user", "content": "hi"},
        {"type": "message", "role": "assistant", "content": "so"},
        {"type": "function_call", "call_id": "1", "name": "f", "arguments": "{}", "id": "fc_1", "status": "completed"},
        {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "hm"}]},
    ]
    read = msgspec.convert(items, list[InputItem])
    kept = [item.as_json() for item in read]
    assert kept[0] == {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}]}
    assert kept[1]["content"] == [{"type": "output_text", "text": "so", "annotations": []}]
    assert kept[2] == items[2]
    assert [item.as_json() for item in read_items(kept)] == kept

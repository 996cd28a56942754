"""However an answer's text is cut, its events add up to the same response; and the order that OpenAI's events have."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yeoul.errors import RequestFailedError
from yeoul.messages.outputs import FinishReason, TokenLogprobs
from yeoul.messages.sampling import SamplingParams
from yeoul.model_files.tokenizer_source import fake_tokenizer_source
from yeoul.text.answers.answer_reader import AnswerReader
from yeoul.text.answers.families import reasoning_family, tool_family
from yeoul.text.tokenizer import Tokenizer
from yeoul.web_process.answers.choice_reader import ChoiceReader
from yeoul.web_process.engine.generation_output import GenerationOutput
from yeoul.web_process.responses.response_format import ResponseFormat
from yeoul.web_process.responses.response_object import ResponseName, ResponseObject
from yeoul.web_process.responses.response_writer import ResponseWriter
from yeoul.web_process.responses.schemas.response_request import ResponseRequest
from yeoul.web_process.responses.tool_names import CalledTool, ToolNames

NAME = ResponseName("0123456789abcdef0123456789abcdef")
TOOLS = ToolNames([CalledTool("weather"), CalledTool("patch", is_custom=True), CalledTool("now", "clock")])
CALLS = (
    '<tool_call>\n{"name": "weather", "arguments": {"city": "Süß", "days": 3}}\n</tool_call>\n'
    '<tool_call>\n{"name": "patch", "arguments": {"input": "*** Begin\\n\\"a\\""}}\n</tool_call>\n'
    '<tool_call>\n{"name": "clock__now", "arguments": {}}\n</tool_call>'
)
ANSWERS = {
    "text": "The weather is fine.",
    "nothing": "",
    "thoughts and text": "<think>\nhm, hm\n</think>\n\nFine.",
    "text and calls": f"I look.\n{CALLS}",
    "everything": f"<think>the river?</think>I look.\n{CALLS}",
    "a call that breaks off": '<tool_call>\n{"name": "weather", "arguments": {"city": "Bo',
    "what only looks like a call": "a <tool_call> of duty",
}


def answer_format(*, has_reader: bool = True, background: bool = False) -> ResponseFormat:
    tokenizer = Tokenizer.load(fake_tokenizer_source())
    reader = AnswerReader(tool_family("hermes"), reasoning_family("qwen3"), schemas={"weather": {}}) if has_reader else None
    body = ResponseRequest(input="hi", background=background or None)
    response = ResponseObject(NAME, body, "fake", SamplingParams(), created_at=7)
    return ResponseFormat(ResponseWriter(response, TOOLS), ChoiceReader(reader, tokenizer), tokenizer, 5)


def delta(text: str, num_tokens: int, finish_reason: FinishReason | None, logprobs: list[TokenLogprobs]) -> GenerationOutput:
    return GenerationOutput(
        request_id="r",
        prompt_index=0,
        choice_index=0,
        seed=1,
        num_prompt_tokens=5,
        text=text,
        token_ids=list(text.encode()),
        logprobs=logprobs,
        num_output_tokens=num_tokens,
        num_cached_tokens=2,
        finish_reason=finish_reason,
    )


def events_of(payload: bytes) -> list[dict[str, Any]]:
    events = []
    for number, block in enumerate(payload.decode().split("\n\n")[:-1]):
        kind, data = block.split("\n")
        event = json.loads(data.removeprefix("data: "))
        assert kind == f"event: {event['type']}"
        assert event["sequence_number"] == number
        events.append(event)
    return events


def streamed(text: str, cuts: list[int], reason: FinishReason = "stop", **options: bool) -> list[dict[str, Any]]:
    answer = answer_format(**options)
    borders = [0, *sorted(cut for cut in set(cuts) if 0 < cut < len(text)), len(text)]
    payload = b""
    for begin, end in itertools.pairwise(borders):
        logprobs = [TokenLogprobs([token], [-0.5], 1) for token in text[begin:end].encode()]
        payload += answer.events(delta(text[begin:end], end, reason if end == len(text) else None, logprobs))
    return events_of(payload + answer.closing())


def added_up(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The items as the deltas make them, each checked against what its last events say."""
    items: list[dict[str, Any]] = []
    text = ""
    for event in events:
        match event["type"]:
            case "response.output_item.added":
                assert event["output_index"] == len(items)
                items.append(event["item"])
                text = ""
            case "response.output_text.delta" | "response.reasoning_text.delta" | "response.function_call_arguments.delta":
                assert event["delta"], "an empty delta"
                text += event["delta"]
            case "response.custom_tool_call_input.delta":
                text = event["delta"]
            case "response.output_text.done" | "response.reasoning_text.done":
                assert event["text"] == text
            case "response.function_call_arguments.done":
                assert event["arguments"] == text
            case "response.custom_tool_call_input.done":
                assert event["input"] == text
            case "response.output_item.done":
                assert event["item"]["id"] == items[-1]["id"]
                items[-1] = event["item"]
        if "item_id" in event:
            assert event["item_id"] == items[event["output_index"]]["id"]
    return items


def without_times(response: dict[str, Any]) -> dict[str, Any]:
    usage = response["usage"] | {"output_tokens": 0, "total_tokens": 0, "output_tokens_details": None}
    return response | {"completed_at": 0, "usage": usage}


def without_logprobs(items: list[dict[str, Any]]) -> Any:
    """Which text a probability goes with depends on what has come with it."""
    return json.loads(json.dumps(items), object_hook=lambda fields: {k: v for k, v in fields.items() if k != "logprobs"})


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(ANSWERS)), st.lists(st.integers(1, 400), max_size=40))
def test_however_the_text_is_cut_the_events_add_up_to_the_same(name, cuts):
    text = ANSWERS[name]
    events = streamed(text, cuts)
    whole = json.loads(answer_format().whole([delta(text, len(text), "stop", [])]))
    response = events[-1]["response"]
    assert without_logprobs(added_up(events)) == without_logprobs(response["output"])
    assert without_logprobs(response["output"]) == without_logprobs(whole["output"])
    assert without_times(response | {"output": []}) == without_times(whole | {"output": []})


def test_every_answer_has_its_items():
    for name, kinds in {
        "text": ["message"],
        "nothing": ["message"],
        "thoughts and text": ["reasoning", "message"],
        "everything": ["reasoning", "message", "function_call", "custom_tool_call", "function_call"],
        "a call that breaks off": ["function_call"],
    }.items():
        response = streamed(ANSWERS[name], [])[-1]["response"]
        assert [item["type"] for item in response["output"]] == kinds
        assert len({item["id"] for item in response["output"]}) == len(kinds)
    items = streamed(ANSWERS["everything"], [])[-1]["response"]["output"]
    assert json.loads(items[2]["arguments"]) == {"city": "Süß", "days": 3}
    assert items[3]["input"] == '*** Begin\n"a"'
    assert (items[4]["name"], items[4]["namespace"]) == ("now", "clock")
    assert len({item["call_id"] for item in items[2:]}) == 3


def test_the_events_of_a_text_have_openais_order():
    kinds = [event["type"].removeprefix("response.") for event in streamed("Hi!", [1, 2])]
    assert kinds == [
        "created", "in_progress", "output_item.added", "content_part.added", "output_text.delta", "output_text.delta",
        "output_text.delta", "output_text.done", "content_part.done", "output_item.done", "completed",
    ]  # fmt: skip


def test_what_runs_in_the_background_is_queued_first():
    events = streamed("Hi!", [], background=True)
    assert [event["type"] for event in events[:3]] == ["response.created", "response.queued", "response.in_progress"]


def test_an_answer_that_is_cut_off_is_incomplete_and_so_is_its_last_item():
    events = streamed(ANSWERS["a call that breaks off"], [50], "length")
    assert events[-1]["type"] == "response.incomplete"
    response = events[-1]["response"]
    assert response["status"] == "incomplete"
    assert response["incomplete_details"] == {"reason": "max_output_tokens"}
    assert response["output"][0]["status"] == "incomplete"
    assert response["completed_at"] is None


def test_a_call_whose_arguments_are_no_json_is_incomplete():
    assert streamed(ANSWERS["a call that breaks off"], [])[-1]["response"]["output"][0]["status"] == "incomplete"


def test_the_log_probabilities_of_a_text_are_all_told_with_it():
    events = streamed("Fine!", [2], has_reader=False)
    told = [entry["token"] for event in events if "delta" in event for entry in event["logprobs"]]
    assert told == list("Fine!")
    part = events[-1]["response"]["output"][0]["content"][0]
    assert [entry["token"] for entry in part["logprobs"]] == list("Fine!")


@pytest.mark.parametrize("text", ["<think>\nhm, hm\n</think>\n\nFine.", "<think>hm</think>\n\n Fine.", "\n Fine."])
def test_the_log_probabilities_of_a_text_are_not_those_of_thoughts_and_tags(text):
    (part,) = [
        item["content"][0]
        for item in streamed(text, [*range(len(text))])[-1]["response"]["output"]
        if item["type"] == "message"
    ]
    assert "".join(entry["token"] for entry in part["logprobs"]).lstrip() == "Fine."
    assert part["text"].lstrip() == "Fine."


def test_a_failure_ends_what_had_begun():
    answer = answer_format()
    payload = answer.events(delta("Fi", 2, None, []))
    events = events_of(payload + answer.failure(RequestFailedError("it broke")))
    assert events[-1]["type"] == "response.failed"
    response = events[-1]["response"]
    assert response["status"] == "failed"
    assert response["error"] == {"code": "server_error", "message": "it broke"}
    assert response["output"][0]["status"] == "incomplete"
    assert response["output"][0]["content"][0]["text"] == "Fi"


def test_an_item_tells_which_response_wrote_it():
    assert ResponseName.of_item(NAME.item_id("msg", 12)) == NAME
    assert NAME.id == f"resp_{NAME.number}"

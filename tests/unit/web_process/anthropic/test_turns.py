"""The messages of /v1/messages as templates get them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from yeoul.errors import InvalidRequestError
from yeoul.messages.sampling import SamplingParams
from yeoul.web_process.answers.conversation import Conversation
from yeoul.web_process.anthropic.schemas.messages import CountTokensRequest
from yeoul.web_process.http.request_body import parse_body

READ: dict[str, Any] = {"name": "Read", "input_schema": {"type": "object", "properties": {"path": {"type": "string"}}}}
SEARCH: dict[str, Any] = {"name": "Search", "description": "finds", "input_schema": {"type": "object"}, "defer_loading": True}
ASK = {"role": "user", "content": "hi"}


def conversation(*messages: dict[str, Any], **fields: Any) -> Conversation:
    body = json.dumps({"messages": list(messages), **fields}).encode()
    return parse_body(body, CountTokensRequest).conversation(SamplingParams(), len(body))


def turns(*messages: dict[str, Any], **fields: Any) -> list[dict[str, Any]]:
    return conversation(*messages, **fields).messages()


def use(call_id: str, name: str = "Read", **arguments: Any) -> dict[str, Any]:
    return {"type": "tool_use", "id": call_id, "name": name, "input": arguments}


def result(call_id: str, **fields: Any) -> dict[str, Any]:
    return {"role": "user", "content": [{"type": "tool_result", "tool_use_id": call_id, **fields}]}


def text(written: str) -> dict[str, Any]:
    return {"type": "text", "text": written}


def test_the_system_prompt_comes_first_whether_text_or_blocks():
    expected = [{"role": "system", "content": "be kind"}, ASK]
    assert turns(ASK, system="be kind") == turns(ASK, system=[text("be kind")]) == expected


def test_a_text_is_a_block_of_text():
    assert turns({"role": "user", "content": [text("hi") | {"cache_control": {"type": "ephemeral"}}]}) == turns(ASK)


def test_what_differs_from_session_to_session_is_not_shown():
    system = [text("x-anthropic-billing-header: cc_version=2.1.332.2ed;"), text("be kind")]
    assert turns(ASK, system=system)[0] == {"role": "system", "content": "be kind"}


def test_texts_of_one_message_are_joined_and_messages_are_not():
    assert turns(ASK, {"role": "user", "content": [text("how"), text("are you")]}) == [
        ASK,
        {"role": "user", "content": "how\nare you"},
    ]


def test_an_instruction_keeps_its_place_in_both_spellings():
    later = {"role": "system", "content": "the day is Sunday"}
    assert turns(ASK, later | {"content": [text("the day is Sunday")]}) == turns(ASK, later) == [ASK, later]


def test_calls_and_their_results_in_the_order_in_which_they_stand():
    answer = [text("I look."), use("aaaaaaaa1", path="/x"), use("aaaaaaaa2", "Now")]
    results = {
        "role": "user",
        "content": [
            text("here:"),
            {"type": "tool_result", "tool_use_id": "aaaaaaaa2", "content": [text("12:00"), text("or so")]},
            {"type": "tool_result", "tool_use_id": "aaaaaaaa1", "content": "no such file", "is_error": True},
            text("go on"),
        ],
    }
    found = turns(ASK, {"role": "assistant", "content": answer}, results)
    calls = [
        {"id": "aaaaaaaa1", "type": "function", "function": {"name": "Read", "arguments": {"path": "/x"}}},
        {"id": "aaaaaaaa2", "type": "function", "function": {"name": "Now", "arguments": {}}},
    ]
    assert found == [
        ASK,
        {"role": "assistant", "content": "I look.", "tool_calls": calls},
        {"role": "user", "content": "here:"},
        {"role": "tool", "tool_call_id": "aaaaaaaa2", "content": "12:00\nor so", "name": "Now"},
        {"role": "tool", "tool_call_id": "aaaaaaaa1", "content": "Error: no such file", "name": "Read"},
        {"role": "user", "content": "go on"},
    ]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [({}, ""), ({"content": []}, ""), ({"is_error": True}, "Error"), ({"content": "x", "is_error": False}, "x")],
)
def test_a_result_may_be_empty(fields, expected):
    call = {"role": "assistant", "content": [use("aaaaaaaa1")]}
    assert turns(ASK, call, result("aaaaaaaa1", **fields))[-1]["content"] == expected


def test_thoughts_come_back_to_the_template_but_those_that_nobody_can_read():
    thoughts = [
        {"type": "thinking", "thinking": "hm", "signature": "x"},
        {"type": "redacted_thinking", "data": "AAAA"},
        text("yes"),
    ]
    found = turns(ASK, {"role": "assistant", "content": thoughts}, ASK)
    assert found[1] == {"role": "assistant", "reasoning_content": "hm", "content": "yes"}


def test_a_document_of_text_is_read():
    document = {"type": "document", "title": "T", "source": {"type": "text", "media_type": "text/plain", "data": "body"}}
    assert turns({"role": "user", "content": [document, text("sum it up")]})[0]["content"] == "T\nbody\nsum it up"


def test_a_deferred_tool_is_shown_where_it_is_named_and_may_be_called_from_then_on():
    alone = conversation(ASK, tools=[READ, SEARCH])
    assert [tool.name for tool in alone.tools] == ["Read"]
    assert alone.calls is not None
    assert [tool.name for tool in alone.calls.tools] == ["Read"]
    named: list[dict[str, Any]] = [
        ASK,
        {"role": "assistant", "content": [use("aaaaaaaa1")]},
        result("aaaaaaaa1", content=[{"type": "tool_reference", "tool_name": "Search"}]),
    ]
    found = conversation(*named, tools=[READ, SEARCH])
    assert [tool.name for tool in found.tools] == ["Read"], "what stands before has not changed"
    assert found.calls is not None
    assert [tool.name for tool in found.calls.tools] == ["Read", "Search"]
    assert json.loads(found.messages()[-1]["content"])["function"]["name"] == "Search"


def test_a_deferred_tool_is_shown_once_however_often_it_is_named():
    named = {"role": "user", "content": [{"type": "tool_reference", "tool_name": "Search"}] * 3}
    first, second = turns(named, named, tools=[SEARCH])
    assert (first["content"] + second["content"]).count('"finds"') == 1
    assert first["content"].endswith("}}\nThe tool Search is there.\nThe tool Search is there.")


def test_tools_of_anthropics_servers_are_passed_over_and_named():
    body = json.dumps(
        {"messages": [ASK], "tools": [{"type": "web_search_20250305", "name": "web_search", "max_uses": 8}, READ]}
    )
    request = parse_body(body.encode(), CountTokensRequest)
    assert [tool.name for tool in request.conversation(SamplingParams(), 1).tools] == ["Read"]
    assert request.without_effect(set()) == ["tools.web_search_20250305"]


@pytest.mark.parametrize(
    ("choice", "must_call", "names", "is_single"),
    [
        ({"type": "auto"}, False, ["Read", "Now"], False),
        ({"type": "auto", "disable_parallel_tool_use": True}, False, ["Read", "Now"], True),
        ({"type": "any"}, True, ["Read", "Now"], False),
        ({"type": "tool", "name": "Now"}, True, ["Now"], True),
    ],
)
def test_the_choice_of_tools(choice, must_call, names, is_single):
    calls = conversation(ASK, tools=[READ, READ | {"name": "Now"}], tool_choice=choice).calls
    assert calls is not None
    assert (calls.must_call, [tool.name for tool in calls.tools], calls.is_single) == (must_call, names, is_single)


def test_no_tool_is_called_where_none_is_chosen():
    assert conversation(ASK, tools=[READ], tool_choice={"type": "none"}).calls is None


@pytest.mark.parametrize(
    ("thinking", "thinks"),
    [
        (None, False),
        ({"type": "disabled"}, False),
        ({"type": "enabled", "budget_tokens": 1024}, True),
        ({"type": "adaptive", "display": "updates"}, True),
    ],
)
def test_the_model_thinks_only_for_those_who_ask_for_it(thinking, thinks):
    arguments = conversation(ASK, thinking=thinking).template_arguments
    assert (arguments["enable_thinking"], arguments["thinking"]) == (thinks, thinks)


def test_effort_and_the_templates_own_arguments():
    found = conversation(ASK, output_config={"effort": "high"}, chat_template_kwargs={"enable_thinking": True})
    assert found.template_arguments == {"enable_thinking": True, "thinking": False, "reasoning_effort": "high"}


@pytest.mark.parametrize(
    "fields",
    [
        {"output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}}},
        {"output_format": {"type": "json_schema", "schema": {"type": "object"}}},
    ],
)
def test_the_form_of_the_answer(fields):
    wanted = conversation(ASK, **fields).wanted
    assert wanted is not None
    assert (wanted.kind, wanted.value) == ("json_schema", {"type": "object"})


BAD: list[tuple[dict[str, Any], str]] = [
    ({"messages": []}, "messages has 0 entries"),
    ({"messages": [{"role": "user"}]}, "messages.0.content' is missing"),
    ({"messages": [{"role": "tool", "content": "x"}]}, "messages.0.role"),
    ({"messages": [{"role": "user", "content": [{"type": "image"}]}]}, "reads text only"),
    ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "has no text"),
    ({"messages": [{"role": "user", "content": [{"type": "document", "source": {"type": "base64"}}]}]}, "reads text only"),
    ({"messages": [{"role": "user", "content": [{"type": "document", "source": {"type": "text", "data": 1}}]}]}, "no text"),
    ({"messages": [{"role": "user", "content": [use("x")]}]}, "stands in a message of the role user"),
    ({"messages": [ASK, {"role": "assistant", "content": [result("x")["content"][0]]}, ASK]}, "of the role assistant"),
    (
        {"messages": [ASK, {"role": "assistant", "content": [{"type": "tool_use", "id": "x"}]}, ASK]},
        "needs id, name and input",
    ),
    ({"messages": [ASK, {"role": "assistant", "content": [use("x")]}]}, "end with a message of the user"),
    (
        {"messages": [result("x", content=[{"type": "image"}])]},
        "messages.0.content.0.content.0: a block has the type 'image'",
    ),
    ({"mcp_servers": [{"url": "x"}]}, "calls no MCP servers"),
    ({"thread": {"type": "create"}}, "send all messages each time, without thread"),
    ({"thread": {"type": "continue", "previous_message_id": "msg_1"}}, "send all messages each time, without thread"),
    ({"tools": [{"name": "x"}]}, "a tool needs name and input_schema"),
    ({"tools": [{"type": "bash_20250124", "name": "bash"}]}, "known to Anthropic's models only"),
    ({"tools": [READ | {"name": "a b"}]}, "tools.0.name is 'a b'; expected what fits the pattern ^[A-Za-z0-9_.:/-]+$"),
    ({"tools": [READ | {"name": "Read\n"}]}, "tools.0.name is 'Read\\n'; expected"),
    ({"tools": [READ, READ]}, "two tools have the same name"),
    ({"tool_choice": {"type": "any"}}, "the request has no tools"),
    ({"tool_choice": {"type": "tool", "name": "Other"}, "tools": [READ]}, "none of the tools"),
    ({"tool_choice": {"type": "tool"}, "tools": [READ]}, "needs a name"),
    (
        {"output_format": {"type": "json_schema", "schema": {}}, "tools": [READ], "tool_choice": {"type": "any"}},
        "one form only",
    ),
    ({"thinking": {"type": "much"}}, "thinking.type"),
    ({"cache_control": {"type": "for ever"}}, "cache_control.type"),
]


@pytest.mark.parametrize(("fields", "message"), BAD)
def test_what_cannot_be_is_refused_in_words(fields, message):
    with pytest.raises(InvalidRequestError) as caught:
        parse_body(json.dumps({"messages": [ASK], **fields}).encode(), CountTokensRequest)
    assert message in caught.value.message

"""Every field that clients of completions and chats send, one row each: what is sent, and what has to be seen of it.

The engine is a fake one that answers with the bytes that a row says; what it was asked for is seen as well.
"""

# size: one table, whose rows share a template, a server and the ways in which an answer is looked at

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest

from tests.unit.web_process.fake_engine_client import settings
from tests.unit.web_process.fake_server import FakeServer, LastingServer
from yeoul.messages.requests import AddRequest
from yeoul.model_files.tokenizer_source import FAKE_BOS_TOKEN_ID, FAKE_EOS_TOKEN_ID

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
TEMPLATE = (
    "{% if tools %}<tools>{{ tools[0].function.name }}</tools>"
    '<tool_call>\n{"name": ..., "arguments": ...}\n</tool_call>{% endif %}'
    "{% for document in documents or [] %}({{ document.text }}){% endfor %}"
    "{% for message in messages %}[{{ message.role }}]"
    "{% if message.reasoning_content %}<think>{{ message.reasoning_content }}</think>{% endif %}{{ message.content | trim }}"
    "{% for call in message.tool_calls or [] %}<{{ call.function.name }} {{ call.function.arguments | tojson }}>{% endfor %};"
    "{% endfor %}{% if reasoning_effort %}effort {{ reasoning_effort }};{% endif %}"
    "{% if verbosity %}verbosity {{ verbosity }};{% endif %}{% if style %}style {{ style }};{% endif %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)
OLD_TEMPLATE = "{% for message in messages %}[{{ message.role }}]{{ message.content }};{% endfor %}"
SINGLE_CALL_TEMPLATE = (
    OLD_TEMPLATE + "{% for message in messages %}{% set calls = message.tool_calls or [] %}"
    "{% if calls | length > 1 %}{{ raise_exception('one call') }}{% endif %}"
    "{% for call in calls %}<{{ call.function.name }}>{% endfor %}{% endfor %}"
)
DEVELOPER_TEMPLATE = OLD_TEMPLATE + "{% if messages[0].role == 'developer' %}!{% endif %}"
HELLO = [*b"hello", FAKE_EOS_TOKEN_ID]
THOUGHTS = [*b"<think>hm</think>hello", FAKE_EOS_TOKEN_ID]
CALL = [*b'<tool_call>\n{"name": "now", "arguments": {"zone": "UTC"}}\n</tool_call>', FAKE_EOS_TOKEN_ID]
USER, SAID = {"role": "user", "content": "hi"}, {"role": "assistant", "content": "Once upon "}
NOW = {"name": "now", "parameters": {"type": "object"}}
PATCH = {"type": "custom", "custom": {"name": "patch", "description": "edits"}}
PATCH_CALL = '<tool_call>\n{"name": "patch", "arguments": {"input": %s}}\n</tool_call>'
PATCH_CALLS = [*(PATCH_CALL % json.dumps('a "b"')).encode(), *b"\n", *CALL]


class Seen(NamedTuple):
    """An answer, whole or joined from its events, and the request that the engine got."""

    status: int
    body: dict[str, Any]
    events: list[dict[str, Any]]
    ignored: str
    add: AddRequest | None

    @property
    def error(self) -> str:
        return str(self.body["error"]["message"])

    @property
    def choice(self) -> dict[str, Any]:
        found: dict[str, Any] = self.body["choices"][0]
        return found

    @property
    def message(self) -> dict[str, Any]:
        found: dict[str, Any] = self.choice["message"]
        return found

    @property
    def call_deltas(self) -> list[dict[str, Any]]:
        """Of all events."""
        deltas = [choice["delta"] for event in self.events for choice in event["choices"]]
        return [call for delta in deltas for call in delta.get("tool_calls", [])]

    @property
    def text(self) -> str:
        """Of all events."""
        choices = [choice for event in self.events for choice in event["choices"]]
        return "".join(choice.get("text") or choice.get("delta", {}).get("content") or "" for choice in choices)

    @property
    def prompt(self) -> str:
        assert self.add is not None
        return bytes(token_id for token_id in self.add.prompt_token_ids if token_id < 256).decode()


class Row(NamedTuple):
    """``sees`` holds what has to be so. ``reply`` is what the model says, ``template`` its chat template."""

    name: str
    fields: dict[str, Any]
    sees: Callable[[Seen], object]
    path: str = CHAT
    reply: list[int] = HELLO
    template: str = TEMPLATE


def ends(text: str) -> Callable[[Seen], object]:
    """The prompt does."""
    return lambda seen: seen.status == 200 and seen.prompt.endswith(text)


def refused(words: str) -> Callable[[Seen], object]:
    return lambda seen: seen.status == 400 and words in seen.error and seen.add is None


def ignored(name: str) -> Callable[[Seen], object]:
    return lambda seen: seen.status == 200 and name in seen.ignored


def taken(seen: Seen) -> object:
    """Without a word."""
    return seen.status == 200 and not seen.ignored


def patch_in(syntax: str, definition: str) -> dict[str, Any]:
    form = {"type": "grammar", "grammar": {"syntax": syntax, "definition": definition}}
    return {"type": "custom", "custom": {"name": "patch", "format": form}}


def chat_of(*messages: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"messages": list(messages), **fields}


MESSAGES = [
    Row("developer", chat_of({"role": "developer", "content": "a"}), ends("[system]a;[assistant]")),
    Row(
        "developer, for a template that knows it",
        chat_of({"role": "developer", "content": "a"}),
        ends("[developer]a;!"),
        template=DEVELOPER_TEMPLATE,
    ),
    Row("name", chat_of(USER | {"name": "me"}), taken),
    Row("text parts", chat_of(USER | {"content": [{"type": "text", "text": "a"}]}), ends("[user]a;[assistant]")),
    Row("image_url", chat_of(USER | {"content": [{"type": "image_url", "image_url": {"url": "x"}}]}), refused("text only")),
    Row("input_audio", chat_of(USER | {"content": [{"type": "input_audio", "input_audio": {}}]}), refused("text only")),
    Row("file", chat_of(USER | {"content": [{"type": "file", "file": {}}]}), refused("text only")),
    Row("video_url", chat_of(USER | {"content": [{"type": "video_url", "video_url": {}}]}), refused("text only")),
    Row(
        "assistant.reasoning_content",
        chat_of(SAID | {"reasoning_content": "hm"}, USER),
        ends("<think>hm</think>Once upon;[user]hi;[assistant]"),
    ),
    Row(
        "assistant.reasoning",
        chat_of(SAID | {"reasoning": "hm"}, USER),
        ends("<think>hm</think>Once upon;[user]hi;[assistant]"),
    ),
    Row(
        "assistant.reasoning_details",
        chat_of(
            SAID | {"reasoning_details": [{"type": "reasoning.text", "text": "hm"}, {"type": "reasoning.encrypted"}]}, USER
        ),
        ends("<think>hm</think>Once upon;[user]hi;[assistant]"),
    ),
    Row(
        "thinking parts",
        chat_of(
            {"role": "assistant", "content": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "a"}]}, USER
        ),
        ends("<think>hm</think>a;[user]hi;[assistant]"),
    ),
    Row(
        "thinking parts, Mistral's",
        chat_of({"role": "assistant", "content": [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}]}, USER),
        ends("<think>hm</think>;[user]hi;[assistant]"),
    ),
    Row("assistant.prefix", chat_of(USER, SAID | {"prefix": True}), ends("[assistant]Once upon ")),
    Row("assistant.partial", chat_of(USER, SAID | {"partial": True}), ends("[assistant]Once upon ")),
    Row("assistant.prefix before the end", chat_of(USER, SAID | {"prefix": True}, USER), ends(";[user]hi;[assistant]")),
    Row("assistant.id, any other key", chat_of(USER | {"id": "m1", "timestamp": 1}), ignored("messages.id")),
    Row("assistant content null without calls", chat_of({"role": "assistant", "content": None}, USER), taken),
    Row("tool content null", chat_of(USER, {"role": "tool", "content": None, "tool_call_id": "1"}), taken),
    Row("user content null", chat_of({"role": "user", "content": None}), refused("no content")),
    Row(
        "assistant.audio {id}",
        chat_of({"role": "assistant", "audio": {"id": "a"}}, USER),
        refused("messages.0.audio is not supported"),
    ),
    Row(
        "message.function_call, role function",
        chat_of(
            USER,
            {"role": "assistant", "content": None, "function_call": {"name": "now", "arguments": '{"zone": 1}'}},
            {"role": "function", "name": "now", "content": "12"},
        ),
        ends('<now {"zone": 1}>;[tool]12;[assistant]'),
    ),
    Row(
        "assistant.tool_calls of custom tools",
        chat_of(
            USER,
            SAID | {"tool_calls": [{"id": "a", "type": "custom", "custom": {"name": "patch", "input": 'a "b"'}}]},
            {"role": "tool", "tool_call_id": "a", "content": "done"},
        ),
        lambda seen: '<patch {"input": "a \\"b\\""}>' in seen.prompt and seen.prompt.endswith(";[tool]done;[assistant]"),
    ),
    *(
        Row(
            f"assistant.tool_calls of custom tools, {custom}",
            chat_of(USER, SAID | {"tool_calls": [{"id": "a", "type": "custom", **custom}]}, USER),
            refused("no custom.name or custom.input"),
        )
        for custom in ({}, {"custom": 1}, {"custom": {"name": "p"}}, {"custom": {"name": "p", "input": {}}})
    ),
    Row(
        "assistant.tool_calls.id, not a string",
        chat_of(USER, SAID | {"tool_calls": [{"id": [1], "type": "function", "function": {"name": "now"}}] * 2}, USER),
        refused("a tool call's id is of the type array"),
        template=SINGLE_CALL_TEMPLATE,
    ),
]

ASKED = [
    Row(
        "tools",
        {"tools": [{"type": "function", "function": NOW}]},
        lambda seen: (
            seen.choice["finish_reason"] == "tool_calls"
            and seen.message["content"] is None
            and json.loads(seen.message["tool_calls"][0]["function"]["arguments"]) == {"zone": "UTC"}
        ),
        reply=CALL,
    ),
    Row(
        "parallel_tool_calls",
        {"tools": [{"type": "function", "function": NOW}], "parallel_tool_calls": False},
        lambda seen: len(seen.message["tool_calls"]) == 1,
        reply=[*CALL[:-1], *CALL],
    ),
    Row(
        "custom tools",
        {"tools": [PATCH, {"type": "function", "function": NOW}]},
        lambda seen: (
            seen.choice["finish_reason"] == "tool_calls"
            and [(call["type"], call["id"] and call.get("custom")) for call in seen.message["tool_calls"]]
            == [("custom", {"name": "patch", "input": 'a "b"'}), ("function", None)]
        ),
        reply=PATCH_CALLS,
    ),
    Row(
        "custom tools in a stream",
        {"tools": [PATCH, {"type": "function", "function": NOW}], "stream": True},
        lambda seen: (
            [call.get("custom") for call in seen.call_deltas if call["index"] == 0]
            == [{"name": "patch", "input": ""}, {"input": 'a "b"'}]
            and [call.get("type") for call in seen.call_deltas if "id" in call] == ["custom", "function"]
            and seen.events[-1]["choices"][0]["finish_reason"] == "tool_calls"
        ),
        reply=PATCH_CALLS,
    ),
    Row(
        "a custom tool's call that is cut off, in a stream",
        {"tools": [PATCH], "stream": True, "max_tokens": 58},
        lambda seen: (
            [call["custom"]["input"] for call in seen.call_deltas] == ["", '{"input": "a \\"']
            and seen.events[-1]["choices"][0]["finish_reason"] == "length"
        ),
        reply=PATCH_CALLS,
    ),
    Row(
        "parallel_tool_calls with custom tools",
        {"tools": [PATCH, {"type": "function", "function": NOW}], "parallel_tool_calls": False, "stream": True},
        lambda seen: [call["custom"]["input"] for call in seen.call_deltas] == ["", 'a "b"'],
        reply=PATCH_CALLS,
    ),
    Row(
        "tool_choice custom of an unknown one",
        {"tools": [PATCH], "tool_choice": {"type": "custom", "custom": {"name": "x"}}},
        refused("none of the tools"),
    ),
    Row(
        "tool_choice custom without a name",
        {"tools": [PATCH], "tool_choice": {"type": "custom", "function": {"name": "patch"}}},
        refused("names no custom; expected custom.name"),
    ),
    Row(
        "allowed_tools with custom tools",
        {
            "tools": [PATCH, {"type": "function", "function": NOW}],
            "tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [PATCH]}},
        },
        lambda seen: seen.add is not None and "patch" in (seen.add.sampling.grammar or ""),
    ),
    Row("custom tools of one name", {"tools": [PATCH, PATCH]}, refused("the same name")),
    Row("custom tools without custom", {"tools": [{"type": "custom"}]}, refused("has no custom")),
    Row(
        "custom tools with a function inside",
        {"tools": [{"type": "custom", "function": NOW}]},
        refused("a tool of the type custom has no custom"),
    ),
    Row(
        "custom.format grammar without one",
        {"tools": [{"type": "custom", "custom": {"name": "patch", "format": {"type": "grammar"}}}]},
        refused("needs a grammar with a syntax"),
    ),
    Row(
        "custom.format grammar that is none",
        {"tools": [patch_in("lark", "start: (")], "tool_choice": "required"},
        refused("tools.custom.format.grammar.definition"),
    ),
    Row(
        "custom.format grammar in another language",
        {"tools": [patch_in("ebnf", "x")]},
        refused("tools.0.custom.format.grammar.syntax"),
    ),
    Row(
        "functions",
        {"functions": [NOW]},
        lambda seen: (
            seen.choice["finish_reason"] == "function_call"
            and seen.prompt.startswith("<tools>now</tools>")
            and seen.message["function_call"]["name"] == "now"
            and "tool_calls" not in seen.message
            and json.loads(seen.message["function_call"]["arguments"]) == {"zone": "UTC"}
        ),
        reply=CALL,
    ),
    Row(
        "functions in a stream",
        {"functions": [NOW], "stream": True},
        lambda seen: (
            next(
                delta["function_call"] for event in seen.events if "function_call" in (delta := event["choices"][0]["delta"])
            )
            == {"name": "now", "arguments": ""}
            and seen.events[-1]["choices"][0]["finish_reason"] == "function_call"
        ),
        reply=CALL,
    ),
    Row(
        "function_call none",
        {"functions": [NOW], "function_call": "none"},
        lambda seen: seen.message["content"].startswith("<tool_call>") and seen.choice["finish_reason"] == "stop",
        reply=CALL,
    ),
    Row(
        "function_call of an unknown one", {"functions": [NOW], "function_call": {"name": "x"}}, refused("none of the tools")
    ),
    Row("function_call without functions", {"function_call": {"name": "x"}}, refused("has no functions")),
    Row(
        "functions beside tools",
        {"functions": [NOW], "tools": [{"type": "function", "function": NOW}]},
        refused("one of them"),
    ),
    Row("max_completion_tokens", {"max_completion_tokens": 2}, lambda seen: seen.message["content"] == "he"),
    Row("max_tokens beyond the context", {"max_tokens": 10**6}, lambda seen: seen.status == 200),
    Row(
        "max_tokens 0",
        {"max_tokens": 0},
        lambda seen: (
            (seen.message["content"], seen.choice["finish_reason"], seen.body["usage"]["completion_tokens"])
            == ("", "length", 0)
        ),
    ),
    Row(
        "max_tokens 0 in a stream",
        {"max_tokens": 0, "stream": True},
        lambda seen: seen.text == "" and seen.events[-1]["choices"][0]["finish_reason"] == "length",
    ),
    Row("integers written 1.0", {"max_tokens": 2.0, "n": 1.0}, lambda seen: seen.message["content"] == "he"),
    Row("fractions of integers", {"max_tokens": 2.5}, refused("max_tokens: expected a whole number")),
    Row(
        "numbers as strings",
        {"max_tokens": "2", "temperature": "0.5", "top_p": "1e-1"},
        lambda seen: seen.add is not None and (seen.add.sampling.max_tokens, seen.add.sampling.temperature) == (2, 0.5),
    ),
    Row("no numbers as strings", {"temperature": "hot"}, refused("temperature: expected a number")),
    Row("user", {"user": "me"}, ignored("user")),
    Row("metadata", {"metadata": {"a": "b"}}, ignored("metadata")),
    Row("service_tier", {"service_tier": "auto"}, lambda seen: seen.body["service_tier"] == "default"),
    Row("prompt_cache_key", {"prompt_cache_key": "k"}, lambda seen: seen.status == 200),
    Row("whatever comes next", {"moderation": {"a": 1}, "prompt_cache_options": {}}, ignored("moderation")),
    Row("audio", {"audio": {"voice": "x"}}, refused("audio is not supported and would change the answer")),
    Row("web_search_options", {"web_search_options": {}}, refused("web_search_options is not supported")),
    Row("modalities", {"modalities": ["text"]}, taken),
    Row(
        "stream_options.include_usage",
        {"stream": True, "stream_options": {"include_usage": True}},
        lambda seen: (
            seen.events[-1]["choices"] == []
            and seen.events[-1]["usage"]["completion_tokens"] == 6
            and all(event["usage"] is None for event in seen.events[:-1])
        ),
    ),
    Row(
        "stream_options.continuous_usage_stats",
        {
            "stream": True,
            "stream_options": {"include_usage": True, "continuous_usage_stats": True},
        },
        lambda seen: all(event["usage"]["prompt_tokens"] > 0 for event in seen.events),
    ),
    Row("reasoning_effort", {"reasoning_effort": "high"}, ends("effort high;[assistant]")),
    Row("verbosity", {"verbosity": "low"}, ends("verbosity low;[assistant]")),
    Row("verbosity, for a template that reads none", {"verbosity": "low"}, ignored("verbosity"), template=OLD_TEMPLATE),
    Row("chat_template_kwargs", {"chat_template_kwargs": {"style": "brief"}}, ends("style brief;[assistant]")),
    Row("chat_template", {"chat_template": "{{ 1 }}"}, refused("chat_template is not supported")),
    Row("documents", {"documents": [{"title": "t", "text": "a river"}]}, lambda seen: seen.prompt.startswith("(a river)")),
    Row(
        "documents, for a template that reads none",
        {"documents": [{"text": "a"}]},
        refused("reads no documents"),
        template=OLD_TEMPLATE,
    ),
    Row(
        "include_reasoning",
        {"include_reasoning": False},
        lambda seen: (
            seen.message["content"] == "hello"
            and "reasoning" not in seen.message
            and seen.body["usage"]["completion_tokens_details"]["reasoning_tokens"] > 0
        ),
        reply=THOUGHTS,
    ),
    Row(
        "reasoning in the answer",
        {},
        lambda seen: (
            (seen.message["content"], seen.message["reasoning"], seen.message["reasoning_content"]) == ("hello", "hm", "hm")
        ),
        reply=THOUGHTS,
    ),
    Row("add_generation_prompt", {"add_generation_prompt": False}, ends("[user]hi;")),
    Row(
        "continue_final_message",
        chat_of(USER, SAID, continue_final_message=True, add_generation_prompt=False),
        lambda seen: seen.prompt.endswith("[assistant]Once upon ") and seen.message["content"] == "hello",
    ),
    Row(
        "continue_final_message and thoughts",
        chat_of(
            USER,
            SAID | {"content": "<think>I"},
            continue_final_message=True,
        ),
        lambda seen: (seen.message["reasoning"], seen.message["content"]) == ("hm", "hello"),
        reply=[*b"hm</think>hello", FAKE_EOS_TOKEN_ID],
    ),
    Row(
        "continue_final_message of parts",
        chat_of(
            USER,
            SAID | {"content": [{"type": "text", "text": "Once "}, {"type": "text", "text": "upon"}]},
            continue_final_message=True,
        ),
        lambda seen: seen.prompt.endswith("upon"),
    ),
    Row(
        "continue_final_message of nothing",
        chat_of(
            USER,
            {"role": "assistant", "content": ""},
            continue_final_message=True,
        ),
        ends("[assistant]"),
    ),
    Row(
        "continue_final_message and add_generation_prompt",
        chat_of(
            USER,
            SAID,
            continue_final_message=True,
            add_generation_prompt=True,
        ),
        refused("begins another"),
    ),
    Row("continue_final_message of a user", chat_of(USER, continue_final_message=True), refused("has to be the assistant's")),
    Row(
        "continue_final_message of calls",
        chat_of(
            USER,
            {"role": "assistant", "tool_calls": [{"function": {"name": "f"}}]},
            continue_final_message=True,
        ),
        refused("may call no tools"),
    ),
    Row(
        "echo",
        chat_of(USER, SAID, continue_final_message=True, echo=True),
        lambda seen: seen.message["content"] == "Once upon hello",
    ),
    Row(
        "echo in a stream",
        chat_of(USER, SAID, continue_final_message=True, echo=True, stream=True),
        lambda seen: seen.text == "Once upon hello",
    ),
    Row(
        "prompt_logprobs",
        {"prompt_logprobs": 1},
        lambda seen: (
            seen.body["prompt_logprobs"][0] is None
            and len(seen.body["prompt_logprobs"]) == seen.body["usage"]["prompt_tokens"]
            and "rank" in seen.body["prompt_logprobs"][1][str(b"user"[0])]
        ),
    ),
    Row(
        "prompt_logprobs in a stream",
        {"prompt_logprobs": 1, "stream": True},
        lambda seen: (
            len(seen.events[0]["prompt_logprobs"]) > 3 and not any("prompt_logprobs" in event for event in seen.events[1:])
        ),
    ),
    Row("prompt_logprobs not asked for", {}, lambda seen: seen.body["prompt_logprobs"] is None),
    Row(
        "return_token_ids",
        {"return_token_ids": True},
        lambda seen: (
            seen.add is not None
            and (seen.body["prompt_token_ids"] == seen.add.prompt_token_ids and seen.choice["token_ids"] == HELLO)
        ),
    ),
    Row(
        "return_token_ids in a stream",
        {"return_token_ids": True, "stream": True},
        lambda seen: (
            seen.add is not None
            and (
                seen.events[0]["prompt_token_ids"] == seen.add.prompt_token_ids
                and not any("prompt_token_ids" in event for event in seen.events[1:])
                and [token for event in seen.events for token in event["choices"][0].get("token_ids", [])] == HELLO
            )
        ),
    ),
    Row(
        "return_token_ids of thoughts",
        {"return_token_ids": True, "stream": True},
        lambda seen: [token for event in seen.events for token in event["choices"][0].get("token_ids", [])] == THOUGHTS,
        reply=THOUGHTS,
    ),
    Row("return_prompt_text", {"return_prompt_text": True}, lambda seen: seen.body["prompt_text"] == "[user]hi;[assistant]"),
    Row(
        "return_tokens_as_token_ids",
        {"return_tokens_as_token_ids": True, "logprobs": True},
        lambda seen: seen.choice["logprobs"]["content"][0]["token"] == f"token_id:{b'h'[0]}",
    ),
    Row("truncate_prompt_tokens", {"truncate_prompt_tokens": 5}, lambda seen: seen.prompt == "tant]"),
    Row("truncation_side", {"truncate_prompt_tokens": 5, "truncation_side": "right"}, lambda seen: seen.prompt == "[user"),
    Row(
        "truncate_prompt_tokens -1",
        chat_of(USER | {"content": "a" * 1000}, truncate_prompt_tokens=-1, max_tokens=6),
        lambda seen: seen.add is not None and len(seen.add.prompt_token_ids) == 250,
    ),
    Row("truncate_prompt_tokens 0", {"truncate_prompt_tokens": 0}, refused("truncate_prompt_tokens is 0")),
    Row(
        "logprobs",
        {"logprobs": True, "top_logprobs": 1},
        lambda seen: [entry["bytes"] for entry in seen.choice["logprobs"]["content"]][:2] == [[b"h"[0]], [b"e"[0]]],
    ),
    Row(
        "thinking_token_budget",
        {"thinking_token_budget": 5},
        lambda seen: seen.add and getattr(seen.add.sampling.thinking_budget, "num_tokens", None) == 5,
    ),
    Row("use_beam_search", {"use_beam_search": True}, refused("use_beam_search is not supported")),
    Row("spaces_between_special_tokens", {"spaces_between_special_tokens": True}, lambda seen: seen.status == 200),
    Row("logits_processors", {"logits_processors": ["x"]}, refused("logits_processors is not supported")),
    Row("mm_processor_kwargs", {"mm_processor_kwargs": {}}, ignored("mm_processor_kwargs")),
    Row("kv_transfer_params", {"kv_transfer_params": {"a": 1}}, refused("kv_transfer_params is not supported")),
]

COMPLETED = [
    Row("prompt, 4 forms", {"prompt": [[104, 105]]}, lambda seen: seen.choice["text"] == "hello", COMPLETIONS),
    Row("max_tokens default 16", {}, lambda seen: seen.add is not None and seen.add.sampling.max_tokens == 16, COMPLETIONS),
    Row(
        "max_tokens 0 without echo",
        {"max_tokens": 0, "prompt_logprobs": 0},
        lambda seen: (
            seen.choice["text"] == ""
            and seen.choice["finish_reason"] == "length"
            and len(seen.choice["prompt_logprobs"]) == 3
        ),
        COMPLETIONS,
    ),
    Row(
        "echo with max_tokens 0",
        {"max_tokens": 0, "echo": True, "logprobs": 0},
        lambda seen: seen.choice["text"] == "hi" and seen.choice["logprobs"]["tokens"][1:] == ["h", "i"],
        COMPLETIONS,
    ),
    Row(
        "prompt_logprobs in a stream",
        {"prompt_logprobs": 0, "stream": True},
        lambda seen: (
            len(seen.events[0]["choices"][0]["prompt_logprobs"]) == 3
            and not any("prompt_logprobs" in event["choices"][0] for event in seen.events[1:])
        ),
        COMPLETIONS,
    ),
    Row("prompt_logprobs not asked for", {}, lambda seen: seen.choice["prompt_logprobs"] is None, COMPLETIONS),
    Row(
        "return_token_ids",
        {"return_token_ids": True},
        lambda seen: seen.choice["prompt_token_ids"] == [FAKE_BOS_TOKEN_ID, *b"hi"] and seen.choice["token_ids"] == HELLO,
        COMPLETIONS,
    ),
    Row(
        "return_token_ids with echo",
        {"return_token_ids": True, "echo": True},
        lambda seen: seen.choice["text"] == "hihello" and seen.choice["token_ids"] == HELLO,
        COMPLETIONS,
    ),
    Row(
        "return_token_ids in a stream",
        {"return_token_ids": True, "stream": True},
        lambda seen: (
            seen.events[0]["choices"][0]["prompt_token_ids"] == [FAKE_BOS_TOKEN_ID, *b"hi"]
            and [token for event in seen.events for token in event["choices"][0]["token_ids"]] == HELLO
        ),
        COMPLETIONS,
    ),
    Row(
        "return_prompt_text",
        {"return_prompt_text": True},
        lambda seen: seen.choice["prompt_text"].endswith("hi"),
        COMPLETIONS,
    ),
    Row(
        "truncate_prompt_tokens",
        {"prompt": "abcdef", "truncate_prompt_tokens": 2, "echo": True},
        lambda seen: seen.prompt == "ef" and seen.choice["text"] == "efhello",
        COMPLETIONS,
    ),
    Row("suffix, for a model that fills no gaps", {"suffix": "end"}, refused("no tokens for filling a gap"), COMPLETIONS),
    Row('suffix ""', {"suffix": ""}, taken, COMPLETIONS),
    Row("suffix with echo", {"suffix": "end", "echo": True}, refused("not repeated"), COMPLETIONS),
    Row("best_of", {"best_of": 2}, refused("best_of is 2 and n is 1"), COMPLETIONS),
    Row("service_tier", {"service_tier": "flex"}, lambda seen: seen.body["service_tier"] == "default", COMPLETIONS),
    Row("logprobs", {"logprobs": 1}, lambda seen: seen.choice["logprobs"]["tokens"][:2] == ["h", "e"], COMPLETIONS),
]


def rows(*tables: list[Row]) -> list[Any]:
    return [pytest.param(row, id=f"{row.path.split('/')[2]}: {row.name}") for table in tables for row in table]


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[str, LastingServer]]:
    """One a template."""
    with contextlib.ExitStack() as stack:
        yield {
            template: stack.enter_context(LastingServer(settings(chat_template=template)))
            for template in (TEMPLATE, OLD_TEMPLATE, SINGLE_CALL_TEMPLATE, DEVELOPER_TEMPLATE)
        }


@pytest.mark.parametrize("row", rows(MESSAGES, ASKED, COMPLETED))
def test_a_field_does_what_clients_expect_of_it(servers, row):
    async def scene(server: FakeServer) -> None:
        server.client.reply = lambda _: row.reply
        default = {"messages": [USER]} if row.path == CHAT else {"prompt": "hi"}
        answer = await server.http.post(row.path, json=default | row.fields)
        events, body = [], {}
        if answer.headers["content-type"].startswith("text/event-stream"):
            lines = [line.removeprefix("data: ") for line in answer.text.splitlines() if line.startswith("data: ")]
            assert lines.pop() == "[DONE]"
            events = [json.loads(line) for line in lines]
        else:
            body = answer.json()
        added = server.client.added
        seen = Seen(
            answer.status_code, body, events, answer.headers.get("yeoul-ignored-fields", ""), added[0] if added else None
        )
        assert row.sees(seen), seen

    servers[row.template].play(scene)

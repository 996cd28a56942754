"""A model that says what a test wants, calls of tools included, and OpenAI's own client to read it, to the last event.

The fake model has a token a byte, so an answer is forced as its bytes. The template is Qwen's way of showing tools, in short.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import openai

from tests.running_server import RunningServer
from yeoul.model_files.tokenizer_source import FAKE_EOS_TOKEN_ID

TEMPLATE = (
    "{% if tools %}<|im_start|>system\n<tools>{% for tool in tools %}{{ tool | tojson }}\n{% endfor %}</tools>"
    '<tool_call>\n{"name": ..., "arguments": ...}\n</tool_call><|im_end|>\n{% endif %}'
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{% if message.reasoning_content %}<think>{{ message.reasoning_content }}</think>{% endif %}{{ message.content }}"
    "{% for call in message.tool_calls or [] %}<tool_call>\n"
    '{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}\n</tool_call>{% endfor %}'
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and enable_thinking is true %}<think>\n{% endif %}{% endif %}"
)
WEATHER = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 20}, "days": {"type": "integer", "minimum": 1, "maximum": 9}},
    "required": ["city", "days"],
    "additionalProperties": False,
}
TOOLS: Any = [
    {"type": "function", "function": {"name": "weather", "description": "tells it", "parameters": WEATHER}},
    {"type": "function", "function": {"name": "now", "parameters": {"type": "object", "properties": {}}}},
]
ASK: Any = [{"role": "user", "content": "How is the weather by the river?"}]
CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Süß \\"Fluß\\"", "days": 3}}\n</tool_call>'
NOW = '<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>'


def serve(*flags: str) -> RunningServer:
    return RunningServer(
        "--allow-forced-tokens",
        "--chat-template",
        TEMPLATE,
        "--max-model-len",
        "4096",
        "--fake-step-seconds",
        "0.001",
        *flags,
    )


def forced(text: str) -> dict[str, Any]:
    """The body's field that makes the model say this, and then end."""
    return {"forced_token_ids": [*text.encode(), FAKE_EOS_TOKEN_ID]}


def client_of(server: RunningServer) -> Any:
    """What is sent is as untyped as what people send."""
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0, timeout=60.0)


def answer_of(server: RunningServer, **fields: Any) -> Any:
    with client_of(server) as client:
        return client.chat.completions.create(**{"model": "fake", "messages": ASK} | fields)


def events_of(server: RunningServer, **fields: Any) -> Iterator[Any]:
    with client_of(server) as client:
        yield from client.chat.completions.create(**{"model": "fake", "messages": ASK, "stream": True} | fields)


def whole(server: RunningServer, text: str | None, **fields: Any) -> Any:
    more = {} if text is None else {"extra_body": forced(text)}
    fields = {"tools": TOOLS} | fields
    return answer_of(server, **fields, **more).choices[0]


def streamed(server: RunningServer, text: str | None, **fields: Any) -> dict[str, Any]:
    """The choice that the events add up to, in the shape of a whole one; every event is checked on the way."""
    more = {} if text is None else {"extra_body": forced(text)}
    fields = {"tools": TOOLS} | fields
    content, reasoning, reason = "", "", None
    calls: list[dict[str, Any]] = []
    for chunk in events_of(server, **fields, **more):
        (choice,) = chunk.choices
        assert reason is None, "nothing follows the end"
        content += choice.delta.content or ""
        reasoning += getattr(choice.delta, "reasoning", None) or ""
        for call in choice.delta.tool_calls or []:
            assert call.function is not None
            if call.index == len(calls):
                assert call.id
                assert call.type == "function"
                assert call.function.name
                calls.append({"name": call.function.name, "arguments": "", "id": call.id})
            else:
                assert call.index == len(calls) - 1
                assert call.id is None
                assert call.function.arguments, "an empty delta"
            calls[-1]["arguments"] += call.function.arguments or ""
        reason = choice.finish_reason
    return {"content": content or None, "reasoning": reasoning or None, "calls": calls, "finish_reason": reason}


def in_short(choice: Any) -> dict[str, Any]:
    message = choice.message
    calls = [
        {"name": call.function.name, "arguments": call.function.arguments, "id": call.id} for call in message.tool_calls or []
    ]
    reasoning = getattr(message, "reasoning", None)
    return {
        "content": message.content or None,
        "reasoning": reasoning,
        "calls": calls,
        "finish_reason": choice.finish_reason,
    }


def without_ids(choice: dict[str, Any]) -> dict[str, Any]:
    return choice | {"calls": [{key: call[key] for key in ("name", "arguments")} for call in choice["calls"]]}

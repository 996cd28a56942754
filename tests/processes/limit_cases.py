"""How each row of docs/limits.md is sent: a name of a row -> what makes a request of so many, and what is not built.

``test_limits.py`` reads the page and sends them.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from tests.raw_http import request_bytes
from yeoul.model_files.tokenizer_source import FAKE_EOS_TOKEN_ID

COMPLETIONS, CHAT, EMBEDDINGS = "/v1/completions", "/v1/chat/completions", "/v1/embeddings"
JSON = {"content-type": "application/json"}
MESSAGE = {"role": "user", "content": "hi"}

Case = Callable[[int], bytes]


def post(path: str, fields: dict[str, Any], headers: dict[str, str] = JSON) -> bytes:
    return request_bytes("POST", path, headers, json.dumps(fields, separators=(",", ":")).encode())


def completion(**fields: Any) -> bytes:
    return post(COMPLETIONS, {"prompt": "hi", "max_tokens": 1} | fields)


def chat(**fields: Any) -> bytes:
    return post(CHAT, {"messages": [MESSAGE], "max_tokens": 1} | fields)


def response(tools: list[dict[str, Any]]) -> bytes:
    return post("/v1/responses", {"input": "hi", "max_output_tokens": 16, "tool_choice": "none", "tools": tools})


def namespaces(num_tools: int) -> list[dict[str, Any]]:
    """Of 100 tools each, but for the last one."""
    sizes = [100] * (num_tools // 100) + [num_tools % 100]
    return [{"type": "namespace", "name": "n", "tools": [{"type": "function", "name": "f"}] * size} for size in sizes]


def number(field: str) -> Case:
    """A field of completions that is a number."""
    return lambda sent: completion(**{field: sent})


def padded_headers(num_bytes: int) -> list[tuple[str, str]]:
    """Headers whose names and values have so many bytes, with the two that every request has."""
    num_left = num_bytes - len("hostlocalhost") - len("connectionclose")
    sizes = [8192] * (num_left // 8192 - 1)
    return [("padding", "x" * (size - len("padding"))) for size in [*sizes, num_left - sum(sizes)]]


def nested(depth: int) -> dict[str, Any]:
    """An object so deep."""
    node: dict[str, Any] = {}
    for _ in range(depth - 1):
        node = {"a": node}
    return node


def body_of(num_bytes: int) -> bytes:
    """A request whose body has so many bytes, most of them spaces."""
    return request_bytes("POST", COMPLETIONS, JSON, b'{"prompt": "hi", "max_tokens": 1}'.ljust(num_bytes))


def log_probabilities(num_logprobs: int) -> bytes:
    """Eight prompts whose answers may be long, and end at once; one a token of a prompt, 21 a token of an answer."""
    num_prompts, max_tokens, most_likely = 8, 6200, 20
    num_of_prompts = num_logprobs - num_prompts * max_tokens * (1 + most_likely)
    prompts = [[65] * (num_of_prompts // num_prompts) for _ in range(num_prompts)]
    prompts[0] += [65] * (num_of_prompts % num_prompts)
    ends_at_once = {"logit_bias": {str(FAKE_EOS_TOKEN_ID): 100}}
    return completion(prompt=prompts, max_tokens=max_tokens, logprobs=most_likely, prompt_logprobs=0, **ends_at_once)


def upload(filename: str) -> bytes:
    """A file of this name."""
    parts = {f'name="file"; filename="{filename}"': "{}", 'name="purpose"': "batch"}
    form = "".join(f"--b\r\ncontent-disposition: form-data; {name}\r\n\r\n{text}\r\n" for name, text in parts.items())
    return request_bytes(
        "POST", "/v1/files", {"content-type": "multipart/form-data; boundary=b"}, f"{form}--b--\r\n".encode()
    )


# The row's name -> a request of so many.
TOOL = {"type": "function", "function": {"name": "f"}}

CASES: dict[str, Case] = {
    "bytes of path and query": lambda sent: request_bytes("GET", "/health?".ljust(sent, "x"), {}),
    "headers": lambda sent: request_bytes("GET", "/health", [("x", "y")] * (sent - 2)),
    "bytes of all headers": lambda sent: request_bytes("GET", "/health", padded_headers(sent)),
    "bytes of the body": body_of,
    "objects and arrays in all": lambda sent: chat(tools=[TOOL | {"a": [[]] * (sent - 7)}], tool_choice="none"),
    "depth": lambda sent: chat(metadata=nested(sent - 1)),
    "names of fields in all": lambda sent: chat(metadata=dict.fromkeys(map(str, range(sent - 5)), 1)),
    "strings in all": lambda sent: chat(metadata=[""] * (sent - 7)),
    "values in all": lambda sent: chat(metadata=[1] * (sent - 2)),
    "fields that are not known": lambda sent: completion(**{f"x{index}": 1 for index in range(sent)}),
    "name of such a field": lambda sent: completion(**{"x" * sent: 1}),
    "entries of a tool call's arguments": lambda sent: chat(
        messages=[{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "[" + "1," * sent + "1]"}}]}]
    ),
    "cache_salt": lambda sent: completion(cache_salt="x" * sent),
    "name of a message": lambda sent: chat(messages=[{**MESSAGE, "name": "x" * sent}]),
    "name of a file": lambda sent: upload("x" * sent),
    "tokens": lambda sent: completion(prompt=[65] * sent),
    "bytes of text": lambda sent: post("/tokenize", {"prompt": "x" * sent}),
    "prompts times n": lambda sent: completion(prompt=[[65]] * sent),
    "messages": lambda sent: chat(messages=[MESSAGE] * sent),
    "parts of a message's content": lambda sent: chat(
        messages=[{"role": "user", "content": [{"type": "text", "text": ""}] * sent}]
    ),
    "tools": lambda sent: chat(tools=[TOOL] * sent, tool_choice="none"),
    "tools of responses, with those of namespaces": lambda sent: response(namespaces(sent)),
    "inputs of embeddings": lambda sent: post(EMBEDDINGS, {"input": ["x"] * sent}),
    "dimensions": lambda sent: post(EMBEDDINGS, {"input": "x", "dimensions": sent}),
    "logit_bias": lambda sent: completion(logit_bias={str(token_id): 1 for token_id in range(sent)}),
    "a bias": lambda sent: completion(logit_bias={"65": sent}),
    "log probabilities in all": log_probabilities,
    "top_logprobs": lambda sent: chat(logprobs=True, top_logprobs=sent),
    "stop": lambda sent: completion(stop=[chr(200 + place) for place in range(sent)]),
    "a stop string": lambda sent: completion(stop="x" * sent),
    "stop_token_ids": lambda sent: completion(stop_token_ids=list(range(sent))),
} | {
    field: number(field)
    for field in (
        "n",
        "max_tokens",
        "temperature",
        "top_p",
        "min_p",
        "repetition_penalty",
        "presence_penalty",
        "frequency_penalty",
        "top_k",
        "seed",
        "priority",
        "deadline_seconds",
        "logprobs",
        "prompt_logprobs",
    )
}

# The row's name -> a request that needs what is not there.
NOT_BUILT: dict[str, bytes] = {
    "tools for a template that takes none": chat(tools=[{"type": "function", "function": {"name": "f"}}]),
    "tool_choice without tools": chat(tool_choice="required"),
    "best_of above n": completion(best_of=4),
    "suffix, for a model that fills no gaps": completion(suffix="the end"),
    "another way to sample": completion(typical_p=0.5),
    "documents, for a template that reads none": chat(documents=[{"text": "a river"}]),
    "images": chat(messages=[{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]),
    "modalities": chat(modalities=["audio"]),
    "a template of the client's own": chat(chat_template_kwargs={"chat_template": "{{ 1 }}"}),
    "ranks by a model that is no reranker": post("/v1/rerank", {"query": "hi", "documents": ["ho"]}),
    "a compressed body": post(COMPLETIONS, {"prompt": "hi"}, {**JSON, "content-encoding": "gzip"}),
}

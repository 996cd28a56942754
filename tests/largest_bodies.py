"""The largest bodies of every kind that docs/limits.md allows, and those that are just too large: name -> path and bytes.

``benchmarks/largest_bodies.py`` sends them to a server, ``tests/unit/web_process/test_largest_bodies.py`` to a fake one.
"""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Iterator

COMPLETIONS, CHAT, EMBEDDINGS = "/v1/completions", "/v1/chat/completions", "/v1/embeddings"
RESPONSES = "/v1/responses"
MOST_BYTES = 4 << 20
MAX_NUM_VALUES, MAX_NUM_STRINGS, MAX_NUM_NAMES, MAX_NUM_CONTAINERS = 262144, 131072, 32768, 16384


def largest_bodies() -> Iterator[tuple[str, str, bytes]]:
    """Name, path and body of each, one at a time."""
    yield "a text of ASCII", COMPLETIONS, _filled(b'{"prompt":"', b"word ", b'","max_tokens":1}')
    yield "a text of 🌍", COMPLETIONS, _filled(b'{"prompt":"', "🌍".encode(), b'","max_tokens":1}')
    yield "a text of escapes", COMPLETIONS, _filled(b'{"prompt":"', b"\\n", b'","max_tokens":1}')
    yield "a text of commas", COMPLETIONS, _filled(b'{"prompt":"', b"[,{:", b'","max_tokens":1}')
    yield "tokens", COMPLETIONS, _list(b'{"prompt":[', b"65", MAX_NUM_VALUES - 2, b'],"max_tokens":1}')
    yield "tokens, too many", COMPLETIONS, _list(b'{"prompt":[', b"1", MOST_BYTES // 2 - 20, b"]}")
    yield "tokens of many digits", COMPLETIONS, _list(b'{"prompt":[', b"1" * 12, MAX_NUM_VALUES - 2, b"]}")
    yield "many prompts", COMPLETIONS, _list(b'{"prompt":[', b'"a text"', MAX_NUM_STRINGS - 2, b"]}")
    yield "many prompts of tokens", COMPLETIONS, _list(b'{"prompt":[', b"[1,2,3,4,5,6,7,8,9]", MAX_NUM_CONTAINERS - 2, b"]}")
    yield "tokens to be read", "/detokenize", _list(b'{"tokens":[', b"65", MAX_NUM_VALUES, b"]}")
    yield "a text to be counted", "/tokenize", _filled(b'{"return_token_strs":true,"prompt":"', "🌍".encode(), b'"}')
    yield "texts to be embedded", EMBEDDINGS, _list(b'{"input":[', b'"' + b"x" * 200 + b'"', 1024, b"]}")
    yield "messages", CHAT, _list(b'{"messages":[', b'{"role":"user","content":"' + b"x" * 990 + b'"}', 4096, b"]}")
    parts = _list(b"[", b'{"type":"text","text":"x"}', 1000, b"]")
    yield "parts", CHAT, _list(b'{"messages":[', b'{"role":"user","content":' + parts + b"}", 16, b"]}")
    extra = b",".join(b'"x%d":1' % index for index in range(7))
    yield (
        "messages of unknown fields",
        CHAT,
        _list(b'{"messages":[', b'{"role":"user","content":"x",' + extra + b"}", 3600, b"]}"),
    )
    arguments = json.dumps("[" + "1," * 32000 + "1]").encode()
    call = b'{"role":"assistant","tool_calls":[{"function":{"name":"f","arguments":' + arguments + b"}}]}"
    yield "arguments of calls", CHAT, _list(b'{"messages":[', call, 60, b',{"role":"user","content":"x"}]}')
    tool = b'{"type":"function","function":{"name":"f","description":"' + b"x" * 32000 + b'"}}'
    yield "tools", CHAT, _chat_with(b'"tool_choice":"none","tools":' + _list(b"[", tool, 128, b"]"))
    yield "objects", CHAT, _chat_with(b'"metadata":' + _list(b"[", b"{}", MAX_NUM_CONTAINERS - 4, b"]"))
    yield "arrays, too many", CHAT, _chat_with(b'"metadata":' + _list(b"[", b"[]", MOST_BYTES // 3 - 99, b"]"))
    names = b",".join(b'"%x":1' % index for index in range(MAX_NUM_NAMES - 9))
    yield "names", CHAT, _chat_with(b'"metadata":{' + names + b"}")
    yield "names, too many", COMPLETIONS, b'{"prompt":"x",' + b",".join(b'"%x":1' % index for index in range(380_000)) + b"}"
    yield "a long name", COMPLETIONS, _filled(b'{"prompt":"x","', b"k", b'":1}')
    yield "spaces", COMPLETIONS, _filled(b'{"prompt":"x"', b" ", b',"max_tokens":1}')
    yield "a number of many digits", COMPLETIONS, _filled(b'{"prompt":"x","seed":', b"1", b"}")
    yield "damage at the end", COMPLETIONS, _filled(b'{"prompt":"', b"\\ud83d\\ude00", b"\\ud800")
    yield "items", RESPONSES, _list(b'{"input":[', b'{"role":"user","content":""}', MAX_NUM_CONTAINERS - 2, b"]}")
    background = b'{"input":"x","background":true,"stream":true,"max_output_tokens":1,"tool_choice":"none","tools":'
    tool = b'{"type":"function","name":"f","description":"%b"}' % base64.b64encode(random.Random(0).randbytes(24000))
    yield "tools that every event repeats", RESPONSES, background + _list(b"[", tool, 128, b"]}")
    yield "log probabilities of a prompt", COMPLETIONS, _scored(8000, 20, b"")
    yield "log probabilities of a prompt, echoed", COMPLETIONS, _scored(8000, 20, b',"echo":true,"logprobs":20')
    yield "log probabilities, streamed", COMPLETIONS, _scored(8000, None, b',"echo":true,"logprobs":20,"stream":true')


def _filled(begin: bytes, piece: bytes, end: bytes) -> bytes:
    return begin + piece * ((MOST_BYTES - len(begin) - len(end)) // len(piece)) + end


def _list(begin: bytes, entry: bytes, num_entries: int, end: bytes) -> bytes:
    return begin + b",".join([entry] * num_entries) + end


def _chat_with(field: bytes) -> bytes:
    return b'{"messages":[{"role":"user","content":"x"}],"max_tokens":1,' + field + b"}"


def _scored(num_tokens: int, num_likeliest: int | None, fields: bytes) -> bytes:
    scored = b"" if num_likeliest is None else b',"prompt_logprobs":%d' % num_likeliest
    return _list(b'{"prompt":[', b"65", num_tokens, b'],"max_tokens":1' + scored + fields + b"}")

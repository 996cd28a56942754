"""How a request is sent again: its body, and the lines for a shell and for Python; knows no route and no engine.

The body is kept without texts: numbers, words that name something, and which fields are left out. Its seed is the one that
held, so that who puts the texts back in gets the same bytes. Where prompts may be shown it is the client's own.
"""

from __future__ import annotations

import json
import shlex
from typing import Any

import msgspec

from yeoul.web_process.live.requests.logged_request import LoggedRequest

_PLACE = "YOUR PROMPT"
_PLACES: dict[str, Any] = {
    "messages": [{"role": "user", "content": _PLACE}],
    "prompt": _PLACE,
    "input": _PLACE,
    "query": _PLACE,
    "documents": [_PLACE],
}
"""Fields that hold what only the client knows, and what stands for it."""
_NAMES = frozenset({"model", "reasoning_effort", "service_tier", "truncation", "encoding_format"})
"""Fields whose values are names, not texts."""
_BY_CLIENT = {
    "/v1/chat/completions": ("client.chat.completions.create", {"model", "messages", "max_tokens", "seed", "stream"}),
    "/v1/completions": ("client.completions.create", {"model", "prompt", "max_tokens", "seed", "stream"}),
    "/v1/responses": ("client.responses.create", {"model", "input", "max_output_tokens", "stream"}),
}
"""What OpenAI's client calls them, and some of the fields that it knows there; all others go into ``extra_body``."""


def body_of(request: LoggedRequest) -> tuple[str, list[str]]:
    """The body without texts, as JSON, and the fields that are left out; nothing of what did not come by HTTP."""
    body = request.terms.body
    if not isinstance(body, msgspec.Struct):
        return "", []
    left_out: list[str] = []
    return _completed(request, body, _without_texts(body, left_out)), left_out


def whole_body_of(request: LoggedRequest) -> str:
    """The body as the client sent it, with the seed that held; nothing where it was not kept."""
    raw, body = request.terms.raw_body, request.terms.body
    if not raw or not isinstance(body, msgspec.Struct):
        return ""
    return _completed(request, body, msgspec.json.decode(raw))


def _completed(request: LoggedRequest, body: msgspec.Struct, fields: dict[str, Any]) -> str:
    """With the model and the seed that held; one seed cannot say what several prompts had."""
    if request.terms.model:
        fields = {"model": request.terms.model} | fields
    seed = {"seed": request.stream.seeds[0]} if len(request.stream.prompts) == 1 else {}
    if "seed" in body.__struct_fields__:
        fields |= seed
    elif "options" in body.__struct_fields__:  # as Ollama has it
        fields["options"] = (fields.get("options") or {}) | seed
    return json.dumps(fields, ensure_ascii=False)


def _without_texts(body: msgspec.Struct, left_out: list[str]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for name in body.__struct_fields__:
        value = getattr(body, name)
        if value is None or value in ([], {}):
            continue
        if name in _PLACES:
            fields[name] = _PLACES[name]
        elif isinstance(value, bool | int | float) or (isinstance(value, str) and name in _NAMES):
            fields[name] = value
        elif isinstance(value, msgspec.Struct) and (inner := _without_texts(value, left_out)):
            fields[name] = inner
        elif name != "request_id":  # of which there is one a request
            left_out.append(name)
    return fields


def curl_of(route: str, body: str, base_url: str, *, needs_key: bool) -> str:
    """The line for a shell; nothing where there is no route."""
    if not body:
        return ""
    key = ' -H "authorization: Bearer $YEOUL_API_KEY"' if needs_key else ""
    return f"curl {shlex.quote(base_url + route)} -H 'content-type: application/json'{key} -d {shlex.quote(body)}"


def python_of(route: str, body: str, base_url: str, *, needs_key: bool) -> str:
    """Lines for Python, with OpenAI's client where it knows the route."""
    if not body:
        return ""
    fields: dict[str, Any] = json.loads(body)
    key = 'os.environ["YEOUL_API_KEY"]' if needs_key else '"none"'
    modules = "import os\n" if needs_key else ""
    if route not in _BY_CLIENT:
        headers = f', headers={{"authorization": "Bearer " + {key}}}' if needs_key else ""
        return f"{modules}import httpx\nprint(httpx.post({base_url + route!r}, json={fields!r}{headers}, timeout=None).text)"
    method, names = _BY_CLIENT[route]
    known = {name: value for name, value in fields.items() if name in names}
    more = {name: value for name, value in fields.items() if name not in names}
    arguments = [f"{name}={value!r}" for name, value in known.items()]
    arguments += [f"extra_body={more!r}"] if more else []
    call = f"{method}({', '.join(arguments)})"
    printing = f"for event in {call}:\n    print(event)" if fields.get("stream") is True else f"print({call})"
    return f"{modules}import openai\nclient = openai.OpenAI(base_url={base_url + '/v1'!r}, api_key={key})\n{printing}"

"""What the default model writes under a form is of that form: 500 answers under 25 schemas at temperature 1, each checked.

The checker is another library (jsonschema-rs), which knows nothing of grammars.
"""

from __future__ import annotations

import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import jsonschema_rs
import pytest

from tests.running_server import RunningServer

NAME = {"type": "string", "minLength": 1, "maxLength": 12}
POINT = {"type": "object", "properties": {"x": {"type": "number"}, "y": {"type": "number"}}, "required": ["x", "y"]}


def closed(**properties: Any) -> dict[str, Any]:
    """An object of exactly these."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def array(items: Any, least: int, most: int) -> dict[str, Any]:
    return {"type": "array", "items": items, "minItems": least, "maxItems": most}


SCHEMAS: dict[str, dict[str, Any]] = {
    "an object": closed(name=NAME, age={"type": "integer", "minimum": 0, "maximum": 150}),
    "inside each other": closed(who=closed(name=NAME, at=closed(city=NAME)), when={"type": "integer"}),
    "an array of objects": array(closed(name=NAME, is_river={"type": "boolean"}), 1, 3),
    "an enum": closed(colour={"enum": ["red", "green", "blue"]}, size={"enum": [1, 2, 3, None]}),
    "constants": closed(kind={"const": "river"}, version={"const": 2}),
    "one of several": {"anyOf": [closed(km={"type": "integer"}), closed(miles={"type": "integer"})]},
    "a reference": {"$defs": {"point": POINT}, **closed(start={"$ref": "#/$defs/point"}, end={"$ref": "#/$defs/point"})},
    "a tree": {
        "$defs": {"node": closed(name=NAME, children=array({"$ref": "#/$defs/node"}, 0, 1))},
        "$ref": "#/$defs/node",
    },
    "a pattern": closed(plate={"type": "string", "pattern": "^[A-Z]{2}-[0-9]{3,4}$"}),
    "a date": closed(day={"type": "string", "format": "date"}, at={"type": "string", "format": "date-time"}),
    "an address": closed(id={"type": "string", "format": "uuid"}, ip={"type": "string", "format": "ipv4"}),
    "bounds": closed(
        a={"type": "integer", "minimum": -5, "maximum": 17}, b={"type": "number", "exclusiveMinimum": 0, "maximum": 1}
    ),
    "multiples": closed(dozen={"type": "integer", "multipleOf": 12, "minimum": 12, "maximum": 1200}),
    "optional fields": {**closed(name=NAME, nick=NAME, age={"type": "integer"}), "required": ["name"]},
    "further fields": {**closed(name=NAME), "additionalProperties": {"type": "integer"}, "maxProperties": 4},
    "null or text": closed(note={"type": ["string", "null"], "maxLength": 20}),
    "a tuple": {"type": "array", "prefixItems": [NAME, {"type": "integer"}], "items": False, "minItems": 2},
    "all of": {"allOf": [closed(name=NAME), {"properties": {"name": {"maxLength": 5}}}]},
    "a number": {"type": "number", "minimum": 0.25, "maximum": 1000},
    "a short text": {"type": "string", "minLength": 3, "maxLength": 30},
    "a boolean": {"type": "boolean"},
    "numbers": array({"type": "integer", "minimum": 0, "maximum": 9}, 5, 5),
    "a matrix": array(array({"type": "integer", "minimum": -1, "maximum": 1}, 2, 2), 2, 2),
    "other letters": closed(**{"이름": NAME, "größe": {"type": "integer"}, 'with "quotes"': {"type": "null"}}),
    "a call": closed(tool={"enum": ["search", "read"]}, arguments=closed(query=NAME)),
}  # fmt: skip
NUM_ANSWERS = 20
MAX_TOKENS = 300


@pytest.fixture(scope="module")
def server():
    with RunningServer(model="smollm2-135m-instruct", timeout_seconds=300.0) as running:
        yield running


def ask(server: RunningServer, schema: dict[str, Any], seed: int) -> dict[str, Any]:
    body = {
        "messages": [{"role": "user", "content": "Tell me something as JSON."}],
        "response_format": {"type": "json_schema", "json_schema": {"name": "it", "schema": schema}},
        "temperature": 1,
        "seed": seed,
        "max_tokens": MAX_TOKENS,
    }
    answer = httpx.post(f"{server.url}/v1/chat/completions", json=body, timeout=300.0)
    assert answer.status_code == 200, answer.text
    (choice,) = answer.json()["choices"]
    return dict(choice)


@pytest.mark.long
def test_every_answer_fits_its_schema(server):
    assert len(SCHEMAS) == 25
    jobs = [(name, seed) for name in SCHEMAS for seed in range(NUM_ANSWERS)]
    with ThreadPoolExecutor(16) as pool:
        choices = list(pool.map(lambda job: ask(server, SCHEMAS[job[0]], job[1]), jobs))
    complete = [(name, choice) for (name, _), choice in zip(jobs, choices, strict=True) if choice["finish_reason"] == "stop"]
    cut_off = Counter(name for (name, _), choice in zip(jobs, choices, strict=True) if choice["finish_reason"] != "stop")
    print(dict(cut_off))
    assert len(complete) >= 0.9 * len(jobs), "a small model goes on with digits or branches, but not so often"
    texts = set()
    for name, choice in complete:
        text = choice["message"]["content"]
        texts.add(text)
        jsonschema_rs.validator_for(SCHEMAS[name], validate_formats=True).validate(json.loads(text))
    assert len(texts) > len(SCHEMAS) * 5, "temperature 1 and 20 seeds should tell more than this"


@pytest.mark.parametrize("name", ["an object", "one of several", "a date", "other letters"])
def test_an_answer_fits_its_schema(server, name):
    choice = ask(server, SCHEMAS[name], 1)
    assert choice["finish_reason"] == "stop"
    jsonschema_rs.validator_for(SCHEMAS[name], validate_formats=True).validate(json.loads(choice["message"]["content"]))

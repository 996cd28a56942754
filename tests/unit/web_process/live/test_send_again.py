"""The lines that send a request again are ones that OpenAI's own client takes."""

from __future__ import annotations

import inspect
import json
from typing import Any

import openai
import pytest

from yeoul.web_process.live.requests.send_again import curl_of, python_of

FIELDS = {"model": "m", "stream": True, "temperature": 0.5, "seed": 7, "top_k": 3}


@pytest.mark.parametrize(
    ("route", "field"), [("/v1/chat/completions", "messages"), ("/v1/completions", "prompt"), ("/v1/responses", "input")]
)
def test_openais_client_takes_every_argument_and_the_whole_body_is_in_them(route, field):
    body: dict[str, Any] = {**FIELDS, field: "it's"}
    taken: dict[str, Any] = {}

    class Client:
        def __init__(self, **_: str) -> None:
            real = openai.OpenAI(api_key="none", base_url="http://127.0.0.1:9/v1")
            self.chat = self.completions = self.responses = self
            place: Any = {"messages": real.chat.completions, "prompt": real.completions, "input": real.responses}[field]
            self._signature = inspect.signature(place.create)

        def create(self, **arguments: Any) -> list[str]:
            self._signature.bind(**arguments)
            taken.update(arguments)
            return []

    source = python_of(route, json.dumps(body), "http://127.0.0.1:9", needs_key=False)
    exec(source.replace("import openai", ""), {"openai": type("Module", (), {"OpenAI": Client})})
    assert taken.pop("extra_body") | taken == body


def test_a_key_is_taken_from_the_environment_and_quotes_are_for_the_shell():
    curl = curl_of("/v1/completions", json.dumps({"prompt": "it's"}), "http://127.0.0.1:9", needs_key=True)
    assert "$YEOUL_API_KEY" in curl
    assert """'{"prompt": "it'"'"'s"}'""" in curl
    assert curl_of("", "", "http://127.0.0.1:9", needs_key=False) == ""

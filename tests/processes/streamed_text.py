"""streamed_text(): a completion of the fake model, read as it comes."""

from __future__ import annotations

import json
import threading

import httpx

from tests.running_server import RunningServer


def streamed_text(server: RunningServer, max_tokens: int, begun: threading.Event | None = None) -> str:
    """All its text; ``begun`` is set once some has come."""
    body = {"model": "fake", "prompt": "river", "max_tokens": max_tokens, "ignore_eos": True, "stream": True, "seed": 3}
    text = ""
    with httpx.stream("POST", f"{server.url}/v1/completions", json=body, timeout=60.0) as answer:
        for line in answer.iter_lines():
            if line.startswith("data: {"):
                text += json.loads(line.removeprefix("data: "))["choices"][0]["text"]
                if begun is not None:
                    begun.set()
    return text

"""Clients that ask one server after another's answer without a pause, and compare each answer with an undisturbed one."""

from __future__ import annotations

import itertools
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import httpx

from tests.patience import until

_ASK = {"model": "fake", "ignore_eos": True, "temperature": 1.0}

# More than HAProxy and nginx keep of a request in memory; blanks after JSON are no part of it.
_LONG = " " * 40_000


class Ask(NamedTuple):
    """One request: its fields, whether it is streamed, sent on a connection of its own, and long."""

    fields: dict[str, Any]
    streams: bool = False
    alone: bool = False
    is_long: bool = False

    def send(self, client: httpx.Client) -> Answer:
        """Sends it and reads all of the answer."""
        body = json.dumps({**_ASK, **self.fields, "stream": self.streams}) + _LONG * self.is_long
        headers = {"content-type": "application/json", **({"connection": "close"} if self.alone else {})}
        with client.stream("POST", "/v1/completions", content=body, headers=headers) as response:
            lines = list(response.iter_lines())
        if response.status_code != 200:
            return Answer(response.status_code, " ".join(lines), None, True)
        if not self.streams:
            choice = json.loads("".join(lines))["choices"][0]
            return Answer(200, choice["text"], choice["finish_reason"], True)
        events = [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]
        choices = [choice for event in events[:-1] for choice in json.loads(event).get("choices", [])]
        text = "".join(choice["text"] for choice in choices)
        return Answer(200, text, choices[-1]["finish_reason"] if choices else None, events[-1:] == ["[DONE]"])


class Answer(NamedTuple):
    """What came of one request."""

    status: int
    text: str
    finish_reason: str | None
    is_complete: bool


# What each client asks, again and again. The long streams are what a drain has to wait for.
CLIENTS = [[Ask({"prompt": f"client {number}", "seed": number, "max_tokens": 120}, streams=True)] for number in range(3)] + [
    [Ask({"prompt": "plain", "seed": 1, "max_tokens": 5}), Ask({"prompt": "plain", "seed": 2, "max_tokens": 60})],
    [
        Ask({"prompt": "mixed", "seed": 3, "max_tokens": 20}, streams=True),
        Ask({"prompt": "mixed", "seed": 4, "max_tokens": 3}),
    ],
    [Ask({"prompt": "new", "seed": 5, "max_tokens": 8}, alone=True)],
    [Ask({"prompt": "long", "seed": 6, "max_tokens": 10}, is_long=True)],
]


class Traffic:
    """All clients at once until the block ends; ``failures`` and ``num_answers`` are there then."""

    def __init__(self, url: str, undisturbed_url: str, clients: list[list[Ask]] = CLIENTS) -> None:
        self.failures: list[str] = []
        self.num_answers = 0
        self._url = url
        self._clients = clients
        self._lock = threading.Lock()
        self._is_over = threading.Event()
        self._threads: list[threading.Thread] = []
        with httpx.Client(base_url=undisturbed_url, timeout=60.0) as client, ThreadPoolExecutor(len(clients)) as pool:
            self._expected = list(pool.map(lambda asks: [ask.send(client) for ask in asks], clients))
        assert {answer.status for answers in self._expected for answer in answers} == {200}

    def __enter__(self) -> Traffic:
        self._threads = [
            threading.Thread(target=self._run, args=(asks, expected), daemon=True)
            for asks, expected in zip(self._clients, self._expected, strict=True)
        ]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        for thread in self._threads:
            thread.join(60.0)
            assert not thread.is_alive()

    def has_answers(self, number: int) -> bool:
        """Waits for as many, right or wrong."""
        return until(lambda: self.num_answers >= number, 60.0)

    def _run(self, asks: list[Ask], expected: list[Answer]) -> None:
        with httpx.Client(base_url=self._url, timeout=60.0) as client:
            for ask, wanted in itertools.cycle(list(zip(asks, expected, strict=True))):
                if self._is_over.is_set():
                    return
                try:
                    answer = ask.send(client)
                    failure = None if answer == wanted else f"{ask} got {answer}, expected {wanted}"
                except httpx.HTTPError as error:
                    failure = f"{ask} ended with {error!r}"
                with self._lock:
                    self.num_answers += 1
                    self.failures += [failure] if failure else []

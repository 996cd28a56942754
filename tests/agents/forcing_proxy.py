"""A proxy between an agent and a server: what the model is to say is added to each request, all else goes through as it is.

It knows the three ways in which agents speak only so far as to count the results of tools in a request, which is the turn. It
stands for the way out as well: what an agent tries to reach outside is written down, and refused.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

import httpx

SIDE_TURN = "A greeting"
GENERATING_PATHS = ("/v1/chat/completions", "/v1/responses", "/v1/messages")
# They belong to a connection, not to what is carried over it.
_OF_THE_CONNECTION = {"connection", "keep-alive", "transfer-encoding", "content-length", "host", "proxy-connection", "expect"}


@dataclass
class Exchange:
    """A request as the agent sent it, and the whole answer.

    ``turn`` is how many results of tools it holds; None for what it asks on the side, without tools.
    """

    method: str
    path: str
    body: dict[str, Any]
    turn: int | None
    status: int = 0
    answer: bytearray = field(default_factory=bytearray)

    def told(self) -> list[dict[str, Any]]:
        """The JSON values of the answer: of its events, or the one that it is."""
        if self.answer.lstrip().startswith(b"{"):
            return [json.loads(self.answer)]
        lines = [line.removeprefix(b"data:").strip() for line in self.answer.splitlines() if line.startswith(b"data:")]
        return [json.loads(line) for line in lines if line and line != b"[DONE]"]


@dataclass
class ForcingProxy:
    """``turns`` are what the model says after so many results of tools, ``end`` what ends each of them.

    Starts on entry; ``url`` is for the agent. ``on_begun`` is called when the first bytes of a turn's answer have come.
    """

    server_url: str
    turns: dict[int, str]
    end: str
    on_begun: Callable[[int], None] | None = None
    exchanges: list[Exchange] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)

    def __enter__(self) -> ForcingProxy:
        proxy = self

        class Handler(_Handler):
            owner = proxy

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.05,), name="ForcingProxy")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()

    def said(self, exchange: Exchange) -> str:
        """What the model is to say; knows the turn from here on."""
        if not exchange.body.get("tools"):
            return SIDE_TURN
        exchange.turn = num_tool_results(exchange.body)
        return self.turns[exchange.turn]

    def forced(self, exchange: Exchange) -> dict[str, Any]:
        """The request with the tokens of its turn; one that generates nothing is left alone."""
        if urlsplit(exchange.path).path not in GENERATING_PATHS:
            return exchange.body
        text = self.said(exchange)
        answer = httpx.post(f"{self.server_url}/tokenize", json={"prompt": text + self.end, "add_special_tokens": False})
        assert answer.status_code == 200, answer.text
        return exchange.body | {"forced_token_ids": answer.json()["tokens"]}


def num_tool_results(body: dict[str, Any]) -> int:
    """How many results of tools a conversation holds, whichever of the three APIs it is in."""
    given = body.get("input")
    count = sum(str(item.get("type")).endswith("_output") for item in given) if isinstance(given, list) else 0
    for message in body.get("messages", []):
        parts = message["content"] if isinstance(message.get("content"), list) else []
        count += message["role"] == "tool" or sum(part.get("type") == "tool_result" for part in parts)
    return count


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    owner: ForcingProxy

    def handle(self) -> None:
        with contextlib.suppress(ConnectionResetError):  # a client that goes away between two requests
            super().handle()

    def log_message(self, *_: object) -> None:
        """The exchanges are the log."""

    def do_CONNECT(self) -> None:
        self.owner.outside.append(self.path)
        self.send_response(403)
        self.send_header("Content-Length", "0")
        self.end_headers()
        self.close_connection = True

    def do_GET(self) -> None:
        self._carry(None)

    def do_POST(self) -> None:
        self._carry(self._body())

    def _carry(self, body: bytes | None) -> None:
        owner = self.owner
        exchange = Exchange(self.command, self.path, json.loads(body) if body else {}, None)
        owner.exchanges.append(exchange)
        forced = owner.forced(exchange)
        sent = b"" if body is None else body if forced is exchange.body else json.dumps(forced).encode()
        headers = [(name, value) for name, value in self.headers.items() if name.lower() not in _OF_THE_CONNECTION]
        # So that the log of the answers can be read.
        headers = [(name, "identity" if name.lower() == "accept-encoding" else value) for name, value in headers]
        with httpx.stream(self.command, owner.server_url + self.path, headers=headers, content=sent, timeout=300.0) as answer:
            exchange.status = answer.status_code
            self.send_response_only(exchange.status)
            for name, value in answer.headers.multi_items():
                if name.lower() not in _OF_THE_CONNECTION:
                    self.send_header(name, value)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for piece in answer.iter_raw():
                if not exchange.answer and exchange.turn is not None and owner.on_begun is not None:
                    owner.on_begun(exchange.turn)
                exchange.answer += piece
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
                self.wfile.flush()
            self.wfile.write(b"0\r\n\r\n")

    def _body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length", "0")))
        body = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

"""A small OpenAI-compatible server in a thread, for the commands that are its clients: answers what a test tells it to."""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class StreamingServer:
    """Serves on a free port of this host inside a ``with``; ``bodies`` are the requests that came."""

    def __init__(
        self, *, words=("Hello", ", ", "world"), can_tokenize=True, with_usage=True, api_key=None, fail=None, deltas=None
    ):
        self.words = words
        self.deltas = deltas or [{"content": word} for word in words]
        self.foreign_paths: list[str] = []
        self.can_tokenize = can_tokenize
        self.with_usage = with_usage
        self.api_key = api_key
        self.fail = fail
        self.pause_seconds = 0.0
        self.first_pause_seconds = 0.0
        self.bodies: list[dict[str, Any]] = []
        self.num_at_once = 0
        self.most_at_once = 0
        self.num_disconnects = 0
        self.lock = threading.Lock()
        test = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                return

            def do_GET(self):
                if not self.path.startswith("/"):
                    test.foreign_paths.append(self.path)
                answers = {"/v1/models": {"data": [{"id": "first"}, {"id": "second"}]}, "/version": {"version": "1.2.3"}}
                self.answer(200, answers.get(self.path, {}))

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if test.api_key and self.headers.get("Authorization") != f"Bearer {test.api_key}":
                    self.answer(401, {"error": {"message": "the key is wrong"}})
                elif self.path == "/tokenize":
                    self.answer(200, {"tokens": [1, 10, 11, 12]}) if test.can_tokenize else self.answer(404, {})
                else:
                    test.stream(self, body)

            def answer(self, status, content):
                data = json.dumps(content).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self):
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()
        return self

    def __exit__(self, *_):
        deadline = time.monotonic() + 5.0
        while self.num_at_once and time.monotonic() < deadline:
            time.sleep(0.001)
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()

    def stream(self, handler, body):
        with self.lock:
            self.bodies.append(body)
            self.num_at_once += 1
            self.most_at_once = max(self.most_at_once, self.num_at_once)
            number = len(self.bodies)
        try:
            if not body["stream"]:
                self.answer_whole(handler)
                return
            if self.fail == "status":
                handler.answer(500, {"error": {"message": "it broke"}})
                return
            time.sleep(self.first_pause_seconds)
            handler.send_response(200)
            handler.send_header("Content-Type", "text/event-stream")
            handler.send_header("Connection", "close")
            handler.end_headers()
            handler.close_connection = True
            self.write_events(handler, body, number)
        except (BrokenPipeError, ConnectionResetError):
            self.num_disconnects += 1
        finally:
            with self.lock:
                self.num_at_once -= 1

    def answer_whole(self, handler):
        time.sleep(self.pause_seconds)
        usage = {"usage": {"prompt_tokens": 7, "completion_tokens": len(self.words)}} if self.with_usage else {}
        handler.answer(200, {"choices": [{"index": 0, "text": "".join(self.words)}], **usage})

    def write_events(self, handler, body, number):
        def send(event):
            handler.wfile.write(b"data: " + json.dumps(event).encode() + b"\n\n")
            handler.wfile.flush()

        is_chat = "messages" in body
        handler.wfile.write(b": keep-alive\n\n")
        if is_chat:
            send({"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]})
        for place, delta in enumerate(self.deltas):
            if self.fail == "event" and place == 1:
                send({"error": {"message": "it broke in the middle"}})
                return
            if self.fail == "cut" and place == 1 and number == 1:
                return
            send({"choices": [{"index": 0, "delta": delta} if is_chat else {"index": 0, "text": delta["content"]}]})
            time.sleep(self.pause_seconds)
        send({"choices": [{"index": 0, "delta": {}, "text": "", "finish_reason": "length"}]})
        if self.with_usage:
            send({"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": len(self.words)}})
        if self.fail == "no done":
            return
        handler.wfile.write(b"data: [DONE]\n\n")

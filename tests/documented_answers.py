"""The document of ``/openapi.json`` as a judge: whether an answer is one that it describes, without a field more."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from typing import Any

import jsonschema_rs
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from yeoul.web_process.http.http_protocol import ANSWER_WRITER, AnswerWriter

Schema = dict[str, Any]

ABOUT_ITSELF = ("/openapi.json", "/docs")


def objects_in(node: Any) -> Iterator[dict[str, Any]]:
    """Every object in a document, itself included."""
    if isinstance(node, dict):
        yield node
    for entry in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from objects_in(entry)


def closed(document: Schema) -> Schema:
    """The same where an object may have no other fields than those that are described."""
    document = copy.deepcopy(document)
    for name, schema in document["components"]["schemas"].items():
        if not name.endswith("Request"):
            for node in objects_in(schema):
                if "properties" in node:
                    node.setdefault("additionalProperties", False)
    return document


class Document:
    """Judges answers by operation, status and type."""

    def __init__(self, document: Schema) -> None:
        self.document = document
        self._document = closed(document)
        # FastAPI does not tell which parameter may have slashes: the name of a model.
        self._patterns = {
            path: re.compile(re.sub(r"\\{(\w+)\\}", lambda found: ".+" if found[1] == "name" else "[^/]+", re.escape(path)))
            for path in document["paths"]
            if "{" in path
        }
        self._validators: dict[str, jsonschema_rs.Draft202012Validator] = {}
        self.seen: set[tuple[str, str, int, str]] = set()

    def check(self, method: str, path: str, status: int, content_type: str, body: bytes) -> None:
        """Fails where the document does not describe such an answer; ``path`` is of no operation where nothing is there."""
        template = self._find(path)
        operation = self._document["paths"].get(template, {}).get(method.lower())
        if operation is None:
            assert method == "OPTIONS" or path in ABOUT_ITSELF or status >= 400, (
                f"{method} {path} is not documented and answered {status}"
            )
            return
        where = f"{method} {template}: {status}"
        assert str(status) in operation["responses"], f"{where} is not documented: {body[:300]!r}"
        content = operation["responses"][str(status)].get("content", {})
        kind = content_type.partition(";")[0]
        self.seen.add((method, template, status, kind))
        if not body and not content:
            return
        assert kind in content, f"{where} has the type {kind!r}, which is not documented"
        schema = content[kind]["schema"]
        if kind == "application/json":
            self._validate(where, schema, json.loads(body))
        elif kind == "application/x-ndjson":
            for line in body.decode().splitlines():
                self._validate(where, schema, json.loads(line))
        elif kind == "text/event-stream":
            for block in body.decode().split("\n\n"):
                if block.strip() and not block.startswith(":"):  # a comment is no event
                    fields = dict(line.split(": ", 1) for line in block.strip().split("\n"))
                    self._check_event(where, schema["anyOf"], fields)

    def _find(self, path: str) -> str:
        """The path as the document has it; some are known without their version as well."""
        for candidate in (path, f"/v1{path}"):
            if candidate in self._document["paths"]:
                return candidate
            for template, pattern in self._patterns.items():
                if pattern.fullmatch(candidate):
                    return str(template)
        return path

    def _check_event(self, where: str, kinds: list[Schema], fields: dict[str, str]) -> None:
        found = [kind for kind in kinds if self._is_of_kind(kind, fields)]
        assert found, f"{where} has an event that is not documented: {fields}"
        problems = []
        for kind in found:
            inner = kind["properties"]["data"].get("contentSchema")
            if inner is None:
                return
            try:
                self._validate(where, inner, json.loads(fields["data"]))
            except AssertionError as error:
                problems.append(str(error))
            else:
                return
        raise AssertionError("\n".join(problems))

    @staticmethod
    def _is_of_kind(kind: Schema, fields: dict[str, str]) -> bool:
        """Whether its names are these, and what is constant is so."""
        properties = kind["properties"]
        constants = {name: schema["enum"] for name, schema in properties.items() if "enum" in schema}
        is_done = fields.get("data") == "[DONE]"
        return (
            fields.keys() == properties.keys()
            and all(fields[name] in values for name, values in constants.items())
            and is_done == ("data" in constants)
        )

    def _validate(self, where: str, schema: Schema, value: object) -> None:
        key = json.dumps(schema, sort_keys=True)
        if key not in self._validators:
            self._validators[key] = jsonschema_rs.Draft202012Validator({**schema, "components": self._document["components"]})
        problems = [
            f"{where} {'.'.join(map(str, error.instance_path))}: {error.message[:2000]}"
            for error in self._validators[key].iter_errors(value)
        ]
        assert not problems, "\n".join(problems)


class Recorder:
    """ASGI, around an application: has the document judge every answer; ``problems`` are those that it does not describe."""

    def __init__(self, app: ASGIApp, document: Document) -> None:
        self._app = app
        self._document = document
        self.problems: list[str] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes everything on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        answer = _Answer()
        extensions = scope.get("extensions", {})
        if ANSWER_WRITER in extensions:
            extensions = {**extensions, ANSWER_WRITER: _NotingWriter(extensions[ANSWER_WRITER], answer.body)}
        method, path = scope["method"], scope["path"]
        await self._app({**scope, "extensions": extensions}, receive, answer.noting(send))
        if answer.is_whole and method != "HEAD":
            try:
                self._document.check(method, path, answer.status, answer.content_type, bytes(answer.body))
            except AssertionError as error:
                self.problems.append(str(error))


class _NotingWriter(AnswerWriter):
    def __init__(self, writer: AnswerWriter, noted: bytearray) -> None:
        self._writer = writer
        self._noted = noted

    def write(self, piece: bytes) -> bool:
        self._noted += piece
        return self._writer.write(piece)


class _Answer:
    def __init__(self) -> None:
        self.status = 0
        self.content_type = ""
        self.body = bytearray()
        self.is_whole = False

    def noting(self, send: Send) -> Send:
        async def note(message: Message) -> None:
            if message["type"] == "http.response.start":
                self.status = message["status"]
                self.content_type = dict(message["headers"]).get(b"content-type", b"").decode()
            elif message["type"] == "http.response.body":
                self.body += message.get("body", b"")
                self.is_whole = not message.get("more_body", False)
            await send(message)

        return note

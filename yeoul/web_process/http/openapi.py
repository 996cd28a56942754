"""Documents what routes take and answer, from the structs that it is, for ``/openapi.json`` and ``/docs``; knows no route.

A struct stands in a route's part of the document as a reference, which ``complete`` replaces when all routes are there: so
each struct is described once, and may be part of itself.
"""

from __future__ import annotations

import asyncio
import functools
import pkgutil
import threading
from collections.abc import Collection, Iterator, Mapping
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.routing import APIRoute
from msgspec import Meta

from yeoul.web_process.http.request_body import NUMBER_IN_QUOTES, RequestBody, numbers_of
from yeoul.web_process.http.writing import json_response

Schema = dict[str, Any]
Answers = dict[int | str, dict[str, Any]]

Count = Annotated[int, Meta(ge=0)]
UnixTime = Annotated[int, Meta(ge=0)]
"""In seconds."""

OF_BODIES = frozenset({400, 413, 415, 503})
"""The statuses of errors that a body may have; ``answers_of`` adds those that are possible everywhere."""
OF_IDS = frozenset({400, 404, 405})
"""Where the path has an id: there may be nothing of it, or, with a slash in it or nothing, the path is another one."""
OF_MODELS = OF_BODIES | {404, 408, 429, 504}
"""Where the model has to do with it."""

_EVERYWHERE = frozenset({401, 403, 500})
_ERRORS = {
    400: "A field, or the body as a whole, is not what was expected: the message says what came and what to do.",
    401: "The server has API keys, and the request has none of them.",
    403: "A web page, or a host, that may not use this server; or what this server never does.",
    404: "There is no such model, or nothing of this id.",
    405: "The path is another one than it seems, since an id is empty or has a slash; that one has other methods.",
    408: "The answer was not complete within the deadline that the request itself has set.",
    409: "Somebody else does just now what one can do at a time; ask again when that is over.",
    413: "The body is larger than this server reads.",
    415: "The body says that it is of another type than the route reads.",
    429: "So many requests wait already that this one was not taken; Retry-After says when to ask again.",
    500: "The request failed inside the engine, or the engine died too often; others are not concerned.",
    503: "Starting, recovering, stopping, or out of room; Retry-After says when to ask again.",
    504: "The answer was not complete within the server's own deadline.",
}
_RETRY_AFTER: Schema = {"retry-after": {"description": "In so many seconds.", "schema": {"type": "integer", "minimum": 0}}}
_HEADERS: dict[int, Schema] = {
    401: {"www-authenticate": {"description": "How keys are sent.", "schema": {"type": "string"}}},
    429: _RETRY_AFTER,
    503: _RETRY_AFTER,
}
_EVERY_ANSWER: Schema = {
    "x-request-id": {"description": "The request's id.", "schema": {"type": "string"}},
    "server-timing": {
        "description": "What the time until the answer began went to, in milliseconds.",
        "schema": {"type": "string"},
    },
}
_IGNORED_FIELDS: Schema = {
    "yeoul-ignored-fields": {
        "description": "The fields of the body that had no effect, separated by commas; only where there are some.",
        "schema": {"type": "string"},
    }
}
_KEYS: Schema = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "One of the server's API keys, where it has any."},
    "x-api-key": {
        "type": "apiKey",
        "in": "header",
        "name": "x-api-key",
        "description": "The same, as Anthropic's clients send it.",
    },
}
_PLACE = "#/components/schemas/"


def says(description: str) -> Meta:
    """A sentence about a field, for its annotation."""
    return Meta(description=description)


class ErrorFields(msgspec.Struct, kw_only=True):
    """What went wrong."""

    message: Annotated[str, says("What was expected, what came, and what to do.")]
    type: Annotated[str, says("The kind of error, such as `invalid_request_error` or `overloaded_error`.")]
    param: Annotated[str | None, says("The field of the request that is wrong, by its path.")]
    code: Annotated[str | None, says("The error as machines know it, such as `context_length_exceeded`.")]


class Error(msgspec.Struct, kw_only=True):
    """An error, in OpenAI's shape."""

    error: Annotated[ErrorFields, says("What went wrong.")]


def reference_to(struct: type[msgspec.Struct]) -> Schema:
    """A struct, by the place where it is defined."""
    return {"$ref": f"{struct.__module__}:{struct.__qualname__}"}


def array_of(struct: type[msgspec.Struct]) -> Schema:
    """A list of these."""
    return {"type": "array", "items": reference_to(struct)}


def event(data: type[msgspec.Struct], name: str | None = None) -> Schema:
    """A server-sent event whose data are a struct's JSON; with ``name`` the field ``event`` has it."""
    fields: Schema = {} if name is None else {"event": {"type": "string", "enum": [name]}}
    fields["data"] = {"type": "string", "contentMediaType": "application/json", "contentSchema": reference_to(data)}
    return {"type": "object", "required": list(fields), "properties": fields}


_DONE: Schema = {
    "type": "object",
    "required": ["data"],
    "properties": {"data": {"type": "string", "enum": ["[DONE]"], "description": "That there is no more."}},
}


def events_of(chunk: type[msgspec.Struct]) -> list[Schema]:
    """The events of a stream that OpenAI ends with ``[DONE]``: pieces of the answer, or an error in place of the rest."""
    return [event(chunk), event(Error), _DONE]


def body_of(model: type[RequestBody]) -> dict[str, Any]:
    """What FastAPI's ``openapi_extra`` needs to show ``model`` as the body of a route."""
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": reference_to(model)}}}}


def form_of(form: type[msgspec.Struct]) -> dict[str, Any]:
    """The same of a form."""
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": reference_to(form)}}}}


def answers_of(
    answer: type[msgspec.Struct] | Schema | None,
    *,
    errors: Collection[int] = OF_MODELS,
    error: type[msgspec.Struct] = Error,
    events: Collection[Schema] = (),
    lines: type[msgspec.Struct] | Schema | None = None,
    media_type: str | None = None,
) -> Answers:
    """What FastAPI's ``responses`` needs to show the answers of a route, its errors included.

    Args:
        answer: the JSON that it answers; None for an answer of another kind.
        errors: the statuses of its errors, besides those that are possible everywhere.
        error: their shape.
        events: the kinds of server-sent events that it may answer with instead.
        lines: what each line of its answer is, where it may answer so instead.
        media_type: of an answer that is no JSON; None for an empty one.
    """
    content: dict[str, Any] = {} if answer is None else {"application/json": {"schema": _schema_of(answer)}}
    if events:
        content["text/event-stream"] = {"schema": {"description": "Each of the events.", "anyOf": list(events)}}
    if lines is not None:
        content["application/x-ndjson"] = {"schema": {"description": "Each of the lines.", **_schema_of(lines)}}
    if media_type is not None:
        content[media_type] = {"schema": {"type": "string"}}
    headers = _EVERY_ANSWER | (_IGNORED_FIELDS if set(errors) >= OF_BODIES else {})
    answers: Answers = {
        200: {"description": "It went well.", "headers": headers, **({"content": content} if content else {})}
    }
    for status in sorted(_EVERYWHERE | set(errors)):
        answers[status] = {
            "description": _ERRORS[status],
            "content": {"application/json": {"schema": reference_to(error)}},
            "headers": _EVERY_ANSWER | _HEADERS.get(status, {}),
        }
    return answers


class DocumentedApp(FastAPI):
    """FastAPI, whose document has the structs that its routes refer to. ``paths`` are those of all routes.

    The document is made when it is asked for first, in a thread, since that takes a third of a second.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(openapi_url=None, **options)
        self.paths: list[str] = []
        self._making = threading.Lock()
        self._written = b""
        self.add_route("/openapi.json", self._answer_document, include_in_schema=False)
        self.add_route("/docs", self._answer_page, include_in_schema=False)

    def add(self, router: APIRouter) -> None:
        """Takes its routes."""
        self.paths += [route.path for route in router.routes if isinstance(route, APIRoute)]
        self.include_router(router)

    def openapi(self) -> dict[str, Any]:
        """The document."""
        with self._making:
            if not self._written:
                self.openapi_schema = complete(super().openapi())
                self._written = msgspec.json.encode(self.openapi_schema)
            assert self.openapi_schema is not None
            return self.openapi_schema

    async def _answer_document(self, request: Request) -> Response:
        await asyncio.to_thread(self.openapi)
        return json_response(self._written)

    async def _answer_page(self, request: Request) -> Response:
        return get_swagger_ui_html(openapi_url="openapi.json", title=self.title)


def complete(document: dict[str, Any]) -> dict[str, Any]:
    """The document with the schemas of the structs that it refers to, and without what FastAPI adds of its own.

    FastAPI would answer 422 to a bad query; here such an answer is 400, as every other.
    """
    for operations in document["paths"].values():
        for operation in operations.values():
            operation["responses"].pop("422", None)
    places = sorted({place for node in _objects_in(document) if ":" in (place := node.get("$ref", ""))})
    structs = [pkgutil.resolve_name(place) for place in places]
    references, definitions = msgspec.json.schema_components(structs, ref_template=_PLACE + "{name}")
    names = {place: reference["$ref"].removeprefix(_PLACE) for place, reference in zip(places, references, strict=True)}
    for place, struct in zip(places, structs, strict=True):
        if issubclass(struct, RequestBody):
            _allow_quotes(definitions[names[place]], struct)
    for definition in definitions.values():
        _explain_type(definition)
    document["security"] = [{}, *({name: []} for name in _KEYS)]
    components = document.setdefault("components", {})
    components["securitySchemes"] = _KEYS
    components["schemas"] = {_short(name): definition for name, definition in definitions.items()}
    assert len(components["schemas"]) == len(definitions), "two structs of a room have the same name"
    for node in _objects_in(document):
        if isinstance(reference := node.get("$ref"), str):
            node["$ref"] = _PLACE + _short(names.get(reference, reference.removeprefix(_PLACE)))
        _lift_descriptions(node)
    return document


def _schema_of(answer: type[msgspec.Struct] | Schema) -> Schema:
    return answer if isinstance(answer, Mapping) else reference_to(answer)


def _explain_type(definition: Schema) -> None:
    """A ``type`` that can be one thing only tells structs apart; most of them are no fields, which could have a sentence."""
    kind = definition.get("properties", {}).get("type", {})
    if len(kind.get("enum", ())) == 1:
        kind.setdefault("description", "What this is.")


def _allow_quotes(definition: Schema, struct: type[RequestBody]) -> None:
    """Numbers may be in quotes: see ``request_body.py``."""
    for name in numbers_of(struct):
        number = definition["properties"][name]
        description = {"description": number.pop("description")} if "description" in number else {}
        kinds = number.pop("anyOf", None)
        default = {"default": number.pop("default")} if "default" in number else {}
        in_quotes = {"type": "string", "pattern": f"^{NUMBER_IN_QUOTES}$"}
        definition["properties"][name] = {**description, "anyOf": [*(kinds or [number]), in_quotes], **default}


@functools.cache
def _short(name: str) -> str:
    """Where structs of several rooms have the same name, msgspec adds the whole module; the room is enough."""
    steps = name.split(".")
    return name if len(steps) == 1 else steps[2].capitalize() + steps[-1]


def _objects_in(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, list):
        for entry in node:
            yield from _objects_in(entry)
    elif isinstance(node, dict):
        yield node
        for entry in list(node.values()):
            yield from _objects_in(entry)


def _lift_descriptions(node: dict[str, Any]) -> None:
    """What is said of the only kind of value that a field may have besides null is said of the field."""
    kinds = [kind for kind in node.get("anyOf", ()) if "description" in kind]
    if len(kinds) == 1 and "description" not in node:
        node["description"] = kinds[0].pop("description")

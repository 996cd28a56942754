"""Reads the body of a request within the limit and checks it against a schema; knows no route."""

from __future__ import annotations

from fastapi import Request
from starlette.requests import ClientDisconnect

from yeoul.errors import InvalidRequestError, PayloadTooLargeError
from yeoul.web_process.schemas.body import Body, parse_body


async def read_body(request: Request, model: type[Body], max_body_bytes: int) -> Body:
    """The body as a ``model``.

    Raises:
        PayloadTooLargeError: it is, or says that it is, larger than ``max_body_bytes``; the rest is not read.
        InvalidRequestError: it is not JSON, or not what the model expects.
    """
    if (coding := request.headers.get("content-encoding", "identity")) != "identity":
        raise InvalidRequestError(f"the body is encoded with {coding[:40]!r}; send it as it is, without content-encoding")
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > max_body_bytes:
        raise _too_large(int(declared), max_body_bytes)
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > max_body_bytes:
                raise _too_large(len(body), max_body_bytes)
    except ClientDisconnect:
        raise InvalidRequestError("the client went away before its request was complete") from None
    if not body:
        raise InvalidRequestError("the body is empty; expected a JSON object", code="invalid_json")
    return parse_body(bytes(body), model)


def _too_large(num_bytes: int, max_body_bytes: int) -> PayloadTooLargeError:
    return PayloadTooLargeError(
        f"the body has {num_bytes} bytes or more; this server reads at most {max_body_bytes} (--max-body-bytes)"
    )

"""``/`` and the files of the page, the same for everybody; what they show comes by other routes. Knows no engine."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response
from fastapi.responses import PlainTextResponse

from yeoul.errors import NotFoundError
from yeoul.web_process.http.openapi import Answers, answers_of
from yeoul.web_process.live.page.page_files import CONTENT_TYPES, FRONT, HEADERS, PageFile, read_page_files
from yeoul.web_process.server_context import ServerContext

_GREETING = "Ollama is running"  # some of its clients compare it
_GREETING_WITHOUT_PAGE = "Yeoul is running: /docs shows its routes, /v1/models and /api/tags what it serves"
_NOT_MODIFIED = 304


def page_router(context: ServerContext) -> APIRouter:
    """The routes; without ``--page`` a browser is greeted as anybody else."""
    router = APIRouter()
    files = read_page_files() if context.settings.server.page else {}

    @router.head("/", include_in_schema=False)
    @router.get("/", response_class=Response, responses=_answers("text/plain", "text/html", errors=()))
    async def greet(request: Request) -> Response:
        """A browser gets the page; by its greeting Ollama's clients know that somebody is there."""
        if "text/html" not in request.headers.get("accept", ""):
            return PlainTextResponse(_GREETING, headers={"vary": "accept"})
        if not files:
            return PlainTextResponse(_GREETING_WITHOUT_PAGE, headers={"vary": "accept"})
        return _answer(request, files[FRONT], {"vary": "accept"})

    types = sorted({content_type.partition(";")[0] for content_type in CONTENT_TYPES.values()})

    @router.get("/page/{name:path}", response_class=Response, responses=_answers(*types, errors={404}))
    async def page_file(
        request: Request, name: Annotated[str, Path(description="The file's path in the folder of the page.")]
    ) -> Response:
        """A file of the page; needs no key, since it tells nothing of this server."""
        if name not in files:
            raise NotFoundError(f"the page has no file {name[:200]!r}", code="unknown_url")
        return _answer(request, files[name])

    return router


def _answer(request: Request, file: PageFile, headers: dict[str, str] | None = None) -> Response:
    headers = {**HEADERS, **(headers or {}), "etag": file.tag}
    if file.tag in request.headers.get("if-none-match", ""):
        return Response(status_code=_NOT_MODIFIED, headers=headers)
    return Response(file.content, headers=headers, media_type=file.content_type)


def _answers(*types: str, errors: set[int] | tuple[()]) -> Answers:
    answers = answers_of(None, media_type=types[0], errors=errors)
    content: dict[str, Any] = answers[200]["content"]
    content |= {other: {"schema": {"type": "string"}} for other in types[1:]}
    answers[_NOT_MODIFIED] = {
        "description": "The browser has the file already, as the header if-none-match says.",
        "headers": answers[200]["headers"],
    }
    return answers

"""``/v1/files``: files in, their list, their bytes, and away with them; knows nothing of what they are for."""

from __future__ import annotations

from typing import Annotated, get_args

from fastapi import APIRouter, Path, Query, Request, Response
from starlette.responses import StreamingResponse

from yeoul.errors import InvalidRequestError
from yeoul.web_process.http.caller import caller_of
from yeoul.web_process.http.openapi import OF_BODIES, OF_IDS, answers_of, form_of
from yeoul.web_process.http.uploads import Upload, read_upload
from yeoul.web_process.http.writing import json_response
from yeoul.web_process.openai.json_writing import encode_json
from yeoul.web_process.openai.kept import After, ends_of
from yeoul.web_process.openai.schemas.kept import (
    LEAST_SECONDS,
    MOST_SECONDS,
    DeletedFile,
    FileList,
    FileObject,
    Purpose,
    UploadForm,
)
from yeoul.web_process.server_context import ServerContext
from yeoul.web_process.store.files import Order, StoredFile

_TEXTS = frozenset({"purpose", "expires_after[anchor]", "expires_after[seconds]"})

FileId = Annotated[str, Path(description="The id of a file.")]


def files_router(context: ServerContext) -> APIRouter:
    """The routes, bound to what is kept."""
    router = APIRouter()
    files = context.files

    @router.post("/v1/files", responses=answers_of(FileObject, errors=OF_BODIES), openapi_extra=form_of(UploadForm))
    async def create_file(request: Request) -> Response:
        """Keeps a file, such as the requests of a batch."""
        with files.receive() as incoming:
            upload = await read_upload(request, incoming, files.max_file_bytes)
            purpose, seconds = _purpose_of(upload), _expiry_of(upload)
            return _answer(shown(await incoming.keep(caller_of(request).tenant, upload.filename, purpose, seconds)))

    @router.get("/v1/files", responses=answers_of(FileList, errors={400, 404}))
    async def list_files(
        request: Request,
        purpose: Annotated[str | None, Query(description="Only those that are for this.")] = None,
        after: After = None,
        limit: Annotated[int, Query(ge=1, le=10000, description="How many at most.")] = 10000,
        order: Annotated[Order, Query(description="The oldest first, or the newest.")] = "desc",
    ) -> Response:
        """The files of this key, the newest first; those behind ``after``."""
        tenant = caller_of(request).tenant
        found, has_more = await files.page(tenant, purpose=purpose, after=after, limit=limit, order=order)
        files_of_page = [shown(file) for file in found]
        first_id, last_id = ends_of(files_of_page)
        return _answer(FileList(data=files_of_page, first_id=first_id, last_id=last_id, has_more=has_more))

    @router.get("/v1/files/{file_id}", responses=answers_of(FileObject, errors=OF_IDS))
    async def get_file(request: Request, file_id: FileId) -> Response:
        """What is known of a file."""
        return _answer(shown(await files.find(caller_of(request).tenant, file_id)))

    @router.delete("/v1/files/{file_id}", responses=answers_of(DeletedFile, errors=OF_IDS))
    async def delete_file(request: Request, file_id: FileId) -> Response:
        """Deletes a file, unless a batch still uses it."""
        await files.delete(caller_of(request).tenant, file_id)
        return _answer(DeletedFile(id=file_id))

    @router.get(
        "/v1/files/{file_id}/content",
        response_class=Response,
        responses=answers_of(None, media_type="application/octet-stream", errors=OF_IDS),
    )
    async def get_content(request: Request, file_id: FileId) -> Response:
        """The bytes of a file; of the output of a batch that runs the answers that there are."""
        file = await files.find(caller_of(request).tenant, file_id)
        return StreamingResponse(
            files.read(file), media_type="application/octet-stream", headers={"content-length": str(file.num_bytes)}
        )

    return router


def shown(file: StoredFile) -> FileObject:
    """A file as OpenAI shows it."""
    return FileObject(
        id=file.id,
        bytes=file.num_bytes,
        created_at=file.created_at,
        expires_at=file.expires_at,
        filename=file.filename,
        purpose=file.purpose,
    )


def _answer(answer: FileObject | FileList | DeletedFile) -> Response:
    return json_response(encode_json(answer))


def _purpose_of(upload: Upload) -> str:
    if strangers := upload.texts.keys() - _TEXTS:
        name = min(strangers)
        message = f"the form has a field {name[:60]!r}; expected file and {', '.join(sorted(_TEXTS))}"
        raise InvalidRequestError(message, param=name[:60])
    purpose = upload.texts.get("purpose")
    if purpose is None or purpose not in get_args(Purpose):
        came = "it is missing" if purpose is None else f"it is {purpose[:60]!r}"
        raise InvalidRequestError(f"purpose: {came}; expected one of {', '.join(get_args(Purpose))}", param="purpose")
    return purpose


def _expiry_of(upload: Upload) -> int | None:
    """How many seconds it is to be kept, where the form says so."""
    anchor, seconds = (upload.texts.get(f"expires_after[{name}]") for name in ("anchor", "seconds"))
    if anchor is None and seconds is None:
        return None
    if anchor != "created_at":
        raise InvalidRequestError("expires_after[anchor] has to be 'created_at'", param="expires_after")
    if not (
        seconds is not None and seconds.isdecimal() and len(seconds) < 12 and LEAST_SECONDS <= int(seconds) <= MOST_SECONDS
    ):
        message = f"expires_after[seconds] has to be a whole number from {LEAST_SECONDS} to {MOST_SECONDS}"
        raise InvalidRequestError(message, param="expires_after")
    return int(seconds)

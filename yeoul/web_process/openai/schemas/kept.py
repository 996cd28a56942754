"""What the routes of files and batches take as a form and answer; knows no route."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, UnsetType

from yeoul.web_process.http.openapi import Count, UnixTime, says

HasMore = Annotated[bool, says("Whether there are more behind the last one.")]
FirstId = Annotated[str | None, says("The id of the first one; null where there are none.")]
LastId = Annotated[str | None, says("The id of the last one, to be sent as `after`; null where there are none.")]

Purpose = Literal["assistants", "batch", "evals", "fine-tune", "user_data", "vision"]
LEAST_SECONDS, MOST_SECONDS = 3600, 2592000  # OpenAI's
KeptSeconds = Annotated[int, msgspec.Meta(ge=LEAST_SECONDS, le=MOST_SECONDS, description="After so many seconds.")]


class FileObject(msgspec.Struct, kw_only=True):
    """A file that is kept."""

    id: Annotated[str, says("By which requests name it.")]
    object: Annotated[Literal["file"], says("What this is.")] = "file"
    bytes: Annotated[Count, says("How large it is.")]
    created_at: Annotated[UnixTime, says("When it was kept.")]
    expires_at: Annotated[UnixTime | None, says("When it is deleted by itself; null for never.")]
    filename: Annotated[str, says("Its name, as it was sent.")]
    purpose: Annotated[str, says("What it is for.")]
    status: Annotated[Literal["processed"], says("Always the same: it is ready.")] = "processed"
    status_details: Annotated[None, says("Always null.")] = None


class FileList(msgspec.Struct, kw_only=True):
    """A part of the list of files."""

    object: Annotated[Literal["list"], says("What this is.")] = "list"
    data: Annotated[list[FileObject], says("The files.")]
    first_id: FirstId
    last_id: LastId
    has_more: HasMore


class DeletedFile(msgspec.Struct, kw_only=True):
    """That a file is gone."""

    id: Annotated[str, says("Its id.")]
    object: Annotated[Literal["file"], says("What it was.")] = "file"
    deleted: Annotated[Literal[True] | bool, says("Always true.")] = True


class BatchErrorObject(msgspec.Struct, kw_only=True):
    """Why a batch was not begun."""

    code: Annotated[str | None, says("The error as machines know it.")]
    message: Annotated[str, says("What was expected, and what came.")]
    param: Annotated[str | None, says("The field that is wrong.")]
    line: Annotated[int | None, says("In which line of the file.")]


class BatchErrors(msgspec.Struct, kw_only=True):
    """What is wrong with a batch's file."""

    object: Annotated[Literal["list"], says("What this is.")] = "list"
    data: Annotated[list[BatchErrorObject], says("The errors.")]


class RequestCounts(msgspec.Struct, kw_only=True):
    """How many requests a batch has."""

    total: Annotated[Count, says("All.")]
    completed: Annotated[Count, says("Those that were answered.")]
    failed: Annotated[Count, says("Those that ended with an error.")]


BatchStatus = Literal["validating", "failed", "in_progress", "finalizing", "completed", "expired", "cancelling", "cancelled"]


class BatchObject(msgspec.Struct, kw_only=True):
    """The requests of a file, which are answered in the gaps that others leave."""

    id: Annotated[str, says("By which requests name it.")]
    object: Annotated[Literal["batch"], says("What this is.")] = "batch"
    endpoint: Annotated[str, says("The route of its requests.")]
    errors: Annotated[BatchErrors | None, says("What is wrong with its file, where it failed.")]
    input_file_id: Annotated[str, says("The file of its requests.")]
    completion_window: Annotated[str, says("In which time it is to be complete.")]
    status: Annotated[BatchStatus, says("How far it is.")]
    output_file_id: Annotated[str | None, says("The file of its answers, which can be read while it grows.")]
    error_file_id: Annotated[str | None, says("The file of the requests that failed.")]
    created_at: Annotated[UnixTime, says("When it was made.")]
    in_progress_at: Annotated[UnixTime | None, says("When its first request was begun.")]
    expires_at: Annotated[UnixTime | None, says("When its window ends.")]
    finalizing_at: Annotated[UnixTime | None, says("When its last request was answered.")]
    completed_at: Annotated[UnixTime | None, says("When it was complete.")]
    failed_at: Annotated[UnixTime | None, says("When its file turned out to be wrong.")]
    expired_at: Annotated[UnixTime | None, says("When its window ended before all was answered.")]
    cancelling_at: Annotated[UnixTime | None, says("When it was asked to end.")]
    cancelled_at: Annotated[UnixTime | None, says("When it had ended.")]
    request_counts: Annotated[RequestCounts, says("How many requests it has.")]
    metadata: Annotated[dict[str, str] | None, says("What its maker noted about it.")]


class BatchList(msgspec.Struct, kw_only=True):
    """A part of the list of batches."""

    object: Annotated[Literal["list"], says("What this is.")] = "list"
    data: Annotated[list[BatchObject], says("The batches, the newest first.")]
    first_id: FirstId
    last_id: LastId
    has_more: HasMore


class UploadForm(msgspec.Struct, kw_only=True):
    """The form of a file."""

    file: Annotated[str, msgspec.Meta(description="The file.", extra_json_schema={"format": "binary"})]
    purpose: Annotated[Purpose, says("What it is for.")]
    expires_after_anchor: Annotated[
        Literal["created_at"] | UnsetType, says("From when the time counts after which it is deleted.")
    ] = msgspec.field(name="expires_after[anchor]", default=UNSET)
    expires_after_seconds: KeptSeconds | UnsetType = msgspec.field(name="expires_after[seconds]", default=UNSET)

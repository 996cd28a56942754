"""How a model is that comes and goes, in the words of llama.cpp's router; knows no route."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import UNSET, UnsetType

from yeoul.web_process.fleet.fleet_model import FleetModel, ModelStatus
from yeoul.web_process.http.openapi import Count, says
from yeoul.web_process.http.request_body import RequestBody


class Fetched(msgspec.Struct, kw_only=True):
    """How far a file is fetched."""

    done: Annotated[Count, says("Its bytes that are here.")]
    total: Annotated[Count, says("All of them.")]


class StatusOfModel(msgspec.Struct, kw_only=True):
    """Whether a model is in memory."""

    value: Annotated[ModelStatus, says("What it is at.")]
    failed: Annotated[bool | UnsetType, says("True where it could not be loaded the last time.")] = UNSET
    error: Annotated[str | UnsetType, says("Why.")] = UNSET
    progress: Annotated[dict[str, Fetched] | UnsetType, says("How far it is fetched, by file.")] = UNSET
    memory_bytes: Annotated[
        Count | UnsetType, says("What it takes while it is loaded: weights, KV cache and processes; known with its files.")
    ] = UNSET
    num_unfinished: Annotated[Count, says("Requests (choices) that run or wait.")]
    num_loads: Annotated[Count, says("How often it was loaded.")]
    load_seconds: Annotated[float | UnsetType, says("How long that took the last time.")] = UNSET
    expires_in_seconds: Annotated[
        float | UnsetType, says("When its engine is ended, if nobody asks it for anything until then.")
    ] = UNSET


class NamedModel(RequestBody, kw_only=True):
    """``POST /models/load`` and ``/models/unload``."""

    model: Annotated[str, says("One of the names that the server has.")]


class Done(msgspec.Struct, kw_only=True):
    """That it has begun: the model's status tells when it is done."""

    success: Annotated[bool, says("True.")]


def status_of(model: FleetModel) -> StatusOfModel:
    """As it is now."""
    failure, left = model.failure, model.seconds_left()
    return StatusOfModel(
        value=model.status,
        failed=UNSET if failure is None else True,
        error=UNSET if failure is None else failure.message,
        progress={name: Fetched(done=done, total=total) for name, (done, total) in model.progress.items()} or UNSET,
        memory_bytes=UNSET if model.need is None else model.need.total,
        num_unfinished=model.llm.num_unfinished,
        num_loads=model.num_loads,
        load_seconds=UNSET if model.load_seconds is None else round(model.load_seconds, 3),
        expires_in_seconds=UNSET if left is None else round(left, 3),
    )

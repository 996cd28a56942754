"""What the routes for supervisors answer, as JSON; knows no route."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from yeoul.messages.keeper import EngineRole
from yeoul.web_process.http.openapi import Count, says


class Seconds(msgspec.Struct, kw_only=True, omit_defaults=True):
    """That a token was made, or that the model is not in memory, and nobody makes any."""

    seconds: Annotated[float, Meta(ge=0)] | Annotated[None, says("Nobody made any.")]
    status: Annotated[
        str, says("Of several models, or one that may leave memory: why there is none, such as `unloaded`.")
    ] = ""


class Version(msgspec.Struct, kw_only=True):
    """What runs."""

    version: Annotated[str, says("Of the package.")]


class EngineHealth(msgspec.Struct, kw_only=True):
    """One of several engines."""

    model: Annotated[str, says("The first name of what it serves.")]
    name: Annotated[str, says("Of its process, such as `EngineCore_1`.")]
    state: Annotated[str, says("What it is at: `ready`, `stalled`, `recovering`, `starting`, or `dead` for good.")]
    cause: Annotated[str | None, says("Which process is missing and why; null where none is.")] = None
    role: Annotated[
        EngineRole | UnsetType, says("Where prompts are computed apart (`--num-prefill-engines`): which part it does.")
    ] = UNSET


class EnginesHealth(msgspec.Struct, kw_only=True):
    """That requests are computed, and what each engine is at."""

    engines: Annotated[list[EngineHealth], says("All of them.")]


class ServerLoad(msgspec.Struct, kw_only=True):
    """How much is going on, as vLLM tells it."""

    server_load: Annotated[Count, says("How many requests are unfinished.")]


class OldLoad(msgspec.Struct, kw_only=True):
    """How much is going on, as SGLang told it."""

    dp_rank: Annotated[Count, says("Which engine, from 0.")]
    num_reqs: Annotated[Count, says("How many requests run or wait.")]
    num_waiting_reqs: Annotated[Count, says("How many of them wait.")]
    num_tokens: Annotated[Count, says("How many tokens the used blocks of the cache have room for.")]


class EngineLoad(msgspec.Struct, kw_only=True):
    """What an engine is at, as SGLang tells it."""

    dp_rank: Annotated[Count, says("Which engine, from 0.")]
    num_running_reqs: Annotated[Count, says("How many requests run.")]
    num_waiting_reqs: Annotated[Count, says("How many wait.")]
    num_used_tokens: Annotated[Count, says("How many tokens the used blocks of the cache have room for.")]
    max_total_num_tokens: Annotated[Count, says("How many tokens the whole cache has room for.")]
    max_running_requests: Annotated[Count, says("How many requests run at most.")]
    token_usage: Annotated[float, Meta(ge=0, le=1, description="The share of the cache's blocks that are used.")]
    cache_hit_rate: Annotated[float, Meta(ge=0, description="The share of prompts' tokens that were in the cache.")]


class Loads(msgspec.Struct, kw_only=True):
    """What all engines are at."""

    timestamp: Annotated[str, says("When it was so, in UTC.")]
    version: Annotated[str, says("Of the package.")]
    dp_rank_count: Annotated[Count, says("How many engines there are.")]
    loads: Annotated[list[EngineLoad], says("What each is at.")]


class ServerInfo(msgspec.Struct, kw_only=True):
    """What is served, and as what it runs."""

    version: Annotated[str, says("Of the package.")]
    status: Annotated[str, says("What the engine is at, such as `ready`, `recovering` or `sleeping`.")]
    model_path: Annotated[str, says("The model, as the server was told of it.")]
    served_model_name: Annotated[str, says("The first name that requests may use.")]
    served_model_names: Annotated[list[str], says("All names that requests may use.")]
    model_type: Annotated[str, says("The model's architecture.")]
    system_fingerprint: Annotated[str, says("The model and the version: as long as it stays the same, so do answers.")]
    dtype: Annotated[str, says("In what type it computes, as it was started.")]
    quantization: Annotated[str | None, says("How weights are packed, as it was started.")]
    max_model_len: Annotated[Count, says("How many tokens prompt and answer may have together.")]
    context_length: Annotated[Count, says("The same.")]
    tp_size: Annotated[Count, says("Into how many parts each layer is divided.")]
    pp_size: Annotated[Count, says("Into how many stages the layers are divided.")]
    dp_size: Annotated[Count, says("How many engines there are.")]
    page_size: Annotated[Count, says("How many tokens a block of the cache has.")]
    block_size: Annotated[Count, says("The same.")]
    max_total_num_tokens: Annotated[Count, says("How many tokens the whole cache has room for; 0 while there is none.")]
    max_running_requests: Annotated[Count, says("How many requests run at most.")]
    devices: Annotated[list[str], says("What it computes on.")]


class EventSource(msgspec.Struct, kw_only=True):
    """Where the events about the blocks of an engine's cache are read."""

    endpoint: Annotated[str, says("The publisher's address; for `*` stands this server's host.")]
    replay_endpoint: Annotated[str | None, says("The address that is asked for what was missed.")]
    topic: Annotated[str, says("The first frame of each message.")]
    buffer_steps: Annotated[Count, says("How many batches are kept to be sent once more.")]
    hwm: Annotated[Count, says("How many batches wait for a subscriber that does not read.")]
    publisher: Annotated[str, says("`zmq`.")]
    encoding: Annotated[str, says("`msgpack`.")]
    schema_version: Annotated[Count, says("Of the events: 1.")]
    enable_kv_cache_events: Annotated[bool, says("That there are some.")]


class ModelInfo(msgspec.Struct, kw_only=True):
    """What can be asked of the model, as SGLang tells it."""

    model_path: Annotated[str, says("The model, as the server was told of it.")]
    served_model_name: Annotated[str, says("The first name that requests may use.")]
    is_generation: Annotated[bool, says("Whether it writes text.")]
    model_type: Annotated[str, says("The model's architecture.")]
    has_image_understanding: Annotated[bool, says("Whether it sees pictures.")]
    has_audio_understanding: Annotated[bool, says("Whether it hears.")]
    max_context_length: Annotated[Count, says("How many tokens prompt and answer may have together.")]
    vocab_size: Annotated[Count, says("How many tokens there are.")]
    tool_call_parser: Annotated[str | None, says("How it writes calls of tools.")]
    reasoning_parser: Annotated[str | None, says("How it writes what it thinks.")]
    is_reranker: Annotated[bool, says("Whether it judges documents.")]

"""Every setting, frozen, in one group a room; built once by ``yeoul.config.build`` and handed to each process as its part.

Knows only msgspec, so that every room may know it. What is discovered while running (the number of cache blocks, a
device's memory) is reported by the child that found it and is no setting. Field names are the flags' names, a ``Meta``
holds a flag's help text and range, and the ``Meta`` in ``Settings`` holds the title of its group: the command line is
built from them and says nothing of its own.
"""

# size: every setting, in one place and in the order of the help
from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Device = Literal["auto", "cpu", "cuda"]
Dtype = Literal["auto", "float32", "bfloat16", "float16"]
CacheDtype = Literal["auto", "float32", "bfloat16", "float16"]
Quantization = Literal["int8"]
Policy = Literal["fcfs", "priority"]
ExecutorBackend = Literal["mp", "ray", "loopback"]
LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["text", "json"]

Count = Annotated[int, Meta(ge=1)]
CountOrZero = Annotated[int, Meta(ge=0)]
Seconds = Annotated[float, Meta(gt=0)]
SecondsOrZero = Annotated[float, Meta(ge=0)]


class ModelSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Which model, and as what it runs.

    ``model`` is None (the default model), a path to a GGUF file or a Hugging Face folder, a hub id such as
    ``org/name`` (``org/name:Q4_K_M`` or ``org/name:file.gguf`` picks a GGUF model), or ``fake`` (a model that computes
    nothing; measures the rest).
    """

    model: Annotated[
        str | None,
        Meta(description="A GGUF file, a Hugging Face folder, a hub id (org/name or org/name:Q4_K_M), or 'fake'."),
    ] = None
    revision: Annotated[str | None, Meta(description="Branch, tag or commit of a model on the hub.")] = None
    tokenizer: Annotated[str | None, Meta(description="A tokenizer.json or its folder, instead of the model's own.")] = None
    chat_template: Annotated[
        str | None, Meta(description="A file with a chat template, or the template itself, instead of the model's own.")
    ] = None
    tool_call_parser: Annotated[
        str, Meta(description="How the model writes tool calls, such as hermes. Default: found from its template and tokens.")
    ] = "auto"
    reasoning_parser: Annotated[
        str, Meta(description="How the model marks its reasoning, such as qwen3. Default: found in the same way.")
    ] = "auto"
    rerank_template: Annotated[
        str | None,
        Meta(description="A text, or a file of it, with {query} and {document}, or Jinja: what a reranker reads."),
    ] = None
    rerank_words: Annotated[
        str | None, Meta(description="Its answers for a document that fits, and for one that does not, such as yes,no.")
    ] = None
    chat_template_timeout_seconds: Annotated[
        Seconds, Meta(description="Longest that the chat template may take to render a conversation.")
    ] = 10.0
    max_model_len: Annotated[
        Count | None, Meta(description="Longest prompt plus answer, in tokens. Default: what the model was trained for.")
    ] = None
    dtype: Annotated[Dtype, Meta(description="Type of the weights and of the computation.")] = "auto"
    quantization: Annotated[
        Quantization | None,
        Meta(description="Quantise the weights of a bfloat16, float16 or float32 model on the way in (on a CPU)."),
    ] = None
    device: Annotated[Device, Meta(description="Where the model runs.")] = "auto"
    seed: Annotated[int, Meta(description="Base of the random seeds of requests that bring none.")] = 0
    download_dir: Annotated[
        str | None, Meta(description="Folder for downloaded models. Default: yeoul in the user's cache folder.")
    ] = None
    packed_weights_cache: Annotated[
        bool, Meta(description="Keep the weights in that folder as this CPU's kernels read them, so that a start maps them.")
    ] = True


class CacheSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The KV cache. ``kv_cache_memory_bytes`` None lets the worker choose; ``kv_cache_dtype`` auto is the model's."""

    block_size: Annotated[
        int, Meta(ge=1, le=1024, description="Tokens in a block of the KV cache; on a CPU a multiple of 16.")
    ] = 16
    kv_cache_dtype: Annotated[CacheDtype, Meta(description="Type of the cached keys and values.")] = "auto"
    kv_cache_memory_bytes: Annotated[
        Count | None, Meta(description="Memory for the KV cache of one worker, such as 4GiB. Default: chosen by the worker.")
    ] = None
    num_blocks_override: Annotated[
        Count | None, Meta(description="Exact number of cache blocks, instead of what the memory has room for.")
    ] = None
    enable_prefix_caching: Annotated[
        bool, Meta(description="Reuse the cached blocks of prompts that begin in the same way.")
    ] = True
    kv_disk_bytes: Annotated[
        Count | None,
        Meta(description="Most disk space for cache blocks that outlive the server, such as 10GiB. Default: none is used."),
    ] = None
    kv_memory_bytes: Annotated[
        Count | None,
        Meta(description="Most memory for cache blocks that outlive workers, where none lie on the disk."),
    ] = None
    prefix_lease_share: Annotated[
        float,
        Meta(
            ge=0,
            le=1,
            description="Most of the KV cache, as a share, that leases (cache_control, prompt_cache_key) keep; 0: none.",
        ),
    ] = 0.25
    kv_events_config: Annotated[
        str | None,
        Meta(
            description="Tell routers over ZeroMQ which prefixes are cached: a JSON object, as vLLM spells it. Default: no."
        ),
    ] = None

    @property
    def has_tier(self) -> bool:
        """Whether there is anything below the cache."""
        return self.enable_prefix_caching and (self.kv_disk_bytes is not None or self.kv_memory_bytes is not None)


class SchedulerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The budgets of a step and of the waiting queue."""

    max_num_seqs: Annotated[int, Meta(ge=1, le=1 << 16, description="Most requests in one step.")] = 256
    max_num_batched_tokens: Annotated[
        int, Meta(ge=1, le=1 << 20, description="Most tokens in one step; a longer prompt is computed in chunks.")
    ] = 2048
    max_num_waiting_requests: Annotated[
        Count, Meta(description="Most requests that may wait for their first token; further ones are answered with 429.")
    ] = 1024
    max_num_waiting_tokens: Annotated[
        Count, Meta(description="Most prompt tokens of these together; further ones are answered with 429.")
    ] = 1 << 20
    scheduling_policy: Annotated[Policy, Meta(description="Who runs first: first come first served, or by priority.")] = (
        "fcfs"
    )
    long_prefill_token_threshold: Annotated[
        CountOrZero, Meta(description="Most prompt tokens of one request in a step; 0 means no limit of its own.")
    ] = 0
    max_decode_pause_milliseconds: Annotated[
        float,
        Meta(ge=0, description="How long a step with decodes may take, by cutting prompts beside them; 0 means no limit."),
    ] = 75.0
    async_scheduling: Annotated[
        bool, Meta(description="Hand the workers the next step while one runs, before its tokens are known.")
    ] = False
    check_invariants: Annotated[
        bool, Meta(description="Check the books of scheduler and cache after every step (slow; for debugging).")
    ] = False


class ParallelSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How many engines there are, how many workers of each share the model, and where they compute (``thread_plan``)."""

    data_parallel_size: Annotated[
        int, Meta(ge=1, le=64, description="Number of engines behind one address, each with workers of its own.")
    ] = 1
    num_prefill_engines: Annotated[
        CountOrZero,
        Meta(description="Of these, so many compute long prompts and hand their requests to the others (docs/scaling.md)."),
    ] = 0
    tensor_parallel_size: Annotated[
        int, Meta(ge=1, le=256, description="Number of worker processes that share each layer.")
    ] = 1
    pipeline_parallel_size: Annotated[
        int, Meta(ge=1, le=256, description="Number of stages that the layers are cut into, each with workers of its own.")
    ] = 1
    distributed_executor_backend: Annotated[ExecutorBackend, Meta(description="Where workers run (docs/scaling.md).")] = "mp"
    num_compute_threads: Annotated[
        Count | None, Meta(description="Compute threads of one worker. Default: one a physical core of its share.")
    ] = None
    disable_custom_all_reduce: Annotated[
        bool, Meta(description="Let workers on CPUs exchange numbers through torch.distributed, not through shared memory.")
    ] = False
    cpu_omp_threads_bind: Annotated[
        str, Meta(description="CPUs that workers compute on: auto, nobind, or a group a worker, such as 0-3|4-7.")
    ] = "auto"
    cpu_num_of_reserved_cpu: Annotated[
        CountOrZero | None,
        Meta(description="Cores that each worker leaves to other processes. Default: 1 of 8 or more, else none."),
    ] = None

    @property
    def num_workers(self) -> int:
        """Of one engine: in each stage as many as share its layers. They are numbered stage by stage."""
        return self.pipeline_parallel_size * self.tensor_parallel_size


class TransportSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The links. ``engine_address`` (tcp://host:port) joins a web process and an engine that run apart.

    The outputs' socket takes the port after ``engine_address``'s. ``engine_key_file`` holds the CURVE keys that both
    sides need; a tcp link without it is refused.
    """

    engine_address: Annotated[
        str | None,
        Meta(description="tcp://host:port that joins a web process and an engine that run apart; takes the next port too."),
    ] = None
    engine_key_file: Annotated[
        str | None, Meta(description="File with the keys of that link; made at first use, and needed on both sides.")
    ] = None
    ring_num_slots: Annotated[
        int, Meta(ge=2, le=1024, description="Slots of the shared-memory ring between engine and worker.")
    ] = 8
    ring_slot_bytes: Annotated[
        int, Meta(ge=1024, le=64 << 20, description="Bytes of one slot; a larger message takes a socket.")
    ] = 1 << 20


class TimeSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Every wait has an end."""

    engine_ready_timeout_seconds: Annotated[Seconds, Meta(description="Longest start of the engine.")] = 600.0
    worker_ready_timeout_seconds: Annotated[Seconds, Meta(description="Longest start of a worker.")] = 600.0
    step_timeout_seconds: Annotated[Seconds, Meta(description="Longest step; a worker that takes longer hangs.")] = 300.0
    min_step_timeout_seconds: Annotated[
        Seconds,
        Meta(description="A step may take this, and 20 times what earlier ones let expect, before a worker hangs."),
    ] = 5.0
    engine_answer_timeout_seconds: Annotated[
        Seconds, Meta(description="How long EngineCore may be silent, with requests in it, and then leave a ping unanswered.")
    ] = 5.0
    call_timeout_seconds: Annotated[Seconds, Meta(description="Longest answer to a call to the engine or a worker.")] = 60.0
    drain_delay_seconds: Annotated[
        SecondsOrZero,
        Meta(description="How long requests are still taken after the signal to stop, with /ready at 503: a proxy's notice."),
    ] = 0.0
    drain_timeout_seconds: Annotated[
        SecondsOrZero, Meta(description="How long running requests may go on after the signal to stop.")
    ] = 30.0
    stop_timeout_seconds: Annotated[Seconds, Meta(description="How long a child may take to end before it is killed.")] = 5.0
    request_deadline_seconds: Annotated[
        Seconds | None,
        Meta(description="Longest that a request may take, waiting included; it may ask for less (deadline_seconds)."),
    ] = None
    keep_alive_seconds: Annotated[Seconds, Meta(description="Time between keep-alives on a stream that waits.")] = 10.0
    queue_notice_seconds: Annotated[
        SecondsOrZero, Meta(description="Time after which, and between which, who waits is told its place; 0: never.")
    ] = 1.0
    request_timeout_seconds: Annotated[
        Seconds, Meta(description="How long a client may take to send a request, and a connection may stay idle.")
    ] = 75.0
    reader_timeout_seconds: Annotated[
        Seconds, Meta(description="How long a client may take nothing of its answer before its connection is cut.")
    ] = 300.0


class RecoverySettings(msgspec.Struct, frozen=True, kw_only=True):
    """What is done about processes that die."""

    max_restarts: Annotated[
        CountOrZero, Meta(description="How often dead processes are replaced in a row without a token made; then it ends.")
    ] = 5
    recovery_reports: Annotated[
        bool, Meta(description="Write down what was computed when a process died: sizes and parameters, for yeoul replay.")
    ] = True
    recovery_report_contents: Annotated[
        bool, Meta(description="Let these reports hold the token ids of what users sent and got, too.")
    ] = False
    recovery_report_dir: Annotated[
        str | None, Meta(description="Folder for these reports. Default: yeoul/recovery in the user's cache folder.")
    ] = None


class StoreSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What outlives a request."""

    data_dir: Annotated[
        str | None,
        Meta(description="Folder for what outlives a request, one server each. Default: in memory, gone with the server."),
    ] = None
    max_data_bytes: Annotated[int, Meta(ge=1 << 20, description="Most bytes to keep of it all; the oldest make room.")] = (
        1 << 30
    )
    max_file_bytes: Annotated[int, Meta(ge=1024, description="Largest file that may be uploaded.")] = 200 << 20
    max_data_days: Annotated[Seconds, Meta(description="Days after which what was kept is deleted.")] = 30.0

    @property
    def max_bytes_of_files(self) -> int:
        """Half of all."""
        return self.max_data_bytes // 2

    @property
    def max_bytes_of_history(self) -> int:
        """What requests that have ended may take: a sixteenth."""
        return self.max_data_bytes // 16

    @property
    def max_bytes_of_responses(self) -> int:
        """What responses and conversations may take: the rest."""
        return self.max_data_bytes - self.max_bytes_of_files - self.max_bytes_of_history


class FleetSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Which of several models are in memory: each is loaded at its first request, and the others make room."""

    models_max: Annotated[
        CountOrZero, Meta(description="Most models in memory at a time, where several are served; 0: as many as there are.")
    ] = 4
    models_memory_bytes: Annotated[
        Count | None,
        Meta(
            description="Memory for their weights and KV caches together. Default: what is free at the start, less a fifth."
        ),
    ] = None
    models_autoload: Annotated[
        bool, Meta(description="Load a model at the first request for it; else POST /models/load does.")
    ] = True
    model_ttl_seconds: Annotated[
        Seconds | None, Meta(description="Time without a request after which a model's engine is ended. Default: never.")
    ] = None
    model_turn_seconds: Annotated[
        Seconds,
        Meta(description="How long a busy model keeps its place when another waits for it; its new requests wait then."),
    ] = 5.0
    models_file: Annotated[
        str | None, Meta(description="A TOML file with a table a model: its name in the API, and its own settings.")
    ] = None
    models_dir: Annotated[
        str | None, Meta(description="A folder whose models are served as well: GGUF files, and folders that hold a model.")
    ] = None
    models_cached: Annotated[bool, Meta(description="Serve all models as well that were fetched (yeoul list).")] = False


class FakeSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What the ``fake`` model pretends: the time that a step and each of its tokens take, and a vocabulary of bytes.

    With ``fake_poison`` some tokens of a prompt do to a worker what bugs do, see ``fake_model.Poison``.
    """

    fake_step_seconds: Annotated[SecondsOrZero, Meta(description="Time that a step of the model 'fake' takes.")] = 0.0
    fake_token_seconds: Annotated[
        SecondsOrZero, Meta(description="Time that each token of a step of the model 'fake' takes on top.")
    ] = 0.0
    fake_poison: Annotated[
        bool, Meta(description="Let the tokens 508 to 511 hang or crash a worker of the model 'fake' (for tests).")
    ] = False


class ServerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The HTTP side."""

    host: Annotated[str, Meta(description="Address to listen on; 0.0.0.0 is every one.")] = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535, description="Port to listen on; 0 takes a free one.")] = 8000
    api_server_count: Annotated[
        int, Meta(ge=1, le=64, description="Number of web processes behind one address, before the same engines.")
    ] = 1
    served_model_name: Annotated[
        list[str], Meta(description="Name of the model in the API; may be repeated. Default: the model's own name.")
    ] = []
    api_key: Annotated[list[str], Meta(description="Key that clients must send as a Bearer token; may be repeated.")] = []
    api_key_file: Annotated[str | None, Meta(description="File with such keys, one a line; ps does not show them.")] = None
    allowed_origins: Annotated[
        list[str],
        Meta(description="Web pages that may use the API from a browser, such as https://chat.example.com; * is every one."),
    ] = []
    allowed_hosts: Annotated[
        list[str],
        Meta(description="Names that requests may ask for. Default: any; on loopback without a key, those of loopback."),
    ] = []
    ssl_keyfile: Annotated[
        str | None, Meta(description="Private key of the certificate (PEM, no password). Default: it is in --ssl-certfile.")
    ] = None
    ssl_certfile: Annotated[
        str | None, Meta(description="The server's certificate and those above it (PEM); the server then speaks HTTPS only.")
    ] = None
    ssl_ca_certs: Annotated[
        str | None, Meta(description="Authorities that clients' certificates are checked against (PEM).")
    ] = None
    ssl_cert_reqs: Annotated[
        int, Meta(ge=0, le=2, description="Clients' certificates: 0 asks for none, 1 checks one if given, 2 requires one.")
    ] = 0
    max_num_connections: Annotated[
        Count, Meta(description="Most open connections; requests on further ones are answered with 503.")
    ] = 4096
    max_body_bytes: Annotated[
        int,
        Meta(ge=1024, description="Largest body of a request; each MiB of one can hold the others up for 5 milliseconds."),
    ] = 4 << 20
    strict_requests: Annotated[
        bool, Meta(description="Refuse fields of a request that are not known, instead of passing them over.")
    ] = False
    allow_forced_tokens: Annotated[
        bool, Meta(description="Let requests bring the tokens of their answers (forced_token_ids): for replays and tests.")
    ] = False
    allow_kill: Annotated[
        bool, Meta(description="Let POST /debug/kill, and yeoul top, kill EngineCore or a worker, to see it replaced.")
    ] = False
    max_total_body_bytes: Annotated[
        int, Meta(ge=1024, description="Most bytes of all bodies that are being received or read; further ones get a 503.")
    ] = 1 << 30
    log_level: Annotated[LogLevel, Meta(description="What the log shows.")] = "info"
    log_format: Annotated[LogFormat, Meta(description="A line an event for people (text), or an object (json).")] = "text"
    request_log: Annotated[
        bool, Meta(description="Keep what became of requests, for /debug/requests; neither prompts nor answers.")
    ] = True
    show_prompts: Annotated[
        bool,
        Meta(description="Show there what users sent, too; it is kept in memory, for as long as 16 MiB have room for it."),
    ] = False
    otlp_traces_endpoint: Annotated[
        str | None,
        Meta(description="Where spans of requests are sent (OTLP, HTTP; yeoul[otel]). Default: OTEL_EXPORTER_OTLP_ENDPOINT."),
    ] = None
    log_requests: Annotated[bool, Meta(description="Log every HTTP request at its end.")] = False
    page: Annotated[bool, Meta(description="Show browsers a page at /: the processes, requests, plots, a playground.")] = True
    headless: Annotated[bool, Meta(description="Run the engine without HTTP; web processes join it at --engine-address.")] = (
        False
    )


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """All of them. The web process holds this; EngineCore is handed ``EngineSettings``, a worker ``WorkerSettings``."""

    model: Annotated[ModelSettings, Meta(title="Model")] = ModelSettings()
    cache: Annotated[CacheSettings, Meta(title="KV cache")] = CacheSettings()
    scheduler: Annotated[SchedulerSettings, Meta(title="Scheduler")] = SchedulerSettings()
    parallel: Annotated[ParallelSettings, Meta(title="Parallelism")] = ParallelSettings()
    transport: Annotated[TransportSettings, Meta(title="Links between processes")] = TransportSettings()
    time: Annotated[TimeSettings, Meta(title="Time limits")] = TimeSettings()
    recovery: Annotated[RecoverySettings, Meta(title="Recovery")] = RecoverySettings()
    store: Annotated[StoreSettings, Meta(title="What is kept")] = StoreSettings()
    fleet: Annotated[FleetSettings, Meta(title="Several models")] = FleetSettings()
    fake: Annotated[FakeSettings, Meta(title="Fake model")] = FakeSettings()
    server: Annotated[ServerSettings, Meta(title="Server")] = ServerSettings()

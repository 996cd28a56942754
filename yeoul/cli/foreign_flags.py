"""What to write here instead of the flags of vLLM, SGLang, llama.cpp and Ollama, which people's fingers know.

Knows nothing of how a command line is read; ``main`` asks it when one could not be. A flag that exists here under the
same name is not in this table.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def _here(text: str) -> str:
    return f"here {text}"


def _needless(reason: str) -> str:
    return f"not needed here, leave it out: {reason}"


def _not_built(what: str) -> str:
    return f"not built yet, leave it out: {what}"


_CACHE = _here("--kv-cache-memory-bytes SIZE sets the memory of the KV cache; the default fits the machine")
_COMPILED = _needless("nothing is compiled at the start")
_LAYERS = _needless("a model is on one device as a whole; --device cpu|cuda chooses which")
_KERNELS = _needless("the kernels are chosen by what the processor can do")
_CHUNKED = _here("prompts are always computed in chunks, of --max-num-batched-tokens INTEGER at most")
_SAMPLING = _here("each request says so itself, and the defaults are the model's own")
_MEMORY = _needless("weights are mapped from a file, and servers share its pages")
_TOOLS = _not_built("tool calling")
_REASONING = _not_built("reasoning as a field of its own")
_GRAMMAR = _not_built("structured output")
_SPECULATION = _not_built("speculative decoding")
_LORA = _not_built("adapters")
_MEDIA = _not_built("images and sound")
_DATA_PARALLEL = _not_built("several engines behind one address")
_PIPELINE = _not_built("pipeline parallelism")
_HOSTS = _not_built("one model on several hosts")
_OFFLOAD = _not_built("weights or caches apart from the device that computes")
_TRANSFER = _not_built("caches that move between servers")
_LOGS = _here("--log-level debug|info|warning|error and --log-requests say what is logged")
_STATISTICS = _needless("statistics are always at /metrics")
_ONE_PROCESS = _needless("the web server is always a process of its own")
_ROPE = _not_built("another rotation than the one in the model's files")
_BATCH = _here("--max-num-batched-tokens INTEGER")

_ADVICE: dict[str, str] = {
    # how much of what
    "--gpu-memory-utilization --mem-fraction-static --swap-space --cpu-kvcache-space -fit": _CACHE,
    "--num-gpu-blocks-override --max-total-tokens": _here("--num-blocks-override INTEGER, in blocks of --block-size tokens"),
    "--page-size": _here("--block-size INTEGER"),
    "-c --ctx-size --context-length --ctx-len": _here("--max-model-len INTEGER, of each request, not of all together"),
    "-np --parallel --max-running-requests": _here("--max-num-seqs INTEGER"),
    "--max-queued-requests": _here("--max-num-waiting-requests INTEGER"),
    "-b --batch-size -ub --ubatch-size --chunked-prefill-size --max-prefill-tokens": _BATCH,
    "--enable-chunked-prefill --enable-mixed-chunk --max-num-partial-prefills --max-long-partial-prefills": _CHUNKED,
    "-cb --cont-batching -nocb --no-cont-batching": _needless("requests are always batched as they come"),
    "--schedule-policy": _here("--scheduling-policy fcfs|priority"),
    "--schedule-conservativeness --num-scheduler-steps --stream-interval --num-lookahead-slots": _needless(
        "the scheduler learns how long steps and answers are"
    ),
    "--disable-overlap-schedule": _here("--no-async-scheduling, which is the default"),
    "--disable-radix-cache --no-cache-prompt": _here("--no-enable-prefix-caching"),
    "--cache-prompt --cache-reuse --prefix-caching-hash-algo -sps --slot-prompt-similarity --kv-unified": _needless(
        "prompts that begin alike share their blocks"
    ),
    "--keep --context-shift --no-context-shift --swa-full": _needless("nothing that was said is dropped from a context"),
    # which model, from where
    "-m --model-path": _here("the model is the first argument: yeoul serve MODEL"),
    "-hf -hfr --hf-repo -hff --hf-file": _here("yeoul serve org/name, or org/name:Q4_K_M for one GGUF file of several"),
    "-mu --model-url": _here(
        "yeoul pull org/name fetches from the hub; for another address download the file and give its path"
    ),
    "-hft --hf-token": _here("the environment variable HF_TOKEN"),
    "-a --alias": _here("--served-model-name NAME"),
    "--tokenizer-path": _here("--tokenizer PATH"),
    "--chat-template-file": _here("--chat-template FILE"),
    "--jinja --chat-template-content-format --tokenizer-mode": _needless(
        "the model's own template and tokenizer are used as they are"
    ),
    "--completion-template --response-role --skip-chat-parsing": _needless("the model's own template decides"),
    "--trust-remote-code --code-revision --model-impl": _needless("no code from a model's repository is ever run"),
    "--load-format --config-format --hf-config-path --tokenizer-revision --model-loader-extra-config": _needless(
        "the kind of a model is found in its files"
    ),
    "--hf-overrides --override-kv --json-model-override-args": _not_built("other values than those in the model's files"),
    "--generation-config --override-generation-config --preferred-sampling-params --max-logprobs": _SAMPLING,
    "-n --predict --n-predict --temp --temperature --top-k --top-p --min-p --repeat-penalty": _SAMPLING,
    "-s --random-seed": _here("--seed INTEGER"),
    "--offline": _here(
        "the environment variable HF_HUB_OFFLINE=1; a model that is here already is served without the network"
    ),
    "--models-dir --models-max --models-preset --sleep-idle-seconds --keepalive --keep-alive": _not_built(
        "several models on one port"
    ),
    "--runner --task --convert --is-embedding --embedding --embeddings --pooling": _needless(
        "/v1/embeddings is always there"
    ),
    "--rerank --reranking": _not_built("reranking"),
    "--enable-prompt-embeds --skip-tokenizer-init": _not_built("requests without text or tokens"),
    # how it computes
    "-tp --tp --tp-size": _here("--tensor-parallel-size INTEGER"),
    "-pp --pp --pp-size --pipeline-parallel-size": _PIPELINE,
    "-dp --dp --dp-size --data-parallel-size -dpr --data-parallel-rank --data-parallel-address --enable-dp-attention": (
        _DATA_PARALLEL
    ),
    "-asc --api-server-count --data-parallel-size-local --data-parallel-backend --data-parallel-hybrid-lb": _DATA_PARALLEL,
    "--enable-expert-parallel --ep --ep-size --enable-eplb --moe-runner-backend -cmoe --cpu-moe": _not_built(
        "mixtures of experts"
    ),
    "--distributed-executor-backend --nnodes --node-rank --dist-init-addr --master-addr --master-port --rpc": _HOSTS,
    "-t --threads -tb --threads-batch": _here("--num-compute-threads INTEGER; the default is a thread a core"),
    "-C --cpu-mask -Cr --cpu-range --numa --cpu-strict": _here("--cpu-omp-threads-bind 0-3"),
    "--prio --poll --threads-http": _needless("nothing spins, and HTTP has one event loop"),
    "-ngl --gpu-layers --n-gpu-layers -sm --split-mode -ts --tensor-split -mg --main-gpu -ot --override-tensor": _LAYERS,
    "-dev --base-gpu-id --list-devices": _here("--device cpu|cuda"),
    "-nkvo --no-kv-offload --kv-offload --cpu-offload-gb --kv-offloading-size --enable-hierarchical-cache": _OFFLOAD,
    "--kv-transfer-config --disaggregation-mode --kv-events-config": _TRANSFER,
    "-ctk --cache-type-k -ctv --cache-type-v": _here("--kv-cache-dtype auto|bfloat16|float16|float32, for both"),
    "--calculate-kv-scales --torchao-config --modelopt-quant": _not_built("these quantisations"),
    "--enforce-eager --disable-cuda-graph --cuda-graph-max-bs --cuda-graph-bs --max-seq-len-to-capture": _COMPILED,
    "--compilation-config -O -cc --enable-torch-compile --cudagraph-capture-sizes --optimization-level": _COMPILED,
    "-fa --flash-attn --attention-backend --sampling-backend --disable-cascade-attn --prefill-attention-backend": _KERNELS,
    "--enable-deterministic-inference": _needless("the same request always gives the same answer"),
    "--mlock --mmap --no-mmap --check-tensors --repack --no-repack --weight-loader-disable-mmap": _MEMORY,
    "--warmup --no-warmup --skip-server-warmup --warmups": _needless("a start takes a second or two"),
    "--rope-scaling --rope-scale --rope-theta --rope-freq-base --rope-freq-scale --yarn-orig-ctx --yarn-ext-factor": _ROPE,
    # what it can do
    "--enable-auto-tool-choice --tool-call-parser --tool-parser-plugin --tool-server": _TOOLS,
    "--reasoning-parser --reasoning-format --reasoning-budget --enable-reasoning --think --hidethinking": _REASONING,
    "--guided-decoding-backend --structured-outputs-config --grammar-backend --grammar --json-schema -j --format": _GRAMMAR,
    "--speculative-config --speculative-model --num-speculative-tokens --speculative-algorithm --spec-type": _SPECULATION,
    "-md --model-draft --draft-max --draft-min --draft-p-min --speculative-draft-model-path": _SPECULATION,
    "--enable-lora --lora-modules --lora-paths --lora --lora-scaled --max-loras --max-lora-rank --max-cpu-loras": _LORA,
    "--control-vector --control-vector-scaled": _not_built("control vectors"),
    "--mmproj --mmproj-url --no-mmproj --limit-mm-per-prompt --mm-processor-kwargs --allowed-local-media-path": _MEDIA,
    "--enable-sleep-mode": _not_built("putting a model to sleep"),
    "--logits-processors --logits-processor-pattern --enable-custom-logit-processor": _not_built(
        "logits processors of one's own"
    ),
    # how it is reached
    "--ssl-key-file": _here("--ssl-keyfile FILE"),
    "--ssl-cert-file": _here("--ssl-certfile FILE"),
    "--enable-ssl-refresh": _needless("a renewed certificate is taken by itself"),
    "--ssl-ciphers --ssl-keyfile-password": _needless("OpenSSL's defaults are used; keys have no password"),
    "--root-path --api-prefix --fastapi-root-path": _not_built("a path before the API's; let the proxy cut it off"),
    "--uds": _not_built("a Unix socket; listen on 127.0.0.1"),
    "--middleware --allow-credentials --allowed-methods --allowed-headers": _needless(
        "--allowed-origins ORIGIN is all that browsers need"
    ),
    "--path --no-webui --webui --no-ui --ui": _needless("there is no page to turn off yet"),
    "-to --timeout --watchdog-timeout --dist-timeout": _here("--request-timeout-seconds and --step-timeout-seconds"),
    "--disable-frontend-multiprocessing --disable-async-output-proc --tokenizer-worker-num": _ONE_PROCESS,
    "--return-tokens-as-token-ids --enable-force-include-usage --enable-prompt-tokens-details --enable-cache-report": _here(
        "a request asks for it (return_tokens_as_token_ids, stream_options)"
    ),
    "--enable-request-id-headers --enable-server-load-tracking --enable-tokenizer-info-endpoint": _not_built(
        "this header or route"
    ),
    # how it is watched
    "--metrics --enable-metrics --disable-log-stats --slots --no-slots --props --enable-log-stats": _STATISTICS,
    "--slot-save-path": _not_built("caches that outlive the server"),
    "--disable-log-requests --enable-log-requests --max-log-len --uvicorn-log-level --log-level-http -v --verbose": _LOGS,
    "--disable-uvicorn-access-log --log-config-file --log-file --log-disable --log-config --show-time-cost": _LOGS,
    "--otlp-traces-endpoint --collect-detailed-traces --enable-trace --show-hidden-metrics-for-version": _not_built("traces"),
    "--disable-fastapi-docs --enable-offline-docs": _needless("/openapi.json describes the API; there are no pages of it"),
}

FOREIGN_FLAGS: dict[str, str] = {flag: advice for flags, advice in _ADVICE.items() for flag in flags.split()}
"""What to do about each flag, by the flag with hyphens."""

FOREIGN_COMMANDS = {
    "ps": "one server serves one model; `yeoul list` shows the models that are here",
    "ls": "it is yeoul list",
    "show": "yeoul pull MODEL says what a model is and where it lies",
    "stop": "Ctrl-C, or SIGTERM to the process yeoul::Web, ends a server",
    "create": "there are no Modelfiles; --chat-template and the requests say what one would",
    "cp": "--served-model-name gives a model another name",
    "push": "models are published on their hub",
    "top": "/metrics tells what runs",
    "run-batch": "batches are not built yet",
    "complete": "yeoul chat talks to a model",
    "collect-env": "the first lines of the log say what runs where",
    "launch-server": "it is yeoul serve",
}
"""What to do about commands of other servers."""


def foreign_in(arguments: Sequence[str], known: Iterable[str]) -> dict[str, str]:
    """The flags of other servers in a command line, as they were typed, and what to do about each."""
    ours = set(known)
    found: dict[str, str] = {}
    for argument in arguments:
        flag = argument.partition("=")[0]
        name = flag.replace("_", "-")
        if name not in ours and (advice := FOREIGN_FLAGS.get(name)) is not None:
            found[flag] = advice
    return found

"""What to write here instead of the flags of vLLM, SGLang, llama.cpp and Ollama, which people's fingers know.

Knows nothing of how a command line is read; ``main`` asks it when one could not be. A flag that exists here under the
same name is not in this table.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

# Advice: the flags of others that it is for.
_HERE = {
    "--kv-cache-memory-bytes SIZE sets the memory of the KV cache; the default fits the machine": """
        --gpu-memory-utilization --mem-fraction-static --swap-space --cpu-kvcache-space -fit""",
    "--num-blocks-override INTEGER, in blocks of --block-size tokens": "--num-gpu-blocks-override --max-total-tokens",
    "--block-size INTEGER": "--page-size",
    "--max-model-len INTEGER, of each request, not of all together": "-c --ctx-size --context-length --ctx-len",
    "--max-num-seqs INTEGER": "-np --parallel --max-running-requests",
    "--max-num-waiting-requests INTEGER": "--max-queued-requests",
    "--max-num-batched-tokens INTEGER": "-b --batch-size -ub --ubatch-size --chunked-prefill-size --max-prefill-tokens",
    "prompts are always computed in chunks, of --max-num-batched-tokens INTEGER at most": """--enable-chunked-prefill
        --enable-mixed-chunk --max-num-partial-prefills --max-long-partial-prefills""",
    "--scheduling-policy fcfs|priority": "--schedule-policy",
    "--no-async-scheduling, which is the default": "--disable-overlap-schedule",
    "--no-enable-prefix-caching": "--disable-radix-cache --no-cache-prompt",
    "the model is the first argument: yeoul serve MODEL": "-m --model-path",
    "yeoul serve org/name, or org/name:Q4_K_M for one GGUF file of several": "-hf -hfr --hf-repo -hff --hf-file",
    "yeoul pull org/name fetches from the hub; for another address download the file and give its path": "-mu --model-url",
    "the environment variable HF_TOKEN": "-hft --hf-token",
    "--served-model-name NAME": "-a --alias",
    "--tokenizer PATH": "--tokenizer-path",
    "--chat-template FILE": "--chat-template-file",
    "each request says so itself, and the defaults are the model's own": """--generation-config
        --override-generation-config --preferred-sampling-params --max-logprobs -n --predict --n-predict --temp
        --temperature --top-k --top-p --min-p --repeat-penalty""",
    "--seed INTEGER": "-s --random-seed",
    "--models-file FILE, with a table a model": "--models-preset",
    "--model-ttl-seconds NUMBER": "--sleep-idle-seconds --keepalive --keep-alive",
    "the environment variable HF_HUB_OFFLINE=1; a model that is here already is served without the network": "--offline",
    "--tensor-parallel-size INTEGER": "-tp --tp --tp-size",
    "--pipeline-parallel-size INTEGER": "-pp --pp --pp-size",
    "--api-server-count INTEGER": "-asc",
    "--data-parallel-size INTEGER": "-dp --dp --dp-size --data-parallel-size-local",
    "--num-compute-threads INTEGER; the default is a thread a core": "-t --threads -tb --threads-batch",
    "--cpu-omp-threads-bind 0-3": "-C --cpu-mask -Cr --cpu-range --numa --cpu-strict",
    "--device cpu|cuda": "-dev --base-gpu-id --list-devices",
    "--kv-cache-dtype auto|bfloat16|float16|float32, for both": "-ctk --cache-type-k -ctv --cache-type-v",
    "--ssl-keyfile FILE": "--ssl-key-file",
    "--ssl-certfile FILE": "--ssl-cert-file",
    "--request-timeout-seconds and --step-timeout-seconds": "-to --timeout --watchdog-timeout --dist-timeout",
    "a request asks for it (return_tokens_as_token_ids, stream_options)": """--return-tokens-as-token-ids
        --enable-force-include-usage --enable-prompt-tokens-details --enable-cache-report""",
    "--log-level debug|info|warning|error, --log-format text|json and --log-requests say what is logged": """
        --disable-log-requests --enable-log-requests --max-log-len --uvicorn-log-level --log-level-http -v --verbose
        --disable-uvicorn-access-log --log-config-file --log-file --log-disable --log-config --show-time-cost""",
}
_NEEDLESS = {
    "answers are written to the output file as they come, half a file included": "--output-tmp-dir",
    "requests are always batched as they come": "-cb --cont-batching -nocb --no-cont-batching",
    "the scheduler learns how long steps and answers are": """--schedule-conservativeness --num-scheduler-steps
        --stream-interval --num-lookahead-slots""",
    "prompts that begin alike share their blocks": """--cache-prompt --cache-reuse --prefix-caching-hash-algo -sps
        --slot-prompt-similarity --kv-unified""",
    "nothing that was said is dropped from a context": "--keep --context-shift --no-context-shift --swa-full",
    "the model's own template and tokenizer are used as they are": "--jinja --chat-template-content-format --tokenizer-mode",
    "the model's own template decides": "--completion-template --response-role --skip-chat-parsing",
    "tools are taken wherever the model's template takes them": "--enable-auto-tool-choice",
    "reasoning is found, and a field of its own": "--enable-reasoning --reasoning-format",
    "llguidance compiles all grammars": "--guided-decoding-backend --structured-outputs-config --grammar-backend",
    "no code from a model's repository is ever run": "--trust-remote-code --code-revision --model-impl",
    "the kind of a model is found in its files": """--load-format --config-format --hf-config-path --tokenizer-revision
        --model-loader-extra-config""",
    "/v1/embeddings is always there": "--runner --task --convert --is-embedding --embedding --embeddings --pooling",
    "nothing spins, and HTTP has one event loop": "--prio --poll --threads-http",
    "a model is on one device as a whole; --device cpu|cuda chooses which": """-ngl --gpu-layers --n-gpu-layers -sm
        --split-mode -ts --tensor-split -mg --main-gpu -ot --override-tensor""",
    "nothing is compiled at the start": """--enforce-eager --disable-cuda-graph --cuda-graph-max-bs --cuda-graph-bs
        --max-seq-len-to-capture --compilation-config -O -cc --enable-torch-compile --cudagraph-capture-sizes
        --optimization-level""",
    "the kernels are chosen by what the processor can do": """-fa --flash-attn --attention-backend --sampling-backend
        --disable-cascade-attn --prefill-attention-backend""",
    "the same request always gives the same answer": "--enable-deterministic-inference",
    "weights are mapped from a file, and servers share its pages": """--mlock --mmap --no-mmap --check-tensors --repack
        --no-repack --weight-loader-disable-mmap""",
    "a start takes a second or two": "--warmup --no-warmup --skip-server-warmup --warmups",
    "a renewed certificate is taken by itself": "--enable-ssl-refresh",
    "OpenSSL's defaults are used; keys have no password": "--ssl-ciphers --ssl-keyfile-password",
    "--allowed-origins ORIGIN is all that browsers need": """--middleware --allow-credentials --allowed-methods
        --allowed-headers""",
    "there is no page to turn off yet": "--path --no-webui --webui --no-ui --ui",
    "the web server is always a process of its own": """--disable-frontend-multiprocessing --disable-async-output-proc
        --tokenizer-worker-num""",
    "statistics are always at /metrics": """--metrics --enable-metrics --disable-log-stats --slots --no-slots --props
        --enable-log-stats""",
    "that a model reranks is found in its files (docs/embeddings.md)": "--rerank --reranking",
    "/openapi.json describes the API; there are no pages of it": "--disable-fastapi-docs --enable-offline-docs",
}
_NOT_BUILT = {
    "other values than those in the model's files": "--hf-overrides --override-kv --json-model-override-args",
    "requests without text or tokens": "--enable-prompt-embeds --skip-tokenizer-init",
    "engines of one server on several machines": """-dpr --data-parallel-rank --data-parallel-address
        --data-parallel-backend --data-parallel-hybrid-lb""",
    "attention apart from the rest of the model": "--enable-dp-attention",
    "mixtures of experts": "--enable-expert-parallel --ep --ep-size --enable-eplb --moe-runner-backend -cmoe --cpu-moe",
    "hosts that find each other without Ray": """--nnodes --node-rank --dist-init-addr --master-addr
        --master-port --rpc""",
    "weights or caches apart from the device that computes": """-nkvo --no-kv-offload --kv-offload --cpu-offload-gb
        --kv-offloading-size --enable-hierarchical-cache""",
    "caches that move between servers": "--kv-transfer-config --disaggregation-mode",
    "these quantisations": "--calculate-kv-scales --torchao-config --modelopt-quant",
    "another rotation than the one in the model's files": """--rope-scaling --rope-scale --rope-theta --rope-freq-base
        --rope-freq-scale --yarn-orig-ctx --yarn-ext-factor""",
    "parsers and tools of one's own": "--tool-parser-plugin --tool-server --reasoning-parser-plugin",
    "limits on reasoning": "--reasoning-budget --think --hidethinking",
    "a form for all answers; requests may ask for one": "--grammar --json-schema -j --format",
    "speculative decoding": """--speculative-config --speculative-model --num-speculative-tokens --speculative-algorithm
        --spec-type -md --model-draft --draft-max --draft-min --draft-p-min --speculative-draft-model-path""",
    "adapters": "--enable-lora --lora-modules --lora-paths --lora --lora-scaled --max-loras --max-lora-rank --max-cpu-loras",
    "control vectors": "--control-vector --control-vector-scaled",
    "images and sound": """--mmproj --mmproj-url --no-mmproj --limit-mm-per-prompt --mm-processor-kwargs
        --allowed-local-media-path""",
    "putting a model to sleep": "--enable-sleep-mode",
    "logits processors of one's own": "--logits-processors --logits-processor-pattern --enable-custom-logit-processor",
    "a path before the API's; let the proxy cut it off": "--root-path --api-prefix --fastapi-root-path",
    "a Unix socket; listen on 127.0.0.1": "--uds",
    "this header or route": "--enable-request-id-headers --enable-server-load-tracking --enable-tokenizer-info-endpoint",
    "caches that outlive the server": "--slot-save-path",
    "detailed traces": "--collect-detailed-traces --enable-trace --show-hidden-metrics-for-version",
}

FOREIGN_FLAGS: dict[str, str] = {
    flag: f"{verdict}{text}"
    for verdict, table in (
        ("here ", _HERE),
        ("not needed here, leave it out: ", _NEEDLESS),
        ("not built yet, leave it out: ", _NOT_BUILT),
    )
    for text, flags in table.items()
    for flag in flags.split()
}
"""What to do about each flag, by the flag with hyphens."""

FOREIGN_COMMANDS = {
    "ps": "/v1/models of a server says which of its models are loaded; `yeoul list` shows those that are here",
    "ls": "it is yeoul list",
    "show": "yeoul pull MODEL says what a model is and where it lies",
    "stop": "Ctrl-C, or SIGTERM to the process yeoul::Web, ends a server",
    "create": "there are no Modelfiles; --chat-template and the requests say what one would",
    "cp": "--served-model-name gives a model another name",
    "push": "models are published on their hub",
    "top": "/metrics tells what runs",
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

"""guidellm from PyPI, unchanged, on a server with the default model: no request fails, by its own count."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.python_packages import install_environment
from tests.running_server import RunningServer
from yeoul.config.settings import ModelSettings
from yeoul.model_files.resolve import resolve_model

pytestmark = [pytest.mark.agents, pytest.mark.long, pytest.mark.timeout(600)]

MODEL = "smollm2-135m-instruct"
KINDS = [("chat/completions", "true"), ("completions", "true"), ("completions", "false"), ("responses", "true")]
NUM_REQUESTS = 24
NUM_OUTPUT_TOKENS = 16
SAVE_TOKENIZER = """\
import sys, transformers
folder, name, target = sys.argv[1:]
transformers.AutoTokenizer.from_pretrained(folder, gguf_file=name).save_pretrained(target)
"""


@pytest.fixture(scope="module")
def python() -> Path:
    """Of an environment that has guidellm."""
    return install_environment(Path(__file__).parent / "load" / "requirements.txt", "load_clients", shares_packages=True)


@pytest.fixture(scope="module")
def tokenizer(python: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model's, as transformers keep one: guidellm makes its random prompts with it."""
    file, folder = Path(resolve_model(ModelSettings(model=MODEL)).path), tmp_path_factory.mktemp("tokenizer")
    subprocess.run([str(python), "-c", SAVE_TOKENIZER, str(file.parent), file.name, str(folder)], check=True, timeout=120)
    return folder


def run_guidellm(python: Path, tokenizer: Path, report: Path, backend: str) -> None:
    command = [str(python.parent / "guidellm"), "run", "--disable-console", "--backend", f"kind=openai_http,{backend}"]
    command += ["--tokenizer", f"kind=huggingface_auto,model={tokenizer}", "--profile", "kind=concurrent,streams=8"]
    command += ["--data", f"kind=synthetic_text,prompt_tokens=64,output_tokens={NUM_OUTPUT_TOKENS}"]
    command += ["--constraint", f"kind=max_requests,count={NUM_REQUESTS}", "--output", f"kind=json,path={report}"]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(report.parent)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]


def test_no_request_of_guidellm_fails(python, tokenizer, tmp_path):
    with RunningServer(model=MODEL) as server:
        for number, (route, streams) in enumerate(KINDS):
            report = tmp_path / f"{number}.json"
            backend = f"target={server.url},model={MODEL},request_format=/v1/{route},stream={streams}"
            run_guidellm(python, tokenizer, report, backend)
            (benchmark,) = json.loads(report.read_text())["benchmarks"]
            totals = benchmark["metrics"]["request_totals"]
            assert totals == {"successful": NUM_REQUESTS, "errored": 0, "incomplete": 0, "total": NUM_REQUESTS}, route
            lengths = {request["output_tokens"] for request in benchmark["requests"]["successful"]}
            assert lengths == {NUM_OUTPUT_TOKENS}, route
        assert "Traceback" not in server.log()

"""lm-eval on a server in the oracle mode and on its own ``hf`` backend, same weights: equal scores (``docs/suites.md``).

Skips where no ``lm_eval`` is in PATH: it brings a torch of its own, so it lives in an environment of its own.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.running_server import RunningServer
from yeoul.config.settings import ModelSettings
from yeoul.model_files.resolve import resolve_model

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]

MODEL = "smollm2-135m-instruct"
MAX_DIFFERENCE = 1e-4
FACTS = [
    ("The capital of France is", ["Paris", "London", "Berlin", "Madrid"], 0),
    ("The opposite of hot is", ["warm", "tall", "cold", "loud"], 2),
    ("A triangle has", ["three sides", "four sides", "five sides", "six sides"], 0),
    ("Shakespeare wrote", ["Don Quixote", "Faust", "Hamlet", "The Odyssey"], 2),
    ("An hour has", ["thirty minutes", "sixty minutes", "ten minutes", "ninety minutes"], 1),
    ("Snow is", ["green", "hot", "white", "loud"], 2),
]
CHOICE = """\
task: facts
dataset_path: json
dataset_kwargs: {data_files: {test: FILE}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{question}}"
doc_to_choice: choices
doc_to_target: answer
metric_list: [{metric: acc}, {metric: acc_norm}]
"""
WRITING = """\
task: sentences
dataset_path: json
dataset_kwargs: {data_files: {test: FILE}}
test_split: test
output_type: generate_until
doc_to_text: "{{question}}"
doc_to_target: "{{choices[answer]}}"
generation_kwargs: {until: ["\\n"], max_gen_toks: 12, do_sample: false}
metric_list: [{metric: exact_match}]
"""


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tasks")
    items = folder / "items.jsonl"
    items.write_text("".join(json.dumps({"question": q, "choices": c, "answer": a}) + "\n" for q, c, a in FACTS))
    for name, task in (("facts", CHOICE), ("sentences", WRITING)):
        (folder / f"{name}.yaml").write_text(task.replace("FILE", str(items)))
    return folder


def evaluate(tasks: Path, out: Path, *backend: str) -> dict[str, Any]:
    """The scores of all tasks, and of each task what the model answered to each request."""
    program = shutil.which("lm_eval")
    if program is None:
        pytest.skip("there is no lm_eval in PATH: it is on PyPI, as lm_eval[hf,api]")
    command = [program, "run", *backend, "--tasks", "facts,sentences", "--include_path", str(tasks)]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tasks / "home"), "OPENAI_API_KEY": "none"}
    command += ["--output_path", str(out), "--log_samples"]
    done = subprocess.run(command, cwd=tasks, env=environment, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr[-3000:]
    (results,) = out.rglob("results_*.json")
    answers = {}
    for task in ("facts", "sentences"):
        (samples,) = out.rglob(f"samples_{task}_*.jsonl")
        lines = sorted((json.loads(line) for line in samples.read_text().splitlines()), key=lambda line: line["doc_id"])
        answers[task] = [response for line in lines for response in line["resps"]]
    scores = json.loads(results.read_text())["results"]
    return {"scores": {task: {k: v for k, v in of.items() if "," in k} for task, of in scores.items()}, **answers}


def test_the_scores_are_those_of_the_hf_backend(tasks, tmp_path):
    with RunningServer("--dtype", "float32", "--kv-cache-dtype", "float32", model=MODEL) as server:
        arguments = f"base_url={server.url}/v1/completions,model={MODEL}"
        ours = evaluate(tasks, tmp_path / "ours", "--model", "local-completions", "--model_args", arguments)
    file = Path(resolve_model(ModelSettings(model=MODEL)).path)
    arguments = f"pretrained={file.parent},gguf_file={file.name},dtype=float32,add_bos_token=False"
    theirs = evaluate(tasks, tmp_path / "theirs", "--model", "hf", "--model_args", arguments, "--device", "cpu")
    assert ours["scores"] == theirs["scores"]
    assert ours["sentences"] == theirs["sentences"]
    for [[our_sum, our_greedy]], [[their_sum, their_greedy]] in zip(ours["facts"], theirs["facts"], strict=True):
        assert float(our_sum) == pytest.approx(float(their_sum), abs=MAX_DIFFERENCE)
        assert our_greedy == their_greedy
    print(ours["scores"])

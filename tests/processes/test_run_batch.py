"""``yeoul run-batch`` as its user runs it: every line answered once, as by a server, also after a kill in the middle."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.running_server import YEOUL, RunningServer, descendants, wait_gone

CHAT, COMPLETIONS, EMBEDDINGS = "/v1/chat/completions", "/v1/completions", "/v1/embeddings"
RESPONSES = "/v1/responses"


def line(custom_id: str, url: str = COMPLETIONS, **fields: Any) -> dict[str, Any]:
    body = {"model": "fake", **({"prompt": f"tell of {custom_id}", "max_tokens": 8} if url == COMPLETIONS else {}), **fields}
    return {"custom_id": custom_id, "method": "POST", "url": url, "body": body}


def write(path: Path, *lines: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(one) + "\n" for one in lines))
    return path


def command(source: Path, target: Path, *flags: str) -> list[str]:
    return [str(YEOUL), "run-batch", "-i", str(source), "-o", str(target), "--model", "fake", *flags]


def run(source: Path, target: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(source, target, *flags), capture_output=True, text=True, timeout=60)


def answers(path: Path) -> dict[str, Any]:
    lines = [json.loads(one) for one in path.read_text().splitlines()]
    assert len({one["custom_id"] for one in lines}) == len(lines), "a line is answered twice"
    return {one["custom_id"]: one for one in lines}


def said(answer: Any) -> Any:
    """What does not differ from one run to another."""
    body = {name: value for name, value in answer["response"]["body"].items() if name not in ("id", "created")}
    return answer["id"], answer["response"]["status_code"], body


def test_every_line_is_answered_as_a_server_answers_it(tmp_path):
    ask = [{"role": "user", "content": "hi"}]
    source = write(
        tmp_path / "in.jsonl",
        line("a", seed=5, temperature=0.8),
        line("b", CHAT, messages=ask, max_completion_tokens=8, seed=5),
        line("c", EMBEDDINGS, input=["one", "two"]),
        line("d", n=1000),
        line("e", stream=True),
        line("f", model="another"),
        line("g", RESPONSES, input="hi", max_output_tokens=8, seed=5, top_logprobs=1),
        line("h", RESPONSES, input="hi", store=True),
        line("i", RESPONSES, input="hi", previous_response_id="resp_1"),
        line("j", RESPONSES, input=[{"type": "item_reference", "id": "msg_1"}]),
    )
    done = run(source, tmp_path / "out.jsonl")
    assert done.returncode == 0, done.stderr
    assert "10 requests are answered" in done.stderr
    assert "6 answers are errors" in done.stderr
    got = answers(tmp_path / "out.jsonl")
    with RunningServer() as server, openai.OpenAI(base_url=f"{server.url}/v1", api_key="none") as client:
        text = client.completions.create(model="fake", prompt="tell of a", max_tokens=8, seed=5, temperature=0.8)
        chat: Any = client.chat.completions.create(model="fake", messages=ask, max_completion_tokens=8, seed=5)  # type: ignore[arg-type]
        vectors = client.embeddings.create(model="fake", input=["one", "two"], encoding_format="float")
        response: Any = client.responses.create(
            model="fake", input="hi", max_output_tokens=8, top_logprobs=1, extra_body={"seed": 5}
        ).to_dict()
    assert got["a"]["response"]["body"]["choices"][0]["text"] == text.choices[0].text
    assert got["b"]["response"]["body"]["choices"][0]["message"]["content"] == chat.choices[0].message.content
    assert got["c"]["response"]["body"]["data"] == [one.model_dump() for one in vectors.data]
    kept = got["g"]["response"]["body"]
    assert (kept["store"], kept["status"], kept["usage"]) == (False, "incomplete", response["usage"])
    assert kept["output"][0]["content"] == response["output"][0]["content"]
    errors = {
        name: (got[name]["response"]["status_code"], got[name]["response"]["body"]["error"]["param"]) for name in "defhij"
    }
    assert errors == {
        "d": (400, "n"), "e": (400, "stream"), "f": (404, "model"), "h": (400, "store"), "i": (400, "previous_response_id"),
        "j": (400, "input"),
    }  # fmt: skip


def test_a_run_that_was_killed_goes_on_where_it_stopped(tmp_path):
    source = write(tmp_path / "in.jsonl", *(line(f"{number}", temperature=1.0, max_tokens=6) for number in range(300)))
    flags = ("--fake-step-seconds", "0.01", "--max-num-seqs", "4")
    assert run(source, tmp_path / "whole.jsonl").returncode == 0
    target = tmp_path / "out.jsonl"
    for num_lines in (20, 100):
        process = subprocess.Popen(command(source, target, *flags), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while not target.exists() or target.read_bytes().count(b"\n") < num_lines:
            assert time.monotonic() < deadline, "nothing is answered"
            time.sleep(0.01)
        family = descendants(process.pid)
        process.send_signal(signal.SIGKILL)
        process.wait(10)
        assert not wait_gone(family, 10)
        target.write_bytes(target.read_bytes() + b'{"id":"half a li')
    before = target.read_bytes().rpartition(b"\n")[0] + b"\n"
    done = run(source, target)
    assert done.returncode == 0, done.stderr
    assert target.read_bytes().startswith(before), "what was answered is left as it is"
    got, whole = answers(target), answers(tmp_path / "whole.jsonl")
    assert {name: said(one) for name, one in got.items()} == {name: said(one) for name, one in whole.items()}
    assert run(source, target).stderr.count("300 before") == 1


BAD = {
    "no JSON": ("{", "line 2: the line is no JSON"),
    "no object": ("[]", "line 2: the line is JSON of the kind array"),
    "without an id": (json.dumps({"method": "POST", "url": CHAT, "body": {}}), "line 2: the field 'custom_id' is missing"),
    "the id of another": (json.dumps(line("a")), "line 2: custom_id 'a' is that of line 1 already"),
    "another url": (json.dumps(line("b", "/v1/images")), "line 2: url is '/v1/images'; expected /v1/chat/completions or"),
    "another method": (json.dumps(line("b") | {"method": "GET"}), "line 2: method is 'GET'; expected 'POST'"),
    "a body of another kind": (json.dumps(line("b") | {"body": "hi"}), "line 2: body has to be an object"),
    "very deep": ('{"custom_id": ' + "[" * 100_000, "line 2: the line is no JSON"),
    "no UTF-8": ('{"custom_id": "\udcff"}', "line 2: the line is no JSON"),
}


@pytest.mark.parametrize("bad", BAD)
def test_a_line_that_is_none_is_named_before_anything_starts(tmp_path, bad):
    content, message = BAD[bad]
    source = tmp_path / "in.jsonl"
    source.write_text(json.dumps(line("a")) + "\n" + content + "\n", errors="surrogateescape")
    done = run(source, tmp_path / "out.jsonl")
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out.jsonl").exists()


def test_the_output_of_another_input_is_left_alone(tmp_path):
    target = tmp_path / "out.jsonl"
    assert run(write(tmp_path / "one.jsonl", line("a")), target).returncode == 0
    before = target.read_bytes()
    done = run(write(tmp_path / "two.jsonl", line("b")), target)
    assert done.returncode == 2
    assert "has an answer to 'a'" in done.stderr
    target.write_text("a diary\n")
    done = run(write(tmp_path / "two.jsonl", line("b")), target)
    assert done.returncode == 2
    assert "choose another file" in done.stderr
    assert target.read_text() == "a diary\n"
    assert before

"""Batches as OpenAI's own client runs them: whole answers, once each, through kills, ends, other keys and bad files."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from openai.types import Batch

from tests.running_server import RunningServer

COMPLETIONS: Any = "/v1/completions"
CHAT: Any = "/v1/chat/completions"
SLOWLY = ("--fake-step-seconds", "0.005", "--max-num-seqs", "4")


def serve(folder: Path | None, *flags: str) -> RunningServer:
    kept = ("--data-dir", str(folder)) if folder is not None else ()
    return RunningServer("--api-key", "one", "--api-key", "two", *kept, *flags)


def client(server: RunningServer, key: str = "one") -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key=key, max_retries=0)


def line(custom_id: str, url: str = COMPLETIONS, **fields: Any) -> dict[str, Any]:
    body = {"model": "fake", "prompt": f"tell of {custom_id}", "max_tokens": 8, "temperature": 1.0, **fields}
    return {"custom_id": custom_id, "method": "POST", "url": url, "body": body}


def lines(count: int, **fields: Any) -> list[dict[str, Any]]:
    return [line(str(number), **fields) for number in range(count)]


def upload(api: openai.OpenAI, entries: list[Any]) -> str:
    written = "".join(entry if isinstance(entry, str) else json.dumps(entry) + "\n" for entry in entries)
    return api.files.create(file=("in.jsonl", written.encode(errors="surrogateescape")), purpose="batch").id


def begin(api: openai.OpenAI, entries: list[Any], window: Any = "24h", endpoint: Any = COMPLETIONS, **fields: Any) -> str:
    file_id = upload(api, entries)
    return api.batches.create(input_file_id=file_id, endpoint=endpoint, completion_window=window, **fields).id


def wait_for(api: openai.OpenAI, batch_id: str, is_so: Callable[[Batch], bool]) -> Batch:
    deadline = time.monotonic() + 60
    while not is_so(batch := api.batches.retrieve(batch_id)):
        assert time.monotonic() < deadline, batch
        time.sleep(0.02)
    return batch


def has_ended(batch: Batch) -> bool:
    return batch.status in ("completed", "failed", "expired", "cancelled")


def read(api: openai.OpenAI, file_id: str | None) -> dict[str, Any]:
    """The lines of an output by their custom ids, of which none is there twice."""
    if file_id is None:
        return {}
    found = [json.loads(one) for one in api.files.content(file_id).text.splitlines()]
    assert len({one["custom_id"] for one in found}) == len(found), "a line is answered twice"
    return {one["custom_id"]: one for one in found}


def counts(batch: Batch) -> tuple[int, int, int]:
    assert batch.request_counts is not None
    return batch.request_counts.total, batch.request_counts.completed, batch.request_counts.failed


@pytest.mark.parametrize("is_kept", [True, False])
def test_a_batch_is_answered_as_live_requests_are(tmp_path, is_kept):
    with serve(tmp_path if is_kept else None) as server, client(server) as api:
        entries = [*lines(20), line("seeded", seed=7), line("bad", n=1000), line("stranger", model="another")]
        batch = wait_for(api, begin(api, entries, metadata={"for": "fun"}), has_ended)
        assert (batch.status, counts(batch), batch.metadata) == ("completed", (23, 21, 2), {"for": "fun"})
        assert batch.created_at <= (batch.in_progress_at or 0) <= (batch.finalizing_at or 0) <= (batch.completed_at or 0)
        answers, errors = read(api, batch.output_file_id), read(api, batch.error_file_id)
        assert set(answers) == {*map(str, range(20)), "seeded"}
        assert {name: one["response"]["status_code"] for name, one in errors.items()} == {"bad": 400, "stranger": 404}
        for name in ("3", "17", "seeded"):
            body = answers[name]["response"]["body"]
            live = api.completions.create(
                model="fake", prompt=f"tell of {name}", max_tokens=8, temperature=1.0, seed=body["seed"]
            )
            assert live.choices[0].text == body["choices"][0]["text"]
        assert answers["seeded"]["response"]["body"]["seed"] == 7
        assert [one.id for one in api.batches.list()] == [batch.id]
        assert api.files.retrieve(batch.output_file_id or "").purpose == "batch_output"
        api.files.delete(batch.output_file_id or "")


def test_the_client_that_does_not_block_runs_chats_responses_and_embeddings(tmp_path):
    async def play(server: RunningServer) -> None:
        async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="one", max_retries=0) as api:
            bodies: dict[Any, dict[str, Any]] = {
                CHAT: {"messages": [{"role": "user", "content": "hi"}], "max_completion_tokens": 4},
                "/v1/responses": {"input": "hi", "max_output_tokens": 4},
                "/v1/embeddings": {"input": ["one", "two"]},
            }
            for endpoint, body in bodies.items():
                entry = {"custom_id": "a", "method": "POST", "url": endpoint, "body": body}
                file = await api.files.create(file=("in", json.dumps(entry).encode()), purpose="batch")
                batch = await api.batches.create(input_file_id=file.id, endpoint=endpoint, completion_window="24h")
                for _ in range(1000):
                    if (batch := await api.batches.retrieve(batch.id)).status == "completed":
                        break
                    await asyncio.sleep(0.02)
                answer = json.loads((await api.files.content(batch.output_file_id or "")).text)
                assert answer["response"]["body"]["object"] in ("chat.completion", "response", "list")

    with serve(tmp_path) as server:
        asyncio.run(play(server))


def test_kills_in_the_middle_lose_nothing_and_repeat_nothing(tmp_path):
    entries = lines(400)
    with serve(tmp_path / "whole") as server, client(server) as api:
        whole = wait_for(api, begin(api, entries), has_ended)
        seeds = {name: one["response"]["body"]["seed"] for name, one in read(api, whole.output_file_id).items()}
    seen: dict[str, Any] = {}
    batch_id, num_kills = "", 0
    for wanted in (10, 120, 300, 10**9):
        with serve(tmp_path / "killed", *SLOWLY) as server, client(server) as api:
            batch_id = batch_id or begin(api, entries)
            batch = wait_for(api, batch_id, lambda batch: counts(batch)[1] >= wanted or has_ended(batch))  # noqa: B023
            now = read(api, batch.output_file_id)
            assert {name: now[name] for name in seen} == seen, "what was answered stays as it was, to the last byte"
            seen = now
            if not has_ended(batch):
                os.kill(server.pid, signal.SIGKILL)
                server.process.wait(10)
                num_kills += 1
                continue
            assert (batch.status, counts(batch)) == ("completed", (400, 400, 0))
            assert set(now) == {entry["custom_id"] for entry in entries}
            got = {name: one["response"]["body"]["seed"] for name, one in now.items()}
            assert len(set(got.values())) == 400
            assert set(got.values()).isdisjoint(seeds.values()), "another batch has other seeds"
            for name in ("0", "150", "399"):
                live = api.completions.create(
                    model="fake", prompt=f"tell of {name}", max_tokens=8, temperature=1.0, seed=got[name]
                )
                assert live.choices[0].text == now[name]["response"]["body"]["choices"][0]["text"]
    assert num_kills == 3


def test_a_server_that_is_told_to_stop_does_not_wait_for_its_batches(tmp_path):
    with serve(tmp_path, "--fake-step-seconds", "0.05") as server, client(server) as api:
        batch_id = begin(api, lines(50, max_tokens=400, ignore_eos=True))
        wait_for(api, batch_id, lambda batch: batch.status == "in_progress")
        server.process.send_signal(signal.SIGTERM)
        assert server.wait_exit(5.0) == 0
    with serve(tmp_path) as server, client(server) as api:
        assert counts(wait_for(api, batch_id, has_ended)) == (50, 50, 0)


def test_one_that_is_cancelled_keeps_its_answers_and_gives_its_files_back(tmp_path):
    with serve(tmp_path, *SLOWLY) as server, client(server) as api:
        batch_id = begin(api, lines(2000))
        batch = wait_for(api, batch_id, lambda batch: counts(batch)[1] >= 10)
        with pytest.raises(openai.BadRequestError, match="cancel it"):
            api.files.delete(batch.input_file_id)
        assert api.batches.cancel(batch_id).status == "cancelling"
        batch = wait_for(api, batch_id, has_ended)
        assert batch.status == "cancelled"
        assert batch.cancelling_at
        assert batch.cancelled_at
        assert 10 <= counts(batch)[1] == len(read(api, batch.output_file_id)) < 2000
        with pytest.raises(openai.BadRequestError, match="cannot be cancelled"):
            api.batches.cancel(batch_id)
        api.files.delete(batch.input_file_id)


def test_one_that_is_not_done_in_time_says_what_is_not_answered(tmp_path):
    with serve(tmp_path, "--fake-step-seconds", "0.02", "--max-num-seqs", "1") as server, client(server) as api:
        batch_id = begin(api, lines(3000), "1m")
        wait_for(api, batch_id, lambda batch: counts(batch)[1] >= 2)
        os.kill(server.pid, signal.SIGKILL)
        server.process.wait(10)
    expire(tmp_path, batch_id)
    with serve(tmp_path) as server, client(server) as api:
        batch = wait_for(api, batch_id, has_ended)
        assert (batch.status, batch.expired_at is not None) == ("expired", True)
        total, completed, failed = counts(batch)
        assert total == completed + failed == 3000
        answers, errors = read(api, batch.output_file_id), read(api, batch.error_file_id)
        assert (len(answers), len(errors)) == (completed, failed)
        assert answers.keys().isdisjoint(errors)
        assert {one["error"]["code"] for one in errors.values()} == {"batch_expired"}


def expire(folder: Path, batch_id: str) -> None:
    """Sets back the time at which a batch of a server that is gone was to be done."""
    with sqlite3.connect(folder / "yeoul.sqlite3") as connection:
        ((state,),) = connection.execute("SELECT state FROM batches WHERE id = ?", (batch_id,)).fetchall()
        changed = json.dumps(json.loads(state) | {"expires_at": 1}).encode()
        connection.execute("UPDATE batches SET state = ? WHERE id = ?", (changed, batch_id))
    connection.close()


def test_the_batch_of_another_key_is_not_there(tmp_path):
    with serve(tmp_path) as server, client(server) as api, client(server, "two") as other:
        batch = wait_for(api, begin(api, lines(3)), has_ended)
        for method in (other.batches.retrieve, other.batches.cancel):
            with pytest.raises(openai.NotFoundError):
                method(batch.id)
        with pytest.raises(openai.NotFoundError):
            other.batches.create(input_file_id=batch.input_file_id, endpoint=COMPLETIONS, completion_window="24h")
        with pytest.raises(openai.NotFoundError):
            other.files.content(batch.output_file_id or "")
        assert list(other.batches.list()) == []


def test_pages_of_the_list_are_complete(tmp_path):
    with serve(tmp_path) as server, client(server) as api:
        file_id = upload(api, lines(1))
        made = [api.batches.create(input_file_id=file_id, endpoint=COMPLETIONS, completion_window="24h").id for _ in range(5)]
        assert [one.id for one in api.batches.list(limit=2)] == made[::-1]
        for batch_id in made:
            wait_for(api, batch_id, has_ended)
        api.files.delete(file_id)


def test_two_keys_share_the_gaps(tmp_path):
    with serve(tmp_path, *SLOWLY) as server, client(server) as api, client(server, "two") as other:
        first = begin(api, lines(1000))
        wait_for(api, first, lambda batch: counts(batch)[1] > 0)
        second = begin(other, lines(40))
        wait_for(other, second, has_ended)
        assert api.batches.retrieve(first).status == "in_progress"
        api.batches.cancel(first)


POISON: dict[str, tuple[list[Any], list[tuple[str, int | None]]]] = {
    "empty": ([], [("empty_file", None)]),
    "blank lines": (["\n", "   \n"], [("empty_file", None)]),
    "binary": ([bytes(range(256)).decode(errors="surrogateescape")], [("invalid_json_line", 1), ("invalid_json_line", 2)]),
    "no JSON": ([line("a"), "{\n"], [("invalid_json_line", 2)]),
    "deep": (['{"custom_id":' + "[" * 1_000_000 + "\n"], [("invalid_json_line", 1)]),
    "twice": ([line("a"), line("a")], [("duplicate_custom_id", 2)]),
    "another endpoint": ([line("a", CHAT)], [("invalid_url", 1)]),
    "no fields": ([{}], [("missing_required_parameter", 1)]),
    "a long id": ([line("a" * 600)], [("invalid_request", 1)]),
    "a number as id": ([line("a") | {"custom_id": 5}], [("invalid_request", 1)]),
    "a long line": ([line("a", prompt="x" * (5 << 20))], [("line_too_long", 1)]),
    "many lines": ([json.dumps(line(str(number))) + "\n" for number in range(50_001)], [("too_many_tasks", None)]),
    "all wrong": (["{\n"] * 1000, [("invalid_json_line", number) for number in range(1, 101)]),
}


@pytest.fixture(scope="module")
def poisoned(tmp_path_factory: pytest.TempPathFactory):
    with serve(tmp_path_factory.mktemp("data")) as running:
        yield running


@pytest.mark.parametrize("name", POISON)
def test_a_file_that_is_none_fails_its_batch_with_the_lines_and_nothing_else(poisoned, name):
    entries, expected = POISON[name]
    with client(poisoned) as api:
        batch = wait_for(api, begin(api, entries), has_ended)
        assert batch.status == "failed"
        assert batch.errors is not None
        errors = [(error.code, error.line) for error in batch.errors.data or []]
        assert errors == expected if name != "binary" else {code for code, _ in errors} == {"invalid_json_line"}
        assert all(error.message for error in batch.errors.data or [])
        api.files.delete(batch.input_file_id)
        assert httpx.get(f"{poisoned.url}/ready").status_code == 200


BAD: dict[str, dict[str, Any]] = {
    "window": {"completion_window": "soon"},
    "no window": {"completion_window": "0h"},
    "a long window": {"completion_window": "99d"},
    "endpoint": {"endpoint": "/v1/images"},
    "metadata": {"metadata": {str(number): "x" for number in range(17)}},
    "long metadata": {"metadata": {"a": "x" * 513}},
    "expiry": {"output_expires_after": {"anchor": "created_at", "seconds": 5}},
    "input_file_id": {"input_file_id": 5},
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_question_is_the_clients_mistake(poisoned, name):
    good = {"input_file_id": "file-x", "endpoint": COMPLETIONS, "completion_window": "24h"}
    headers = {"authorization": "Bearer one"}
    answer = httpx.post(f"{poisoned.url}/v1/batches", headers=headers, json=good | BAD[name], timeout=10)
    assert answer.status_code == 400, answer.text
    answer = httpx.post(f"{poisoned.url}/v1/batches", headers=headers, json=good, timeout=10)
    assert (answer.status_code, answer.json()["error"]["param"]) == (404, "input_file_id")


def test_a_file_for_something_else_is_no_input(poisoned):
    with client(poisoned) as api:
        file = api.files.create(file=("a", b"{}"), purpose="user_data")
        with pytest.raises(openai.BadRequestError, match="purpose"):
            api.batches.create(input_file_id=file.id, endpoint=COMPLETIONS, completion_window="24h")
        api.files.delete(file.id)

"""Batches are run by one of several web processes, and made, seen and cancelled at any; tool calls are tried by one."""

from __future__ import annotations

import asyncio
import json

from tests.unit.web_process.fake_server import FakeServer, until
from tests.unit.web_process.together.two_servers import of, serve_two
from yeoul.web_process.batches.runner import BatchRunner
from yeoul.web_process.together.proofs import SharedProofs


def test_a_batch_that_is_made_at_another_process_is_run_at_once_by_the_first_one_alone():
    async def scene(one: FakeServer, other: FakeServer) -> None:
        runners = [BatchRunner(server.context) for server in (one, other)]
        for runner in runners:
            runner.start()
        line = {"custom_id": "a", "method": "POST", "url": "/v1/completions", "body": {"model": "fake", "prompt": "hi"}}
        file = await other.openai.files.create(file=("in.jsonl", json.dumps(line).encode()), purpose="batch")
        batch = await other.openai.batches.create(input_file_id=file.id, endpoint="/v1/completions", completion_window="24h")
        while batch.status not in ("completed", "failed"):
            await asyncio.sleep(0.01)  # both servers are in this thread
            batch = await other.openai.batches.retrieve(batch.id)
        assert batch.status == "completed"
        assert len(one.client.added) == 1
        assert other.client.added == []
        assert batch.output_file_id is not None
        assert b"hello world" in (await other.openai.files.content(batch.output_file_id)).content
        assert [entry.id for entry in (await one.openai.batches.list()).data] == [batch.id]
        one.client.gate.clear()
        batch = await other.openai.batches.create(input_file_id=file.id, endpoint="/v1/completions", completion_window="24h")
        await until(lambda: len(one.client.added) == 2)
        await other.openai.batches.cancel(batch.id)
        while batch.status != "cancelled":
            await asyncio.sleep(0.01)  # both servers are in this thread
            batch = await other.openai.batches.retrieve(batch.id)
        for runner in runners:
            await runner.stop()

    serve_two(scene)


def test_that_calls_work_is_tried_once_and_known_to_all_also_to_one_that_comes_later():
    async def scene(one: FakeServer, other: FakeServer) -> None:
        proofs = [SharedProofs(server.context) for server in (one, other)]
        models = [server.context.fleet.models[0] for server in (one, other)]
        await proofs[1].prove(models[1])  # the first one is not so far yet
        assert other.context.proof_of(models[1]).state == "pending"
        await proofs[0].prove(models[0])
        state = one.context.proof_of(models[0]).state
        assert state != "pending"
        assert other.context.proof_of(models[1]).state == state
        other.context.proofs.clear()
        of(other).start = 1
        await proofs[1].prove(models[1])
        assert other.context.proof_of(models[1]).state == state
        assert other.client.added == []

    serve_two(scene)

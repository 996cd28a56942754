"""An engine that sends anything but messages: its client counts it as dead, and replaces it where it is its own."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import msgspec
import pytest

from tests.processes.fake_engine import FILES
from tests.running_server import free_port_pair
from tests.unit.messages.samples import READY, encoded
from yeoul.config.build import build_settings
from yeoul.config.settings import Settings, TimeSettings, TransportSettings
from yeoul.engine_process.client import AsyncMPClient
from yeoul.errors import ProcessDeadError
from yeoul.messages.outputs import UtilityResult
from yeoul.messages.sampling import SamplingParams
from yeoul.model_files.describe import describe
from yeoul.model_files.description import shape_digest
from yeoul.transport.addresses import tcp_addresses
from yeoul.transport.curve_keys import CurveKeys, load_or_create_keys
from yeoul.transport.sockets import EngineContext, EngineInput, EngineOutput
from yeoul.web_process.engine.async_llm import AsyncLLM


class LyingEngine:
    """The engine's two sockets with the right keys, and no engine."""

    def __init__(self, address: str, keys: CurveKeys) -> None:
        self.context = EngineContext(keys)
        input_address, output_address = tcp_addresses(address)
        self.input = EngineInput(self.context, input_address)
        self.output = EngineOutput(self.context, output_address)

    def greet(self, *payloads: bytes) -> None:
        """Answers the client's Hello with these."""
        client_id, _ = self.input.receive()
        for payload in payloads:
            assert self.output.send(client_id, payload)

    def close(self) -> None:
        self.input.close()
        self.output.close()
        self.context.close()


def join(tmp_path: Path, *payloads: bytes) -> None:
    """What a client makes of an engine that answers so: an error, at the start or at the first message after it."""
    path, address = str(tmp_path / "keys"), f"tcp://127.0.0.1:{free_port_pair()}"
    engine = LyingEngine(address, load_or_create_keys(path))
    settings = Settings(
        transport=TransportSettings(engine_address=address, engine_key_file=path),
        time=TimeSettings(engine_ready_timeout_seconds=10.0),
    )

    async def whole() -> None:
        client = AsyncMPClient(settings, FILES, describe(FILES), 512)
        greeting = asyncio.create_task(asyncio.to_thread(engine.greet, *payloads))
        try:
            await client.start()
            await asyncio.wait_for(client.receive(), 10.0)
        finally:
            await greeting
            await client.stop()

    try:
        asyncio.run(whole())
    finally:
        engine.close()


GOOD_READY = msgspec.msgpack.encode(msgspec.structs.replace(READY, shape_digest=shape_digest(describe(FILES))))
LIES = {
    "nothing": b"",
    "noise": random.Random(4).randbytes(500),
    "an array of 4 GiB": b"\xdd\xff\xff\xff\xff",
    "nesting": b"\x91" * 100_000,
    "no UTF-8": b"\x82\xa4type\xa4dead\xa4role\xa2\xff\xfe",
    "a client's message": msgspec.msgpack.encode({"type": "hello", "version": "1"}),
}


@pytest.mark.parametrize("name", LIES)
@pytest.mark.parametrize("is_ready", [False, True], ids=["at the start", "later"])
def test_an_engine_that_sends_no_messages_counts_as_dead(tmp_path: Path, name: str, is_ready: bool) -> None:
    with pytest.raises(ProcessDeadError, match=r"EngineCore sent \d+ bytes that are no message of this version"):
        join(tmp_path, *([GOOD_READY] if is_ready else []), LIES[name])


def test_an_engine_that_answers_hello_with_something_else_counts_as_dead(tmp_path: Path) -> None:
    answers = (UtilityResult(99, "nobody asked"), msgspec.msgpack.decode(encoded("EngineMessage")[1]))
    with pytest.raises(ProcessDeadError, match="answered a Hello with StepOutputs; expected EngineReady"):
        join(tmp_path, *map(msgspec.msgpack.encode, answers))


@pytest.mark.parametrize("name", ["noise", "nesting"])
def test_an_engine_of_our_own_that_sends_no_messages_is_replaced_and_the_answer_goes_on(tmp_path: Path, name: str) -> None:
    reports = {"recovery_report_dir": str(tmp_path)}
    settings = build_settings({"model": "fake", "max_model_len": 512, "fake_step_seconds": 0.01} | reports)
    sampling = SamplingParams(seed=5, temperature=0.7, max_tokens=30, ignore_eos=True)

    async def text_of(llm: AsyncLLM, lies_after: int | None) -> str:
        text, engine = "", llm.engines.slots[0].engine
        stream = await llm.submit(["river"], sampling)
        async for output in stream:
            text += output.text
            if lies_after is not None and len(text) > lies_after:
                lies_after, connection = None, engine._connection
                assert connection is not None
                connection.sockets._inbox.append(LIES[name])  # as if it had come from the engine, just now
        stream.close()
        return text

    async def whole() -> None:
        async with AsyncLLM(settings) as llm:
            expected = await text_of(llm, None)
            first = llm.ready
            assert await asyncio.wait_for(text_of(llm, 5), 30.0) == expected
            assert first is not None
            assert llm.ready is not None
            assert llm.ready.pid != first.pid

    asyncio.run(whole())

"""An EngineCoreProc on a thread, a worker called in place of worker processes, and a client on real sockets."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from concurrent.futures import Future

import msgspec

from tests.processes.fake_engine import fake_engine_settings
from yeoul.config.parts import EngineAddresses
from yeoul.config.settings import CacheSettings, RecoverySettings, SchedulerSettings, Settings
from yeoul.engine_process.core import EngineCoreProc
from yeoul.errors import YeoulError
from yeoul.messages.outputs import (
    EngineMessage,
    RequestOutput,
    StepOutputs,
)
from yeoul.messages.requests import AddRequest, Shutdown
from yeoul.messages.sampling import SamplingParams
from yeoul.messages.steps import CallResult, StepInput, StepResult
from yeoul.transport.addresses import ipc_addresses
from yeoul.transport.sockets import ClientSockets
from yeoul.worker_process.arguments import worker_settings
from yeoul.worker_process.worker import Worker
from yeoul.worker_process.worker_link import WorkerLink
from yeoul.worker_process.workers_report import WorkersReport


class InPlaceExecutor:
    """An executor whose worker runs in the calling thread; ``error`` makes the next step fail.

    With ``holds`` steps are computed, in order, when the test calls ``release``. ``limits`` are those of the steps.
    """

    def __init__(self, settings) -> None:
        self.worker = Worker(worker_settings(settings, 0, "", None))
        self.error: Exception | None = None
        self.holds = False
        self.held: deque[tuple[Future[StepResult], StepInput]] = deque()
        self.is_stopped = False
        self.limits: list[float] = []
        self.calls: list[Future[list[CallResult]]] = []
        self.successors: list[InPlaceExecutor] = []  # itself first
        self.workers: list[WorkerLink] = []
        self.num_stages = 1

    def spawn(self) -> None:
        """Nothing to start."""

    def start(self, on_death):
        self.on_death = on_death
        return [self.worker.load()]

    def allocate_cache(self, num_blocks, tier):
        self.worker.allocate_cache(num_blocks, tier)

    def execute(self, step, limit_seconds):
        self.limits.append(limit_seconds)
        future: Future[StepResult] = Future()
        if self.holds:
            self.held.append((future, step))
        elif self.error is not None:
            future.set_exception(self.error)
        else:
            future.set_result(self.worker.execute(step))
        return future

    def release(self, compute_seconds):
        future, step = self.held.popleft()
        future.set_result(msgspec.structs.replace(self.worker.execute(step), compute_seconds=compute_seconds))

    def release_all(self):
        """Everything that is held, in order; what comes next is computed at once, and so has to come after it."""
        self.holds = False
        results = [(future, self.worker.execute(step)) for future, step in self.held]
        self.held.clear()
        for future, result in results:
            future.set_result(result)

    def collective_rpc(self, method, arguments):
        self.calls.append(Future())
        if not self.holds:
            try:
                self.calls[-1].set_result([CallResult(1, self.worker.call(method, arguments))])
            except YeoulError as error:
                self.calls[-1].set_result([CallResult(1, error=error.message)])
        return self.calls[-1]

    def look(self):
        return WorkersReport([], [])

    def stop(self, *, at_once=False):
        self.is_stopped = True


class Client:
    """The web process's end of the wire, without the web process."""

    def __init__(self, addresses: EngineAddresses) -> None:
        self.sockets = ClientSockets(addresses.input_address, addresses.output_address)

    def say(self, *messages) -> None:
        for message in messages:
            self.sockets.send(msgspec.msgpack.encode(message))

    async def hear(self):
        payload = await asyncio.wait_for(self.sockets.receive(), 10.0)
        return msgspec.msgpack.decode(payload, type=EngineMessage)

    async def hear_until_finished(self, num_requests: int):
        """All outputs until this many requests have ended; one that failed may be told of twice."""
        outputs: list[RequestOutput] = []
        while len({output.request_id for output in outputs if output.finish_reason is not None}) < num_requests:
            message = await self.hear()
            assert isinstance(message, StepOutputs)
            outputs += message.outputs
        return outputs


def request(request_id="a", max_tokens=4):
    sampling = SamplingParams(seed=1, max_tokens=max_tokens, ignore_eos=True)
    return AddRequest(request_id=request_id, prompt_token_ids=list(b"river"), sampling=sampling)


async def until(condition):
    """Waits for what another thread does."""
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not happen within 10 s")


def converse(tmp_path, scenario, expect_error=None, cache=None, **scheduler):
    """Runs the busy loop in a thread while ``scenario(client, executor, core)`` talks to it, then says Shutdown."""
    input_address, output_address = ipc_addresses(str(tmp_path))
    addresses = EngineAddresses(input_address=input_address, output_address=output_address)
    settings = fake_engine_settings(
        addresses,
        Settings(
            cache=cache or CacheSettings(num_blocks_override=64),
            scheduler=SchedulerSettings(**scheduler),
            recovery=RecoverySettings(recovery_report_dir=str(tmp_path / "reports"), recovery_report_contents=True),
        ),
    )
    executor = InPlaceExecutor(settings)
    made = [executor]

    def make_executor():
        made.append(InPlaceExecutor(settings))
        return made[-1]

    core = EngineCoreProc(settings, executor, make_executor)
    executor.successors = made
    errors = []

    def busy_loop():
        try:
            core.run_busy_loop()
        except Exception as error:
            errors.append(error)
        finally:
            core.stop()

    async def whole():
        client = Client(addresses)
        core.start()
        thread = threading.Thread(target=busy_loop)
        thread.start()
        try:
            await scenario(client, executor, core)
        finally:
            client.say(Shutdown())
            await asyncio.to_thread(thread.join, 10.0)
            client.sockets.close()
        assert not thread.is_alive()

    asyncio.run(whole())
    assert all(one.is_stopped for one in made)
    assert [type(error) for error in errors] == ([expect_error] if expect_error else [])

"""An engine without processes: it answers each request with bytes that the test chose, a token a step."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import Awaitable, Callable

import msgspec

from yeoul import __version__
from yeoul.config.parts import ONLY_ENGINE, EnginePlace
from yeoul.config.settings import (
    CacheSettings,
    ModelSettings,
    RecoverySettings,
    SchedulerSettings,
    ServerSettings,
    Settings,
    TimeSettings,
)
from yeoul.engine_process.client import AsyncMPClient
from yeoul.messages.outputs import (
    EngineDead,
    EngineMessage,
    EngineReady,
    FinishReason,
    RequestFault,
    RequestOutput,
    StepFacts,
    StepOutputs,
    TokenLogprobs,
    WorkerInfo,
)
from yeoul.messages.requests import AbortRequests, AddRequest, ClientMessage
from yeoul.messages.sampling import SamplingParams
from yeoul.messages.statistics import EngineStatistics
from yeoul.messages.topology import EngineReport
from yeoul.model_files.description import ModelDescription, ModelFiles
from yeoul.model_files.tokenizer_source import FAKE_EOS_TOKEN_ID
from yeoul.recovery.crash_inquiry import CrashCount, CrashInquiry
from yeoul.web_process.engine.async_llm import AsyncLLM
from yeoul.web_process.engine.generation_output import GenerationOutput

MAX_MODEL_LEN = 256
CHAT_TEMPLATE = (
    "{% for message in messages %}{% if message.content == 'refuse me' %}{{ raise_exception('I will not') }}{% endif %}"
    "[{{ message.role }}] {{ message.content }}\n{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}"
)


class FakeEngineClient(AsyncMPClient):
    """Does without any process what the real one does.

    ``reply`` gives the tokens of a request; ``gate`` cleared holds every step back. With ``may_be_replaced`` a dead engine is
    followed by another one, unless ``failures`` has an error for it.
    """

    may_be_replaced = False
    engine_pid: int | None = None

    def __init__(
        self,
        settings: Settings,
        files: ModelFiles,
        description: ModelDescription,
        max_model_len: int,
        place: EnginePlace = ONLY_ENGINE,
    ) -> None:
        super().__init__(settings, files, description, max_model_len, place)
        self.max_model_len = max_model_len
        self.sent: list[ClientMessage] = []
        self.faults: dict[str, RequestFault] = {}
        self.reply: Callable[[AddRequest], list[int]] = lambda add: [*b"hello world", FAKE_EOS_TOKEN_ID]
        self.gate = asyncio.Event()
        self.gate.set()
        self.is_stopped = False
        self.failures: list[Exception] = []
        self.num_replaced = 0
        self.is_silent = False
        self.num_to_lose = 0  # of the requests that are sent next
        self.has_been_stopped = False
        self.killed_because: str | None = None
        self.report = EngineReport(clock=0.0)
        self.tokens_a_step = 1
        self.kills: Callable[[AddRequest], bool] = lambda add: False
        self.max_num_running = 1000
        self.num_steps = 0
        self._running: dict[str, tuple[AddRequest, list[int]]] = {}
        self._num_made: dict[str, int] = {}
        self._begun: set[str] = set()
        self._inquiry = CrashInquiry()
        self._messages: asyncio.Queue[EngineMessage] = asyncio.Queue()
        self._stepping: asyncio.Task[None] | None = None
        self._work = asyncio.Event()

    def spawn(self) -> None:
        """Nothing to start."""

    async def start(self) -> EngineReady:
        self._stepping = asyncio.create_task(self._step_for_ever())
        self.ready = EngineReady(
            version=__version__,
            pid=1,
            num_blocks=64,
            block_size=16,
            cache_bytes=1024,
            max_model_len=self.max_model_len,
            model_fingerprint="fp_0123456789ab",
            workers=[WorkerInfo(0, 2, "cpu")],
        )
        return self.ready

    def send(self, message: ClientMessage) -> None:
        self.sent.append(message)
        if isinstance(message, AddRequest) and self.num_to_lose:
            self.num_to_lose -= 1
        elif isinstance(message, AddRequest):
            self._running[message.request_id] = (message, self.reply(message))
            self._num_made[message.request_id] = len(message.output_token_ids)
            self._inquiry.enter(message.request_id, CrashCount(message.num_deaths, message.num_deaths_alone))
        elif isinstance(message, AbortRequests):
            for request_id in message.request_ids:
                self._running.pop(request_id, None)
        self._work.set()

    async def receive(self) -> EngineMessage:
        return await self._messages.get()

    async def call(self, method: str, arguments: list[str] | None = None) -> str:
        if self.is_silent:
            await asyncio.Event().wait()
        return json.dumps(list(self._running)) if method == "unfinished_request_ids" else method

    async def replace(self) -> EngineReady:
        if self._stepping is not None:
            self._stepping.cancel()
        self._running.clear()
        self._begun.clear()
        self._inquiry = CrashInquiry()
        self._messages = asyncio.Queue()
        self.num_replaced += 1
        if self.failures:
            raise self.failures.pop(0)
        return await self.start()

    async def look(self) -> EngineReport:
        return msgspec.convert(msgspec.to_builtins(self.report), EngineReport)  # whoever looks may change it

    def is_suspended(self) -> bool:
        return self.has_been_stopped

    def kill(self, cause: str) -> None:
        self.has_been_stopped = False
        self.killed_because = cause
        self._messages.put_nowait(EngineDead("EngineCore", cause))

    async def stop(self) -> None:
        self.is_stopped = True
        if self._stepping is not None:
            self._stepping.cancel()

    def die(self) -> None:
        """The engine ends in the middle of everything."""
        self._messages.put_nowait(EngineDead("Worker_0", "was killed by signal 9 (SIGKILL)", exit_code=-9))

    def emit(self, message: EngineMessage) -> None:
        self._messages.put_nowait(message)

    @property
    def added(self) -> list[AddRequest]:
        return [message for message in self.sent if isinstance(message, AddRequest)]

    @property
    def aborted(self) -> list[str]:
        return [one for message in self.sent if isinstance(message, AbortRequests) for one in message.request_ids]

    @property
    def num_running(self) -> int:
        return len(self._running)

    async def _step_for_ever(self) -> None:
        while True:
            await self._work.wait()
            self._work.clear()
            while self._running:
                await self.gate.wait()
                self._inquiry.deal()
                computed = [add for add, _ in self._running.values() if not self._inquiry.holds_back(add.request_id)]
                computed = computed[: self.max_num_running]
                begun = [add.request_id for add in computed if add.request_id not in self._begun]
                self._begun.update(begun)
                self._messages.put_nowait(StepOutputs(begun=begun))
                started = time.monotonic()
                if any(map(self.kills, computed)):
                    self.die()
                    return
                outputs = [self._next(*self._running[add.request_id]) for add in computed]
                for output in outputs:
                    self._inquiry.clear(output.request_id)
                statistics = EngineStatistics(num_running=len(self._running), num_blocks=64, num_used_blocks=16)
                prompts = [(add.request_id, len(add.prompt_token_ids)) for add in computed if add.request_id in begun]
                num_tokens = len(outputs) - len(prompts) + sum(num for _, num in prompts)
                now = time.monotonic()
                step = StepFacts(self.num_steps, started, now - started, num_tokens, len(outputs), len(outputs), prompts)
                self.num_steps += 1
                self._messages.put_nowait(StepOutputs(outputs, statistics, steps=[step], sent=now, engine=self.place.index))
                await asyncio.sleep(0)

    def _next(self, add: AddRequest, reply: list[int]) -> RequestOutput:
        request_id = add.request_id
        if add.pooling is not None:
            del self._running[request_id]
            embedding = b"\0\0\0\0\0\0\x80\x3f"
            return RequestOutput(
                request_id=request_id, finish_reason="stop", embedding=embedding, queue_seconds=0.001, turn=add.turn
            )
        num_made = self._num_made[request_id]
        assert add.sampling.max_tokens is not None
        tokens = reply[num_made : min(num_made + self.tokens_a_step, add.sampling.max_tokens)]
        self._num_made[request_id] += len(tokens)
        finish_reason: FinishReason | None = None
        stop_reason = None
        if tokens[-1] in add.eos_token_ids or tokens[-1] in add.sampling.stop_token_ids:
            finish_reason = "stop"
            stop_reason = None if tokens[-1] in add.eos_token_ids else tokens[-1]
        elif self._num_made[request_id] >= min(add.sampling.max_tokens, len(reply)):
            finish_reason = "length"
        if finish_reason is not None:
            del self._running[request_id]
        wants, asked_for = add.sampling.logprobs, add.sampling.logprob_token_ids
        new_logprobs = [_logprobs(token) if asked_for is None else _logprobs_of(token, asked_for) for token in tokens]
        prompt_logprobs: list[TokenLogprobs | None] = []
        if add.sampling.prompt_logprobs is not None and num_made == 0:
            prompt_logprobs = [None, *(_logprobs(token) for token in add.prompt_token_ids[1:])]
        return RequestOutput(
            request_id=request_id,
            new_token_ids=tokens,
            new_logprobs=new_logprobs if wants is not None else [],
            prompt_logprobs=prompt_logprobs,
            finish_reason=finish_reason,
            stop_reason=stop_reason,
            num_cached_tokens=16 if num_made == 0 else 0,
            queue_seconds=0.001 if num_made == 0 else None,
            turn=add.turn,
        )


def _logprobs(token: int) -> TokenLogprobs:
    """The token itself at one half, and "?" as the likeliest other at minus infinity."""
    return TokenLogprobs([token, token, ord("?")], [math.log(0.5), math.log(0.5), -math.inf], 1)


def _logprobs_of(token: int, asked_for: list[int]) -> TokenLogprobs:
    """The token itself and those that are asked for by their ids, all at one half."""
    return TokenLogprobs([token, *asked_for], [math.log(0.5)] * (1 + len(asked_for)), 1)


def settings(
    *,
    chat_template: str = CHAT_TEMPLATE,
    max_model_len: int = MAX_MODEL_LEN,
    request_timeout_seconds: float = 10.0,
    drain_delay_seconds: float = 0.0,
    **server: object,
) -> Settings:
    """The fake model, a short context, room for eight waiting requests; ``server`` sets fields of ServerSettings."""
    return Settings(
        model=ModelSettings(model="fake", max_model_len=max_model_len, chat_template=chat_template),
        cache=CacheSettings(num_blocks_override=64),
        scheduler=SchedulerSettings(max_num_waiting_requests=8),
        time=TimeSettings(
            keep_alive_seconds=0.05,
            drain_delay_seconds=drain_delay_seconds,
            drain_timeout_seconds=1.0,
            request_timeout_seconds=request_timeout_seconds,
        ),
        recovery=RecoverySettings(recovery_reports=False),
        server=ServerSettings(**server),  # type: ignore[arg-type]
    )


LIMIT_SECONDS = 60.0
"""What any scene may take: it ends one that hangs, on however busy a machine."""


async def until(condition: Callable[[], bool]) -> None:
    """Lets the loop turn until the condition holds; the test's own limit ends it."""
    while not condition():  # noqa: ASYNC110
        await asyncio.sleep(0.001)


class FakeEngine:
    """An AsyncLLM on a FakeEngineClient: ``async with FakeEngine() as engine``; ``engine.llm``, ``engine.client``.

    Where the settings want several engines, ``engine.clients`` has all.
    """

    def __init__(self, chosen: Settings | None = None, *, may_be_replaced: bool = False) -> None:
        self.clients: list[FakeEngineClient] = []
        self._may_be_replaced = may_be_replaced
        self.llm = AsyncLLM(chosen or settings(), connect=self._connect)

    @property
    def client(self) -> FakeEngineClient:
        return self.clients[-1]

    def _connect(
        self, chosen: Settings, files: ModelFiles, description: ModelDescription, max_model_len: int, place: EnginePlace
    ) -> FakeEngineClient:
        self.clients.append(FakeEngineClient(chosen, files, description, max_model_len, place))
        self.client.may_be_replaced = self._may_be_replaced
        return self.client

    async def __aenter__(self) -> FakeEngine:
        await self.llm.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.llm.shutdown()


def run(scene: Callable[[FakeEngine], Awaitable[None]]) -> None:
    """Plays ``scene`` on an engine of its own."""

    async def play() -> None:
        async with FakeEngine() as engine:
            await asyncio.wait_for(scene(engine), LIMIT_SECONDS)

    asyncio.run(play())


async def whole(llm: AsyncLLM, prompt: str | list[int], **params: object) -> GenerationOutput:
    """The answer to ``prompt``, when it is whole."""
    outputs = [output async for output in llm.generate(prompt, SamplingParams(**params))]  # type: ignore[arg-type]
    first, *later = outputs
    for output in later:
        first.merge(output)
    return first

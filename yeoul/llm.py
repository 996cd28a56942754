"""LLM: the same engine without HTTP, for scripts and notebooks: plain calls on lists of prompts, a result for each.

Runs ``AsyncLLM`` on an ``EngineThread``, so that it works where another loop is running already. Knows nothing of HTTP or of
what is below ``AsyncLLM``.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import threading
import weakref
from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, TypeVar

import msgspec

from yeoul.config.build import build_settings
from yeoul.config.machine import check_machine
from yeoul.config.settings import Settings
from yeoul.config.user_folders import ensure_home
from yeoul.engine_thread import EngineThread, closed_meanwhile
from yeoul.errors import InvalidRequestError, TooManyRequestsError
from yeoul.messages.outputs import FinishReason, TokenLogprobs
from yeoul.messages.sampling import SamplingParams
from yeoul.progress import download_bars, prompt_bar
from yeoul.transport.thread_names import start_thread
from yeoul.web_process.engine.async_llm import AsyncLLM
from yeoul.web_process.engine.side_by_side import work_off

Prompt = str | list[int]
Message = Mapping[str, Any]
Result = TypeVar("Result")

_FULL_QUEUE_PAUSE_SECONDS = 0.05


class Choice(msgspec.Struct, kw_only=True):
    """One answer. ``finish_reason`` is ``stop`` or ``length``; ``stop_reason`` the stop string or token, if one ended it."""

    index: int
    text: str = ""
    token_ids: list[int] = []
    logprobs: list[TokenLogprobs] = []
    finish_reason: FinishReason | None = None
    stop_reason: int | str | None = None


class GenerationResult(msgspec.Struct, kw_only=True):
    """The answers to one prompt: ``sampling.n`` of them in ``choices``. ``seed`` makes them again."""

    request_id: str
    prompt: Prompt
    prompt_token_ids: list[int]
    seed: int
    choices: list[Choice]
    num_cached_tokens: int = 0
    prompt_logprobs: list[TokenLogprobs | None] = []

    @property
    def text(self) -> str:
        """The first answer."""
        return self.choices[0].text

    @property
    def num_output_tokens(self) -> int:
        """Tokens of all answers together."""
        return sum(len(choice.token_ids) for choice in self.choices)


_llms: weakref.WeakSet[LLM] = weakref.WeakSet()


def _renew_locks() -> None:
    """In a fork nobody gives the locks back that threads of the parent hold."""
    for llm in list(_llms):
        llm.renew_lock()


os.register_at_fork(after_in_child=_renew_locks)


class LLM:
    """A model to call from a script.

    ::

        with LLM("org/name", max_model_len=4096) as llm:
            for result in llm.generate(["Once upon a time", "The capital of France is"]):
                print(result.text)

    Args:
        model: a GGUF file, a Hugging Face folder, a hub id, ``fake``, or None for the default model.
        config: a file with settings.
        settings: any setting by its field name, as in ``yeoul.config.settings``: ``dtype="float32"``.

    Nothing starts before the first use or the ``with``; ``close()``, or dropping the object, ends what was started. Methods
    may be called from several threads. A fork (``multiprocessing`` makes them) cannot use what its parent started, only start
    its own.

    Raises:
        ConfigError: an unknown setting, or a value that cannot work.
    """

    def __init__(self, model: str | None = None, *, config: str | None = None, **settings: object) -> None:
        self.settings: Settings = build_settings({"model": model, **settings}, config, spell=str)
        self._lock = threading.Lock()
        self._thread: EngineThread | None = None
        _llms.add(self)

    def renew_lock(self) -> None:
        """After a fork, in the child: some other thread of the parent may have held it."""
        self._lock = threading.Lock()

    def __enter__(self) -> LLM:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def start(self) -> None:
        """Starts the engine, if it is not up; fetches the model where it is missing.

        Raises:
            ConfigError: a setting or a model that cannot work.
            ProcessDeadError: a child died before it was ready.
        """
        with self._lock:
            if self._thread is None:
                check_machine()
                ensure_home()
                with download_bars() as on_progress:
                    thread = EngineThread(AsyncLLM(self.settings, on_progress=on_progress))
                    thread.start()
                self._thread = thread
                # Where the last reference goes is anybody's thread, the loop's own perhaps: another one does the waiting.
                self._dropped = weakref.finalize(self, start_thread, "LLMStop", thread.stop)
                self._dropped.atexit = False

    def close(self) -> None:
        """Ends the engine and its processes. Harmless when repeated; a later call starts it again."""
        with self._lock:
            if self._thread is not None:
                thread, self._thread = self._thread, None
                self._dropped.detach()
                thread.stop()

    def generate(
        self,
        prompts: Prompt | Sequence[Prompt],
        sampling_params: SamplingParams | Sequence[SamplingParams] | None = None,
        *,
        progress: bool = True,
    ) -> list[GenerationResult]:
        """The answers to all prompts, in their order.

        Args:
            prompts: a text, a list of token ids, or a list of these.
            sampling_params: for all, or one a prompt; None takes what the model's authors recommend.
            progress: show a bar, where standard error is a terminal or a notebook.

        Raises:
            InvalidRequestError: a prompt or a parameter cannot work; nothing of the call goes on then.
            InternalError: a request, or the engine, failed.
        """
        thread = self._started()
        return self._answer_all(thread, _as_list(prompts), sampling_params, progress=progress)

    def chat(
        self,
        messages: Sequence[Message] | Sequence[Sequence[Message]],
        sampling_params: SamplingParams | Sequence[SamplingParams] | None = None,
        *,
        tools: list[dict[str, Any]] | None = None,
        progress: bool = True,
    ) -> list[GenerationResult]:
        """The model's next message in a conversation (``[{"role": ..., "content": ...}, ...]``), or in each of several.

        Errors as for ``generate``; also where the model has no chat template.
        """
        thread = self._started()
        prompts: list[Prompt] = []
        for conversation in _conversations(messages):
            rendering = thread.engine.text.render_chat(conversation.copy, len(str(conversation)), tools=tools)
            prompts.append(thread.run(rendering)[0])
        # The template writes the special tokens itself.
        return self._answer_all(thread, prompts, sampling_params, add_special_tokens=False, progress=progress)

    def encode(self, prompts: Prompt | Sequence[Prompt], pooling: str = "last") -> list[list[float]]:
        """A vector of length 1 for each prompt: of its last token (``last``) or of all of them (``mean``)."""
        thread = self._started()
        jobs = [functools.partial(thread.engine.encode, prompt, pooling) for prompt in _as_list(prompts)]
        return thread.run(_run_all(jobs, self.settings.scheduler.max_num_waiting_requests, lambda _: None))

    def _started(self) -> EngineThread:
        self.start()
        thread = self._thread
        if thread is None:
            raise closed_meanwhile()
        return thread

    def _answer_all(
        self,
        thread: EngineThread,
        prompts: Sequence[Prompt],
        sampling_params: SamplingParams | Sequence[SamplingParams] | None,
        *,
        add_special_tokens: bool = True,
        progress: bool,
    ) -> list[GenerationResult]:
        samplings = _one_each(prompts, sampling_params, thread.engine)
        jobs = [
            functools.partial(_answer, thread.engine, prompt, sampling, add_special_tokens)
            for prompt, sampling in zip(prompts, samplings, strict=True)
        ]
        most_choices = max((sampling.n for sampling in samplings), default=1)
        num_at_a_time = max(1, self.settings.scheduler.max_num_waiting_requests // max(1, most_choices))
        with prompt_bar("prompts", len(jobs), is_wanted=progress) as count:
            return thread.run(_run_all(jobs, num_at_a_time, lambda result: count(result.num_output_tokens)))


async def _answer(engine: AsyncLLM, prompt: Prompt, sampling: SamplingParams, add_special_tokens: bool) -> GenerationResult:
    stream = await engine.submit([prompt], sampling, add_special_tokens=add_special_tokens)
    outputs = await stream.collect()
    return GenerationResult(
        request_id=stream.request_id,
        prompt=prompt,
        prompt_token_ids=stream.prompts[0],
        seed=stream.seeds[0],
        choices=[
            Choice(
                index=output.choice_index,
                text=output.text,
                token_ids=output.token_ids,
                logprobs=output.logprobs,
                finish_reason=output.finish_reason,
                stop_reason=output.stop_reason,
            )
            for output in outputs
        ],
        num_cached_tokens=max(output.num_cached_tokens for output in outputs),
        prompt_logprobs=outputs[0].prompt_logprobs,
    )


async def _run_all(
    jobs: Sequence[Callable[[], Awaitable[Result]]], num_at_a_time: int, on_done: Callable[[Result], None]
) -> list[Result]:
    """The results in the jobs' order. The first job that fails ends the others, and its error is raised."""
    results: dict[int, Result] = {}

    async def run(index: int) -> None:
        results[index] = await _patiently(jobs[index])
        on_done(results[index])

    await work_off(range(len(jobs)), min(num_at_a_time, len(jobs)), run)
    return [results[index] for index in range(len(jobs))]


async def _patiently(job: Callable[[], Awaitable[Result]]) -> Result:
    """Waits while the queue is full of this or another thread's calls: a script is no client to be turned away."""
    while True:
        with contextlib.suppress(TooManyRequestsError):
            return await job()
        await asyncio.sleep(_FULL_QUEUE_PAUSE_SECONDS)


def _as_list(prompts: Prompt | Sequence[Prompt]) -> list[Prompt]:
    """One prompt or several, as a list: a list of numbers is one prompt of token ids."""
    if isinstance(prompts, str):
        return [prompts]
    if not isinstance(prompts, Sequence):
        raise InvalidRequestError(f"prompts is {prompts!r}; expected texts or lists of token ids", param="prompts")
    if prompts and all(isinstance(item, int) for item in prompts):
        return [[item for item in prompts if isinstance(item, int)]]
    several: list[Prompt] = []
    for index, prompt in enumerate(prompts):
        if not isinstance(prompt, (str, list)):
            raise InvalidRequestError(
                f"prompt {index} is {prompt!r}; expected a text or a list of token ids", param="prompts"
            )
        several.append(prompt)
    return several


def _conversations(messages: Sequence[Message] | Sequence[Sequence[Message]]) -> list[list[dict[str, Any]]]:
    several: list[Any] = [messages] if messages and isinstance(messages[0], Mapping) else list(messages)
    for conversation in several:
        if not (isinstance(conversation, Sequence) and all(isinstance(message, Mapping) for message in conversation)):
            raise InvalidRequestError(
                'messages has to be a list of messages such as {"role": "user", "content": "Hello"}, or a list of such lists',
                param="messages",
            )
    return [[dict(message) for message in conversation] for conversation in several]


def _one_each(
    prompts: Sequence[Prompt], given: SamplingParams | Sequence[SamplingParams] | None, engine: AsyncLLM
) -> list[SamplingParams]:
    if given is None:
        recommended = msgspec.structs.asdict(engine.text.sampling_defaults)
        given = SamplingParams(**{name: value for name, value in recommended.items() if value is not None})
    samplings = [given] * len(prompts) if isinstance(given, SamplingParams) else list(given)
    if len(samplings) != len(prompts):
        raise InvalidRequestError(
            f"{len(samplings)} sampling parameters for {len(prompts)} prompts; give one for all, or one each",
            param="sampling_params",
        )
    for sampling in samplings:
        sampling.check(engine.limits.vocab_size)
    return samplings

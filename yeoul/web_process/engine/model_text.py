"""ModelText: the text side of the served model for ``AsyncLLM``: tokenizer, chat template, defaults; long work off the loop.

Knows nothing of HTTP or the engine.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from yeoul.config.settings import ModelSettings
from yeoul.messages.sampling import SamplingParams
from yeoul.model_files.tokenizer_source import SamplingDefaults
from yeoul.start_parts import START
from yeoul.text.fill_in import File
from yeoul.web_process.engine.admission import MAX_BYTES_A_TOKEN, Limits, check_text_length, check_token_ids
from yeoul.web_process.engine.answer_families import AnswerFamilies
from yeoul.web_process.engine.fair_threads import FairThreads
from yeoul.web_process.engine.prompt_frame import PromptFrame
from yeoul.web_process.engine.served_model import ServedModel

if TYPE_CHECKING:
    from yeoul.text.chat_template import ChatTemplate
    from yeoul.text.detokenizer import IncrementalDetokenizer
    from yeoul.text.tokenizer import Tokenizer
    from yeoul.web_process.engine.reranker import Pairs, Reranker

logger = logging.getLogger(__name__)

Prompt = str | list[int]
Tokens = TypeVar("Tokens", list[int], tuple[list[int], bool])

# Half a millisecond or so of tokenizing; a longer prompt goes to a thread.
_MAX_CHARACTERS_ON_LOOP = 2048
_MAX_RENDERING_SECONDS_ON_LOOP = 0.01
_NUM_PROMPTS_AT_A_TIME = 8
_NUM_THREADS = 2


class ModelText:
    """Made by ``load_text``; its threads start with the first long prompt."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        chat_template: ChatTemplate,
        sampling_defaults: SamplingDefaults,
        chat_template_timeout_seconds: float,
        families: AnswerFamilies,
        reranker: Reranker | None = None,
    ) -> None:
        self.tokenizer = tokenizer
        self._chat_template = chat_template
        self._chat_template_timeout_seconds = chat_template_timeout_seconds
        self.families = families
        self.reranker = reranker
        self.sampling_defaults = sampling_defaults
        """What the model's authors recommend."""
        self._threads = FairThreads(_NUM_THREADS, "long_prompts")

    @property
    def eos_token_ids(self) -> list[int]:
        """Every token that ends an answer."""
        return self.tokenizer.eos_token_ids

    async def render_pairs(self, pairs: Pairs, limits: Limits, tenant: str) -> list[str]:
        """The prompts with which the model, a reranker, judges documents. Errors as for ``Reranker.render``."""
        assert self.reranker is not None
        work = functools.partial(self.reranker.render, pairs, self.tokenizer, limits, self._chat_template_timeout_seconds)
        return await self._threads.run(tenant, work)

    @property
    def template_source(self) -> str | None:
        """The model's chat template as it is written; None where it has none."""
        return self._chat_template.source

    async def tokenize_all(
        self,
        prompts: Sequence[Prompt],
        sampling: SamplingParams,
        limits: Limits,
        add_special_tokens: bool,
        tenant: str,
        frame: PromptFrame,
    ) -> list[list[int]]:
        """The tokens of several prompts, checked against the limits; others have their turn on the loop in between.

        Raises:
            InvalidRequestError: one is empty, or has a token that the vocabulary lacks; PromptTooLongError: it does not fit;
                a suffix, for a model that cannot fill a gap.
        """
        token_ids = []
        for index, prompt in enumerate(prompts, start=1):
            its_token_ids = await self._tokenize(prompt, limits, add_special_tokens, tenant, frame.suffix)
            # Tokens from our own tokenizer are checked too: it can know some that the model lacks.
            token_ids.append(check_token_ids(frame.cut(its_token_ids, sampling, limits), limits))
            if index % _NUM_PROMPTS_AT_A_TIME == 0:
                await asyncio.sleep(0)
        return token_ids

    async def _tokenize(
        self, prompt: Prompt, limits: Limits, add_special_tokens: bool, tenant: str, suffix: str | None
    ) -> list[int]:
        if isinstance(prompt, str):
            check_text_length(prompt, limits)
        if suffix is None:
            return await self.encode(prompt, add_special_tokens, tenant) if isinstance(prompt, str) else prompt
        check_text_length(suffix, limits)
        before = prompt if isinstance(prompt, str) else check_token_ids(prompt, limits)

        def work() -> list[int]:
            return self.tokenizer.encode_gap(before, suffix)

        return await self._on_loop_or_apart(len(prompt) + len(suffix), tenant, work)

    async def encode_gap_within(
        self, before: str, behind: str, files: Sequence[File], most: int, tenant: str
    ) -> tuple[list[int], bool]:
        """See ``Tokenizer.encode_gap_within``. What could never find room is left out before it is looked at."""
        longest = MAX_BYTES_A_TOKEN // 4 * most
        num_characters, near = 0, list[File]()
        for file in reversed(files):
            if num_characters < longest:
                near.insert(0, file)
            num_characters += len(file.name) + len(file.text)
        near[:1] = [File(name, text[max(0, len(text) - longest) :]) for name, text in near[:1]]

        def work() -> tuple[list[int], bool]:
            token_ids, is_cut = self.tokenizer.encode_gap_within(
                before[max(0, len(before) - longest) :], behind[:longest], near, most
            )
            return token_ids, is_cut or max(num_characters, len(before), len(behind)) > longest

        return await self._on_loop_or_apart(len(before) + len(behind) + num_characters, tenant, work)

    async def spell_bad_words(self, sampling: SamplingParams, tenant: str) -> SamplingParams:
        """The same parameters, with the tokens of each bad word as it stands at the beginning of a text and inside one."""
        if not sampling.bad_words:
            return sampling
        spelled: dict[tuple[int, ...], None] = {}
        for word in sampling.bad_words:
            for written in (word.strip(), f" {word.strip()}"):
                spelled[tuple(await self.encode(written, False, tenant))] = None
            await asyncio.sleep(0)
        return msgspec.structs.replace(sampling, bad_word_token_ids=[list(tokens) for tokens in spelled if tokens])

    def ending_with_gap(self, sampling: SamplingParams) -> SamplingParams:
        """The same parameters for an answer that fills a gap, which some models end in a way of its own."""
        markers = self.tokenizer.fill_markers
        if markers is None or sampling.ignore_eos:
            return sampling
        ends = [token_id for token_id in markers.ends if token_id not in self.eos_token_ids]
        return msgspec.structs.replace(sampling, stop_token_ids=[*sampling.stop_token_ids, *ends])

    async def encode(self, text: str, add_special_tokens: bool, tenant: str) -> list[int]:
        """The tokens of any text, an empty one too."""

        def work() -> list[int]:
            return self.tokenizer.encode(text, add_special_tokens=add_special_tokens)

        return await self._on_loop_or_apart(len(text), tenant, work)

    async def _on_loop_or_apart(self, num_characters: int, tenant: str, work: Callable[[], Tokens]) -> Tokens:
        return work() if num_characters <= _MAX_CHARACTERS_ON_LOOP else await self._threads.run(tenant, work)

    async def render_chat(
        self,
        make_messages: Callable[[], Sequence[dict[str, Any]]],
        num_characters: int,
        *,
        tools: list[dict[str, Any]] | None = None,
        add_generation_prompt: bool = True,
        continue_final_message: bool = False,
        template_arguments: dict[str, Any] | None = None,
        tenant: str = "",
    ) -> tuple[str, set[str]]:
        """The prompt that a chat becomes by the model's template, and the names of arguments that the template never reads.

        ``num_characters`` is the length of all that the template is given.

        Raises:
            InvalidRequestError: the model has no template, or the template refuses these messages or takes too long.
            RequestFailedError: the template works for no conversation.
        """

        def render(timeout_seconds: float) -> tuple[str, set[str]]:
            prompt = self._chat_template.render(
                make_messages(),
                tools,
                add_generation_prompt=add_generation_prompt,
                continue_final_message=continue_final_message,
                variables=template_arguments,
                timeout_seconds=timeout_seconds,
            )
            return prompt, self._chat_template.unread(template_arguments or {})

        from yeoul.text.chat_template import ChatTemplateTimeoutError

        if num_characters <= _MAX_CHARACTERS_ON_LOOP:
            with contextlib.suppress(ChatTemplateTimeoutError):
                return render(_MAX_RENDERING_SECONDS_ON_LOOP)
        return await self._threads.run(tenant, functools.partial(render, self._chat_template_timeout_seconds))

    def detokenizer(
        self, prompt_token_ids: list[int], sampling: SamplingParams, marked: Mapping[int, str]
    ) -> IncrementalDetokenizer:
        """A fresh detokenizer for one choice."""
        from yeoul.text.detokenizer import IncrementalDetokenizer

        return IncrementalDetokenizer(self.tokenizer, prompt_token_ids, sampling, marked)

    def close(self) -> None:
        """Ends the threads; what they are at is finished and forgotten."""
        self._threads.close()


def load_text(model: ServedModel, settings: ModelSettings) -> ModelText:
    """Reads the tokenizer's files, which takes long.

    Raises:
        ConfigError: they are missing or damaged.
    """
    began = time.monotonic()
    from yeoul.model_files.tokenizer_files import load_tokenizer_source
    from yeoul.text.chat_template import ChatTemplate
    from yeoul.text.tokenizer import Tokenizer
    from yeoul.web_process.engine.reranker import find_reranker

    source = load_tokenizer_source(model.files, settings.tokenizer)
    # A file may name an end of answer that the model lacks, and so may a tokenizer of another model: it can never come.
    eos_token_ids = [token_id for token_id in source.eos_token_ids if token_id < model.limits.vocab_size]
    if lacking := [token_id for token_id in source.eos_token_ids if token_id >= model.limits.vocab_size]:
        logger.warning("tokens %s end an answer by the files, but the model has %d tokens", lacking, model.limits.vocab_size)
    source = msgspec.structs.replace(source, eos_token_ids=eos_token_ids)
    tokenizer, template = Tokenizer.load(source), ChatTemplate.load(source, settings.chat_template)
    families = AnswerFamilies.find(template, tokenizer, settings)
    reranker = find_reranker(model.files, settings, template, tokenizer)
    timeout_seconds = settings.chat_template_timeout_seconds
    START.note_beside("tokenizer", time.monotonic() - began)
    return ModelText(tokenizer, template, source.sampling_defaults, timeout_seconds, families, reranker)

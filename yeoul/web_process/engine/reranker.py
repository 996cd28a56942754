"""Reranker: how the served model says whether a document fits a query, found at the start; knows no HTTP and no engine.

``ModelText`` has it where the model is one.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from yeoul.errors import ConfigError, RequestFailedError
from yeoul.messages.outputs import TokenLogprobs
from yeoul.messages.sampling import SamplingParams
from yeoul.model_files.rerank_source import DEFAULT_INSTRUCTION, RerankSource, find_rerank_source
from yeoul.text.chat_template import ChatTemplate, read_template
from yeoul.text.rerank_prompt import RerankPrompt
from yeoul.web_process.engine.admission import MAX_BYTES_A_TOKEN, Limits, check_text_length
from yeoul.web_process.engine.prompt_frame import AS_MANY_AS_FIT

if TYPE_CHECKING:
    from yeoul.config.settings import ModelSettings
    from yeoul.model_files.description import ModelFiles
    from yeoul.text.tokenizer import Tokenizer

logger = logging.getLogger(__name__)

_NUM_TOKENS_AT_SEAMS = 2  # more, where a document's ends are other tokens beside the rest of the prompt than alone


class Pairs(NamedTuple):
    """Queries with documents, to be judged by an instruction of the request's own or by that of the model.

    Documents are cut, at their end, so that a prompt has ``max_prompt_tokens`` at most (or ``AS_MANY_AS_FIT``), and a
    document ``max_document_tokens``. Where both are None they are left whole.
    """

    pairs: Sequence[tuple[str, str]]
    instruction: str | None = None
    max_prompt_tokens: int | None = None
    max_document_tokens: int | None = None

    @property
    def may_cut(self) -> bool:
        """Whether documents are cut."""
        return self.max_prompt_tokens is not None or self.max_document_tokens is not None


class Reranker:
    """``good`` and ``bad`` are the tokens with which it answers."""

    def __init__(self, prompt: RerankPrompt, good: int, bad: int) -> None:
        self.prompt = prompt
        self.good = good
        self.bad = bad

    def render(self, pairs: Pairs, tokenizer: Tokenizer, limits: Limits, timeout_seconds: float) -> list[str]:
        """A prompt for each pair, which takes long for many or for long ones. Errors as for ``RerankPrompt.render``."""
        prompts, rooms = [], dict[str, int]()
        for query, document in pairs.pairs:
            if pairs.may_cut:
                if query not in rooms:
                    rooms[query] = self._measure_room(query, pairs, tokenizer, limits, timeout_seconds)
                document = _cut(document, rooms[query], tokenizer, limits)
            prompt = self.prompt.render(query, document, pairs.instruction, timeout_seconds)
            check_text_length(prompt, limits)
            prompts.append(prompt)
        return prompts

    def _measure_room(self, query: str, pairs: Pairs, tokenizer: Tokenizer, limits: Limits, timeout_seconds: float) -> int:
        """How many tokens a document may have beside the query."""
        most = limits.max_model_len if pairs.max_document_tokens is None else pairs.max_document_tokens
        if pairs.max_prompt_tokens is None:
            return most
        fits = limits.max_model_len - limits.num_answer_tokens
        room = fits if pairs.max_prompt_tokens == AS_MANY_AS_FIT else min(fits, pairs.max_prompt_tokens)
        frame = self.prompt.render(query, "", pairs.instruction, timeout_seconds)
        check_text_length(frame, limits)
        num_frame_tokens = len(tokenizer.encode(frame, add_special_tokens=False))
        return max(0, min(most, room - num_frame_tokens - _NUM_TOKENS_AT_SEAMS))

    @property
    def sampling(self) -> SamplingParams:
        """One token, of which only the log probabilities of both answers are looked at."""
        return SamplingParams(
            max_tokens=1, temperature=0.0, seed=0, ignore_eos=True, logprobs=2, logprob_token_ids=[self.good, self.bad]
        )

    def log_odds(self, entry: TokenLogprobs) -> float:
        """How much likelier the good answer is than the bad one, as a logarithm: the difference of their logits."""
        logprobs = dict(zip(entry.token_ids[1:], entry.logprobs[1:], strict=True))
        good, bad = logprobs.get(self.good), logprobs.get(self.bad)
        if good is None or bad is None:
            raise RequestFailedError("the model told no probability of its answers")
        if good == bad:
            return 0.0  # both may be impossible
        return good - bad


def _cut(document: str, most: int, tokenizer: Tokenizer, limits: Limits) -> str:
    document = document[: MAX_BYTES_A_TOKEN * limits.max_model_len]
    token_ids = tokenizer.encode(document, add_special_tokens=False)
    return document if len(token_ids) <= most else tokenizer.decode(token_ids[:most], skip_special_tokens=False)


def probability(log_odds: float) -> float:
    """Of the good answer, where there is only the other one."""
    if log_odds >= 0:
        return 1.0 / (1.0 + math.exp(-min(log_odds, 700.0)))
    odds = math.exp(max(log_odds, -700.0))
    return odds / (1.0 + odds)


def find_reranker(
    files: ModelFiles, settings: ModelSettings, template: ChatTemplate, tokenizer: Tokenizer
) -> Reranker | None:
    """What the settings say, else the model's files; None for a model that is no reranker. The log has the reason.

    Raises:
        ConfigError: a setting that cannot work.
    """
    is_set = settings.rerank_template is not None or settings.rerank_words is not None
    if is_set:
        source: RerankSource | None = _of_settings(settings)
    else:
        source = find_rerank_source(files)
    if source is None:
        return None
    try:
        good, bad = source.token_ids or _token_ids(source.words or ("yes", "no"), tokenizer)
        prompt = RerankPrompt(_template_of(source, settings, template), DEFAULT_INSTRUCTION)
    except ConfigError as error:
        if is_set:
            raise
        logger.warning("no reranking, although %s says how: %s", source.origin, error.message)
        return None
    words = [tokenizer.token_text(token_id) for token_id in (good, bad)]
    logger.info("reranking by the probabilities of %r and %r: %s", *words, source.origin)
    return Reranker(prompt, good, bad)


def _of_settings(settings: ModelSettings) -> RerankSource:
    words = (settings.rerank_words or "").split(",")
    if settings.rerank_template is None or len(words) != 2 or not all(words):
        raise ConfigError(
            "a reranker needs --rerank-template and --rerank-words, the latter with two words such as yes,no: what it answers"
            " for a document that fits, and for one that does not"
        )
    return RerankSource(origin="--rerank-template", template=settings.rerank_template, words=(words[0], words[1]))


def _template_of(source: RerankSource, settings: ModelSettings, template: ChatTemplate) -> str | ChatTemplate:
    if source.template is None:
        return template
    text = source.template if settings.rerank_template is None else read_template(source.template, "--rerank-template")
    return ChatTemplate(text) if "{{" in text or "{%" in text else text


def _token_ids(words: tuple[str, str], tokenizer: Tokenizer) -> tuple[int, int]:
    """The token of each word.

    Raises:
        ConfigError: a word is none, or several, or both are the same.
    """
    ids = []
    for word in words:
        token_ids = tokenizer.encode(word, add_special_tokens=False)
        if len(token_ids) != 1:
            raise ConfigError(
                f"the word {word!r} is {len(token_ids)} tokens of this model; a reranker answers with one: see --rerank-words"
            )
        ids += token_ids
    if ids[0] == ids[1]:
        raise ConfigError(f"both words of --rerank-words are the token {words[0]!r}; expected two different ones")
    return ids[0], ids[1]

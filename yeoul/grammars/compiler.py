"""GrammarCompiler: from a grammar's text to matchers for one tokenizer; the door checks with it, a worker follows with it.

Compiling happens in a thread of its own, without the interpreter's lock, and what was compiled is kept: copying it for
another answer costs microseconds. Knows no request.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

from yeoul.errors import InvalidRequestError
from yeoul.grammars.limits import MAX_CACHED_GRAMMARS, parser_limits
from yeoul.grammars.matcher import GrammarError, GrammarMatcher

if TYPE_CHECKING:
    import llguidance

    from yeoul.text.tokenizer import Tokenizer


# llguidance descends into a grammar as deep as its rules refer to each other, some kilobytes a level. Pages that are never
# touched cost nothing.
_STACK_BYTES = 1 << 29


class GrammarCompiler:
    """Methods may be called from several threads. ``num_reused``: how often what was wanted had been compiled before.

    Args:
        load_tokenizer: called once, in the compiler's thread, when the first grammar comes.
        vocab_size: of the model, whose last tokens may be padding that the tokenizer does not know.
    """

    def __init__(self, load_tokenizer: Callable[[], Tokenizer], vocab_size: int) -> None:
        self._load_tokenizer = load_tokenizer
        self._vocab_size = vocab_size
        self._tokenizer: llguidance.LLTokenizer | None = None
        self._thread: ThreadPoolExecutor | None = None
        self._lock = threading.Lock()
        self.num_compiled = self.num_reused = self.num_refused = 0
        self._compiled: OrderedDict[str, Future[llguidance.LLMatcher]] = OrderedDict()

    def start(self, grammar: str) -> Future[llguidance.LLMatcher]:
        """Compiles it, unless it is compiled or being compiled. The future's error is an InvalidRequestError.

        Many may wait for it: nobody may cancel it.
        """
        with self._lock:
            future = self._compiled.get(grammar)
            if future is None:
                future = self._keep(grammar)
            else:
                self.num_reused += 1
            self._compiled.move_to_end(grammar)
        return future

    def try_out(self, grammar: str) -> Future[llguidance.LLMatcher]:
        """As ``start``, but nothing is kept."""
        with self._lock:
            return self._submit(grammar)

    def matcher(self, grammar: str) -> GrammarMatcher:
        """A matcher at the beginning of the grammar; waits for the compiler where it has to.

        Raises:
            InvalidRequestError: the grammar's flaw.
        """
        matcher = self.start(grammar).result().deep_copy()
        assert self._tokenizer is not None
        return GrammarMatcher(matcher, frozenset(self._tokenizer.eos_tokens), lambda: self._renewed(grammar))

    def _renewed(self, grammar: str) -> llguidance.LLMatcher:
        """A matcher of a fresh compilation, which takes the place of the kept one."""
        with self._lock:
            future = self._keep(grammar)
        return future.result().deep_copy()

    def _keep(self, grammar: str) -> Future[llguidance.LLMatcher]:
        future = self._compiled[grammar] = self._submit(grammar)
        future.add_done_callback(self._count)
        if len(self._compiled) > MAX_CACHED_GRAMMARS:
            self._compiled.popitem(last=False)
        return future

    def _count(self, future: Future[llguidance.LLMatcher]) -> None:
        """In the compiler's thread."""
        if future.exception() is None:
            self.num_compiled += 1
        else:
            self.num_refused += 1

    def _submit(self, grammar: str) -> Future[llguidance.LLMatcher]:
        if self._thread is None:
            self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="Grammars")
            before = threading.stack_size(_STACK_BYTES)
            try:
                return self._thread.submit(self._compile, grammar)  # which starts the thread
            finally:
                threading.stack_size(before)
        return self._thread.submit(self._compile, grammar)

    def _compile(self, grammar: str) -> llguidance.LLMatcher:
        import llguidance

        if self._tokenizer is None:
            self._tokenizer = library_tokenizer(self._load_tokenizer(), self._vocab_size)
        matcher = llguidance.LLMatcher(self._tokenizer, grammar, log_level=0, limits=parser_limits())
        first = matcher.deep_copy()
        try:
            self._take_first_steps(GrammarMatcher(first, frozenset(), lambda: first))
        except GrammarError as error:
            raise InvalidRequestError(f"the grammar cannot be used: {error}") from None
        return matcher

    def _take_first_steps(self, matcher: GrammarMatcher) -> None:
        """They cost more than those after them: what they find too dear is refused before it is begun."""
        import numpy as np

        mask = np.zeros(-(-self._vocab_size // 32), dtype=np.int32)
        matcher.fill_mask(mask)
        allowed = np.flatnonzero(np.unpackbits(mask.view(np.uint8), bitorder="little"))
        if not len(allowed):
            raise GrammarError("no token can begin an answer that fits it")
        matcher.accept(allowed[:1].tolist())
        matcher.fill_mask(mask)


class _Spelling:
    """What llguidance asks of a tokenizer: the bytes of each token, which are special, and how a text is tokenized."""

    def __init__(self, tokenizer: Tokenizer, vocab_size: int) -> None:
        self.eos_token_id = tokenizer.eos_token_ids[0]
        self.bos_token_id = tokenizer.bos_token_id
        self.tokens = [tokenizer.token_bytes(token_id) for token_id in range(vocab_size)]
        self.special_token_ids = sorted(token_id for token_id in tokenizer.special_token_ids if token_id < vocab_size)
        self._tokenizer = tokenizer

    def __call__(self, text: bytes | str) -> list[int]:
        written = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
        return self._tokenizer.encode(written, add_special_tokens=False)


def library_tokenizer(tokenizer: Tokenizer, vocab_size: int) -> llguidance.LLTokenizer:
    """The vocabulary as llguidance knows it.

    Raises:
        InvalidRequestError: nothing ends an answer.
    """
    import llguidance

    if not tokenizer.eos_token_ids:
        raise InvalidRequestError(
            "the model's files name no end of an answer, without which no grammar can end; see --tokenizer"
        )
    return llguidance.LLTokenizer(
        llguidance.TokenizerWrapper(_Spelling(tokenizer, vocab_size)), eos_token=tokenizer.eos_token_ids
    )

"""AnswerGrammars: a grammar is checked here and compiled in every worker before a request that needs it is handed in.

So no step waits for one to be compiled, but that of a worker which has just taken another's place. Knows
nothing of HTTP; ``AsyncLLM`` holds it.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from yeoul.errors import InvalidRequestError, YeoulError
from yeoul.grammars.compiler import GrammarCompiler
from yeoul.grammars.json_schema import find_flaw
from yeoul.grammars.lark_rules import Reasoning, after_reasoning
from yeoul.grammars.limits import MAX_CACHED_GRAMMARS
from yeoul.grammars.structured_output import StructuredOutput
from yeoul.grammars.tool_calls import SpelledCall, calls_grammar

if TYPE_CHECKING:
    from yeoul.text.tokenizer import Tokenizer
    from yeoul.web_process.engine.answer_families import AnswerFamilies
    from yeoul.web_process.engine.tool_calls import Calls

logger = logging.getLogger(__name__)

_PAUSES_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05)  # between two questions whether the workers have compiled it


class AnswerForm(NamedTuple):
    """What an answer has to be, behind what the model may think first; ``special``: see ``LarkRules``."""

    wanted: StructuredOutput
    reasoning: Reasoning | None = None
    special: Mapping[str, int] = MappingProxyType({})


class AnswerGrammars:
    """``call_workers`` calls a method of every worker; its answer is theirs, one a line."""

    def __init__(
        self, tokenizer: Tokenizer, vocab_size: int, call_workers: Callable[[str, list[str]], Awaitable[str]]
    ) -> None:
        self.compiler = GrammarCompiler(lambda: tokenizer, vocab_size)
        self._call_workers = call_workers
        self._prepared: OrderedDict[str, None] = OrderedDict()

    async def build(self, form: AnswerForm) -> str:
        """The grammar of what a request wants, checked.

        Raises:
            InvalidRequestError: it names the field, and in a schema the place.
        """
        wanted = form.wanted
        grammar = await asyncio.to_thread(wanted.grammar)
        if form.reasoning is not None:
            grammar = after_reasoning(grammar, form.reasoning, form.special)
        try:
            await self._compiled(grammar)
        except InvalidRequestError as error:
            place = await asyncio.to_thread(self._place_of_flaw, wanted)
            raise InvalidRequestError(f"{wanted.field}{place}: {error.message}", param=wanted.field) from None
        return grammar

    async def of_calls(self, calls: Calls, families: AnswerFamilies, opening: str) -> str | None:
        """The grammar of an answer whose calls fit their tools, checked. None: it cannot be had, and need not.

        Raises:
            InvalidRequestError: a tool's parameters are no schema that can be held, or its text follows no grammar.
        """
        spelled = families.check_tools().calls
        wanted = []
        for tool in calls.tools:
            text = "" if tool.text is None else await self.build(AnswerForm(tool.text))
            is_by_schema = tool.text is None or tool.text.kind == "regex"
            spelling = spelled.spelling(tool.name, tool.schema)
            wanted.append(SpelledCall(tool.name, spelling, tool.schema, "" if is_by_schema else text))
        reasoning = families.reasoning_before(opening)

        def build() -> str:
            return calls_grammar(
                wanted, families.special or {}, must_call=calls.must_call, is_single=calls.is_single, reasoning=reasoning
            )

        try:
            grammar = await asyncio.to_thread(build)
            await self._compiled(grammar)
        except InvalidRequestError as error:
            if not calls.is_enforced:
                logger.info("calls are not held to the grammars of their texts: %s", error.message)
                return None
            raise InvalidRequestError(f"tools: {error.message}", param="tools") from None
        return grammar

    async def prepare(self, grammar: str) -> None:
        """Returns when every worker has compiled it. Where workers are being replaced, they will do so when they meet it.

        Raises:
            InvalidRequestError: the grammar's flaw.
        """
        await self._compiled(grammar)
        if grammar not in self._prepared:
            try:
                for pause in itertools.chain(_PAUSES_SECONDS, itertools.repeat(_PAUSES_SECONDS[-1])):
                    if "compiling" not in await self._call_workers("compile_grammar", [grammar]):
                        break
                    await asyncio.sleep(pause)
            except (YeoulError, TimeoutError) as error:
                logger.info("the workers could not be told of a grammar: %s", error)
                return
        self._prepared[grammar] = None
        self._prepared.move_to_end(grammar)
        if len(self._prepared) > MAX_CACHED_GRAMMARS // 2:  # so that a worker still has what is remembered here
            self._prepared.popitem(last=False)

    async def _compiled(self, grammar: str) -> None:
        """Others may wait for the same: whoever gives up cancels nothing."""
        await asyncio.shield(asyncio.wrap_future(self.compiler.start(grammar)))

    def _is_flawed(self, grammar: str) -> bool:
        return self.compiler.try_out(grammar).exception() is not None

    def _place_of_flaw(self, wanted: StructuredOutput) -> str:
        schema = wanted.schema()
        if schema is None:
            return ""
        return f" at {find_flaw(schema, self._is_flawed)}"

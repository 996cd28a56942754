"""AnswerFamilies: how the served model writes calls and reasoning, found at the start, and the readers for its answers.

Knows nothing of HTTP or of the engine. ``ModelText`` has it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from yeoul.errors import InvalidRequestError
from yeoul.grammars.lark_rules import Reasoning
from yeoul.messages.sampling import ThinkingBudget
from yeoul.text.answers.answer_reader import AnswerReader
from yeoul.text.answers.call_writer import ToolSchemas
from yeoul.text.answers.families import ToolFamily, marker_tokens, reasoning_family, tool_family
from yeoul.text.answers.find_family import find_reasoning_family, find_tool_family
from yeoul.text.answers.reasoning import ReasoningFamily
from yeoul.web_process.engine.thinking_marks import ThinkingMarks, find_thinking_marks

if TYPE_CHECKING:
    from yeoul.config.settings import ModelSettings
    from yeoul.text.chat_template import ChatTemplate
    from yeoul.text.tokenizer import Tokenizer

logger = logging.getLogger(__name__)


class CallTally:
    """How many calls of tools answers had: whole ones, and damaged or cut off ones."""

    def __init__(self) -> None:
        self.num_whole = self.num_unfinished = 0

    def note(self, num_calls: int, num_unfinished: int) -> None:
        """An answer had these."""
        self.num_whole += num_calls - num_unfinished
        self.num_unfinished += num_unfinished


@dataclass(frozen=True)
class AnswerFamilies:
    """``marked`` are the tokens that stand in markers, by id; those among them that are special are in ``special``.

    ``thinking_marks`` are None where thoughts cannot be limited.
    """

    tools: ToolFamily | None = None
    reasoning: ReasoningFamily | None = None
    marked: Mapping[int, str] | None = None
    special: Mapping[str, int] | None = None
    thinking_marks: ThinkingMarks | None = None
    tally: CallTally = field(default_factory=CallTally)

    @classmethod
    def find(cls, template: ChatTemplate, tokenizer: Tokenizer, settings: ModelSettings) -> AnswerFamilies:
        """What the settings say, else what the template and the vocabulary tell; the log has the reasons.

        Raises:
            ConfigError: a name that is not known.
        """
        added = tokenizer.added_tokens
        texts = frozenset(added.values())
        tools, reasoning = None, None
        if settings.tool_call_parser == "auto":
            found_tools = find_tool_family(template.tool_source, texts)
            tools = found_tools.family
            logger.info("%s", found_tools.reason)
        elif settings.tool_call_parser != "none":
            tools = tool_family(settings.tool_call_parser)
        if settings.reasoning_parser == "auto":
            found_reasoning = find_reasoning_family(template.source, texts)
            reasoning = found_reasoning.family
            logger.info("%s", found_reasoning.reason)
        elif settings.reasoning_parser != "none":
            reasoning = reasoning_family(settings.reasoning_parser)
        markers = marker_tokens(tools, reasoning, texts)
        marked = {token_id: text for token_id, text in added.items() if text in markers}
        special = {text: token_id for token_id, text in marked.items() if token_id in tokenizer.special_token_ids}
        return cls(tools, reasoning, marked, special, find_thinking_marks(tokenizer, reasoning, tools))

    def check_tools(self) -> ToolFamily:
        """The family of tool calls.

        Raises:
            InvalidRequestError: the model has none that is known.
        """
        if self.tools is None:
            raise InvalidRequestError(
                "this model's chat template takes no tools, or of no known kind: leave tools out, or start the server with"
                " --chat-template and --tool-call-parser",
                param="tools",
            )
        return self.tools

    def reasoning_before(self, opening: str) -> Reasoning | None:
        """What may be thought before an answer, for a grammar."""
        family = self.reasoning
        return None if family is None else Reasoning(family.begin, family.end, family.is_open_after(opening))

    def thinking_budget(self, num_tokens: int, opening: str) -> ThinkingBudget | None:
        """What may be thought before an answer; None where it cannot be limited."""
        if self.reasoning is None or self.thinking_marks is None:
            return None
        return self.thinking_marks.budget(num_tokens, is_open=self.reasoning.is_open_after(opening))

    def reader(self, schemas: ToolSchemas | None, opening: str) -> AnswerReader:
        """For one choice. ``schemas`` None: no tools are offered, and what looks like a call is text."""
        return AnswerReader(
            self.tools if schemas is not None else None,
            self.reasoning,
            schemas=schemas or {},
            marked=frozenset((self.marked or {}).values()),
            opening=opening,
            on_calls=self.tally.note,
        )


def opening_of(prompt: str, bare_prompt: str) -> str:
    """What the template writes behind the last message, which may open reasoning.

    ``bare_prompt`` is the conversation without it, as the template renders that.
    """
    if prompt.startswith(bare_prompt):
        return prompt[len(bare_prompt) :]
    pairs = enumerate(zip(prompt, bare_prompt, strict=False))
    return prompt[next((place for place, (one, other) in pairs if one != other), len(bare_prompt)) :]

"""How the messages of ``/v1/messages`` become those that chat templates know; knows no template and no HTTP.

What order of roles a template takes, the template knows (``text/message_order.py``).
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from yeoul.web_process.anthropic.schemas.content import Block, Inner, InnerBlock, Message
from yeoul.web_process.engine.tool_calls import OfferedTool

# Claude Code puts this before its system prompt, for Anthropic's bills. It differs from session to session, and with it
# would everything behind it.
_BILLING = "x-anthropic-billing-header:"

Turn = dict[str, Any]


class Turns:
    """Makes the messages of one request. Texts that follow each other in a message are joined by a line break.

    Args:
        deferred: tools that the model is told of only where a ``tool_reference`` first names them.
    """

    def __init__(self, deferred: Mapping[str, OfferedTool]) -> None:
        self._not_shown = dict(deferred)
        self._names: dict[str, str] = {}  # of the tools that were called, by the id of the call

    def make(self, system: Inner | None, messages: Sequence[Message]) -> list[Turn]:
        """The messages for a template."""
        turns: list[Turn] = []
        instructions = [] if system is None else self._texts(system)
        if text := "\n".join(one for one in instructions if not one.startswith(_BILLING)):
            turns.append({"role": "system", "content": text})
        for message in messages:
            if message.role == "assistant":
                turns.append(self._answer(message.blocks))
            else:
                turns += self._ask(message.role, message.blocks)
        return turns

    def _ask(self, role: str, blocks: Sequence[Block]) -> list[Turn]:
        """Results of tools are messages of their own."""
        turns: list[Turn] = []
        for is_result, group in itertools.groupby(blocks, lambda block: block.type == "tool_result"):
            if is_result:
                turns += map(self._result, group)
            else:
                turns.append({"role": role, "content": "\n".join(map(self._text, group))})
        return turns or [{"role": role, "content": ""}]

    def _answer(self, blocks: Iterable[Block]) -> Turn:
        """Thoughts that nobody can read (``redacted_thinking``) are left out."""
        texts: list[str] = []
        thoughts: list[str] = []
        calls: list[dict[str, Any]] = []
        for block in blocks:
            match block.type:
                case "thinking":
                    thoughts.append(block.thinking or "")
                case "tool_use":
                    self._names[block.id or ""] = block.name or ""
                    function = {"name": block.name, "arguments": block.input}
                    calls.append({"id": block.id, "type": "function", "function": function})
                case "redacted_thinking":
                    continue
                case _:
                    texts.append(self._text(block))
        turn: Turn = {"role": "assistant", "content": "\n".join(texts)}
        if thoughts:
            turn["reasoning_content"] = "\n".join(thoughts)
        return {**turn, "tool_calls": calls} if calls else turn

    def _result(self, block: Block) -> Turn:
        """No template knows of errors: a result that is one says so."""
        text = "" if block.content is None else "\n".join(self._texts(block.content))
        if block.is_error:
            text = f"Error: {text}" if text else "Error"
        turn = {"role": "tool", "tool_call_id": block.tool_use_id, "content": text}
        name = self._names.get(block.tool_use_id or "")
        return {**turn, "name": name} if name else turn

    def _texts(self, content: Inner | Sequence[InnerBlock]) -> list[str]:
        return [content] if isinstance(content, str) else [self._text(block) for block in content]

    def _text(self, block: InnerBlock) -> str:
        """A document is its text behind its title; a tool's first reference the tool, as templates show tools."""
        match block.type:
            case "document":
                return "\n".join(filter(None, (block.title, block.context, (block.source or {}).get("data"))))
            case "tool_reference":
                tool = self._not_shown.pop(block.tool_name or "", None)
                if tool is None:
                    return f"The tool {block.tool_name} is there."
                return json.dumps(tool.for_template(), ensure_ascii=False)
        return block.text or ""

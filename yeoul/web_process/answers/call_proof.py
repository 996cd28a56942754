"""CallProof: whether calls work with the served model, tried once after the start: render, a constrained call, parse, render.

The family of a model's calls is found from its template and vocabulary, which can mislead. ``server.py`` runs the proof;
the log and ``/v1/models`` tell what came of it. Knows no HTTP.
"""

from __future__ import annotations

import json
import logging
from typing import Any, Literal

from yeoul.errors import YeoulError
from yeoul.messages.sampling import SamplingParams
from yeoul.text.answers.parts import CallArguments, CallBegin
from yeoul.web_process.answers.choice_reader import ChoiceReader
from yeoul.web_process.answers.conversation import Conversation, render, start_chat
from yeoul.web_process.engine.served_name import ServedName
from yeoul.web_process.engine.service_terms import ServiceTerms
from yeoul.web_process.engine.tool_calls import OfferedTool, ToolChoice, choose_calls

logger = logging.getLogger(__name__)

_CITIES = ["Seoul", "Busan"]
_TOOL = OfferedTool(
    "get_weather",
    {
        "type": "object",
        "properties": {
            "city": {"type": "string", "enum": _CITIES},
            "days": {"type": "integer", "minimum": 1, "maximum": 9},
        },
        "required": ["city", "days"],
        "additionalProperties": False,
    },
    "The weather of a city in the next days.",
)
_QUESTION = {"role": "user", "content": "How will the weather in Seoul be in the next 3 days?"}
_RESULT = "sunny, later a thunderstorm"
_MAX_TOKENS = 512  # some models think first
_TERMS = ServiceTerms(cache_salt="health", tenant="health")


class UnprovenError(Exception):
    """A step of the proof did not give what it should."""


class CallProof:
    """``state`` is ``none`` where the model takes no tools, ``pending`` until the proof is made; ``reason`` of a failure."""

    def __init__(self) -> None:
        self.state: Literal["none", "pending", "proven", "failed"] = "pending"
        self.reason = ""

    async def run(self, model: ServedName) -> None:
        """Makes the proof; whatever goes wrong in it is its result."""
        family = model.llm.text.families.tools
        if family is None:
            self.state = "none"
            return
        try:
            await _prove(model)
        except Exception as error:
            known = isinstance(error, UnprovenError | YeoulError)
            self.reason = str(error) if known else f"{type(error).__name__}: {error}"
            advice = "--tool-call-parser and --chat-template say otherwise"
            logger.warning("tool calls %s: not proven: %s; %s", family.name, self.reason, advice)
            self.state = "failed"
        else:
            logger.info("tool calls %s: proven: a call was rendered, made, read and rendered again", family.name)
            self.state = "proven"


async def _prove(model: ServedName) -> None:
    conversation = _conversation([_QUESTION])
    shown, _ = await render(model, conversation, _TERMS)
    if _TOOL.name not in shown:
        raise UnprovenError("the chat template does not show the tools that it is given")
    arguments = await _call(model, conversation)
    call = {"id": "call00001", "type": "function", "function": {"name": _TOOL.name, "arguments": json.dumps(arguments)}}
    said = {"role": "assistant", "content": "", "tool_calls": [call]}
    result = {"role": "tool", "tool_call_id": "call00001", "name": _TOOL.name, "content": _RESULT}
    repeated, _ = await render(model, _conversation([_QUESTION, said, result]), _TERMS)
    if _RESULT not in repeated or arguments["city"] not in repeated.replace(str(_QUESTION["content"]), ""):
        raise UnprovenError("the chat template leaves out calls that were made, or their results")


async def _call(model: ServedName, conversation: Conversation) -> dict[str, Any]:
    """The arguments of the one call that the model has to make."""
    chat = await start_chat(model, conversation, _TERMS)
    try:
        (output,) = await chat.stream.collect()
    finally:
        chat.stream.close()
    assert chat.make_reader is not None
    reader = ChoiceReader(chat.make_reader(), model.llm.text.tokenizer)
    parts = reader.parts(output)
    written = f"the model wrote {output.text[:200]!r}"
    if output.finish_reason == "length":
        raise UnprovenError(f"no call was complete after {output.num_output_tokens} tokens: {written}")
    if [part.name for part in parts if isinstance(part, CallBegin)] != [_TOOL.name]:
        raise UnprovenError(f"no call of {_TOOL.name} was read where there has to be one: {written}")
    arguments: dict[str, Any]
    try:
        arguments = json.loads("".join(part.text for part in parts if isinstance(part, CallArguments)))
    except ValueError:
        raise UnprovenError(f"the arguments that were read are not JSON: {written}") from None
    if set(arguments) != {"city", "days"} or arguments["city"] not in _CITIES or arguments["days"] not in range(1, 10):
        raise UnprovenError(f"the arguments do not fit the tool: {json.dumps(arguments)[:200]}")
    return arguments


def _conversation(messages: list[dict[str, Any]]) -> Conversation:
    return Conversation(
        messages=lambda: messages,
        num_bytes=1024,
        sampling=SamplingParams(temperature=0.0, seed=0, max_tokens=_MAX_TOKENS),
        tools=[_TOOL],
        calls=choose_calls([_TOOL], ToolChoice("required", is_single=True)),
        template_arguments={"enable_thinking": False, "reasoning_effort": "low"},
    )

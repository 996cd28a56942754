"""Conversation: what a chat asks for, whatever API it came by, and its way into the engine; knows no HTTP and no API."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import msgspec

from yeoul.errors import InvalidRequestError
from yeoul.grammars.structured_output import StructuredOutput
from yeoul.messages.outputs import RequestOutput
from yeoul.messages.sampling import SamplingParams
from yeoul.text.answers.answer_reader import AnswerReader
from yeoul.web_process.answers.custom_tools import TEXT_GRAMMARS
from yeoul.web_process.answers.lease_marks import LeaseMark, length_of_common_beginning
from yeoul.web_process.engine.admission import check_text_length, named_as
from yeoul.web_process.engine.answer_families import opening_of
from yeoul.web_process.engine.answer_grammars import AnswerForm
from yeoul.web_process.engine.prompt_frame import PLAIN_FRAME, PromptFrame
from yeoul.web_process.engine.prompt_leases import PromptLease
from yeoul.web_process.engine.request_stream import RequestStream
from yeoul.web_process.engine.served_name import ServedName
from yeoul.web_process.engine.service_terms import ServiceTerms
from yeoul.web_process.engine.ticket import guess_num_tokens
from yeoul.web_process.engine.tool_calls import Calls, OfferedTool


@dataclass(frozen=True, kw_only=True)
class Conversation:
    """
    Attributes:
        messages: makes them as chat templates know them; called in a thread.
        num_bytes: the size of the request: what its text may cost.
        sampling: without the form of the answer.
        tools: what the template is told of.
        calls: which of them the answer may call.
        wanted: what the answer has to be.
        template_arguments: what the template is told besides.
        must_read: those of them without which the answer would be another.
        has_opening: the template writes the beginning of an answer behind the last message.
        is_continued: the answer goes on with the text of the last message.
        thinking_budget: how many tokens may be thought; where the model's thoughts cannot be limited it counts as unread.
        frame: what becomes of the prompt's tokens.
        field: of the request, that has the messages.
        made: of the answer before, see ``AsyncLLM.submit``.
        leases: which parts will be sent again.
    """

    messages: Callable[[], list[dict[str, Any]]]
    num_bytes: int
    sampling: SamplingParams
    tools: list[OfferedTool] = field(default_factory=list)
    calls: Calls | None = None
    wanted: StructuredOutput | None = None
    template_arguments: dict[str, Any] = field(default_factory=dict)
    must_read: frozenset[str] = frozenset()
    has_opening: bool = True
    is_continued: bool = False
    thinking_budget: int | None = None
    frame: PromptFrame = PLAIN_FRAME
    add_special_tokens: bool = False
    field: str = "messages"
    made: Sequence[RequestOutput] | None = None
    leases: Sequence[LeaseMark] = ()


class StartedChat(NamedTuple):
    """The stream of an answer; what makes a reader for each choice (None where an answer is text and nothing else); the
    arguments that the template did not read.
    """

    stream: RequestStream
    make_reader: Callable[[], AnswerReader] | None
    unread: set[str]


async def start_chat(model: ServedName, conversation: Conversation, terms: ServiceTerms) -> StartedChat:
    """Renders the conversation, finds what the answer may call and has to be, and hands it all in.

    Errors as for ``AsyncLLM.submit``.
    """
    llm, calls, sampling = model.llm, conversation.calls, conversation.sampling
    families = llm.text.families
    num_tokens = sampling.n * guess_num_tokens(conversation.num_bytes)
    with llm.take_ticket(terms, sampling.n, num_tokens) as ticket:
        async with ticket.in_time():
            prompt, unread = await render(model, conversation, terms)
            leases = await _find_leases(model, conversation, prompt, terms)
            opening = ""
            if families.reasoning is not None and (conversation.has_opening or conversation.is_continued):
                opening = opening_of(prompt, await _render_without_answer(model, conversation, terms))
            if calls is not None and calls.is_held and (calls.is_enforced or conversation.wanted is None):
                grammar = await llm.grammars.of_calls(calls, families, opening)
                sampling = msgspec.structs.replace(sampling, grammar=grammar)
                unread |= {TEXT_GRAMMARS} if grammar is None else set()
            if conversation.thinking_budget is not None:
                budget = families.thinking_budget(conversation.thinking_budget, opening)
                sampling = msgspec.structs.replace(sampling, thinking_budget=budget)
                unread |= {"thinking_budget"} if budget is None else set()
        make_reader = None
        if calls is not None or families.reasoning is not None:
            schemas = None if calls is None else {tool.name: tool.schema for tool in calls.tools}
            make_reader = functools.partial(families.reader, schemas, opening)
        form = None
        if conversation.wanted is not None:
            form = AnswerForm(conversation.wanted, families.reasoning_before(opening), families.special or {})
        with named_as(conversation.field):
            stream = await llm.submit(
                [prompt],
                sampling,
                ticket=ticket,
                add_special_tokens=conversation.add_special_tokens,
                marked=families.marked if make_reader is not None else None,
                form=form,
                frame=conversation.frame,
                made=conversation.made,
                leases=leases,
            )
    return StartedChat(stream, make_reader, unread)


async def _render_without_answer(model: ServedName, conversation: Conversation, terms: ServiceTerms) -> str:
    """The prompt up to where the answer begins, be it in the opening or in the last message."""
    if not conversation.is_continued:
        return (await _render(model, replace(conversation, has_opening=False), terms))[0]
    before = replace(conversation, messages=lambda: conversation.messages()[:-1], is_continued=False, has_opening=False)
    try:
        return (await _render(model, before, terms))[0]
    except InvalidRequestError:  # a template may take no conversation without the last message
        return ""


async def read_chat(model: ServedName, conversation: Conversation, terms: ServiceTerms) -> tuple[list[int], set[str]]:
    """The tokens of the prompt, however many, without an answer; the rest as ``render``."""
    with model.llm.take_ticket(terms, 1, guess_num_tokens(conversation.num_bytes)) as ticket:
        async with ticket.in_time():
            prompt, unread = await render(model, conversation, terms)
            with named_as(conversation.field):
                check_text_length(prompt, model.llm.limits)
            return await model.llm.text.encode(prompt, conversation.add_special_tokens, terms.tenant), unread


async def _find_leases(model: ServedName, conversation: Conversation, prompt: str, terms: ServiceTerms) -> list[PromptLease]:
    """Where the parts that leases are for end in ``prompt``. One that the template leaves out has no lease."""
    leases = []
    for seconds, make_marked in conversation.leases:
        if make_marked is None:
            leases.append(PromptLease(seconds))
        elif (marked := (await render(model, make_marked(), terms))[0]) != prompt:
            leases.append(PromptLease(seconds, length_of_common_beginning(prompt, marked)))
    return leases


async def render(model: ServedName, conversation: Conversation, terms: ServiceTerms) -> tuple[str, set[str]]:
    """The prompt that the model's template makes of it, and the arguments that the template did not read.

    Raises:
        InvalidRequestError: the template, or the model, cannot do with what the answer depends on.
    """
    if conversation.calls is not None:
        model.llm.text.families.check_tools()
    prompt, unread = await _render(model, conversation, terms)
    if ignored := conversation.must_read & unread:
        raise InvalidRequestError(
            f"this model's chat template reads no {min(ignored)}: leave them out, or put them into a message",
            param=min(ignored),
        )
    return prompt, unread


async def _render(model: ServedName, conversation: Conversation, terms: ServiceTerms) -> tuple[str, set[str]]:
    return await model.llm.text.render_chat(
        conversation.messages,
        conversation.num_bytes,
        tools=[tool.for_template() for tool in conversation.tools] or None,
        add_generation_prompt=conversation.has_opening and not conversation.is_continued,
        continue_final_message=conversation.is_continued,
        template_arguments=conversation.template_arguments,
        tenant=terms.tenant,
    )

"""shortened(): what is left of a conversation that the model's context may not hold, for ``truncation: "auto"``.

The oldest turns go, whole ones, as few as will do; what rules the conversation and what was asked last stays. What is left
follows from the request alone. Knows no HTTP and no store.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from yeoul.errors import PromptTooLongError
from yeoul.web_process.answers.conversation import Conversation, render
from yeoul.web_process.engine.admission import check_text_length
from yeoul.web_process.engine.served_name import ServedName
from yeoul.web_process.engine.service_terms import ServiceTerms
from yeoul.web_process.engine.ticket import guess_num_tokens
from yeoul.web_process.responses.schemas.input_items import InputItem

SHARE_OF_ANSWER = 4  # a quarter of the context is room enough for an answer


async def shortened(
    model: ServedName,
    items: Sequence[InputItem],
    conversation_of: Callable[[list[InputItem]], Conversation],
    terms: ServiceTerms,
) -> list[InputItem]:
    """The items that fit beside an answer, or the fewest that there can be. Errors as for ``render``."""
    llm, turns = model.llm, turns_to_drop(items)
    whole = conversation_of(list(items))
    quarter = llm.limits.max_model_len // SHARE_OF_ANSWER
    most = llm.limits.max_model_len - max(1, min(whole.sampling.max_tokens or quarter, quarter))

    async def fits(left: list[InputItem]) -> bool:
        prompt, _ = await render(model, conversation_of(left), terms)
        try:
            check_text_length(prompt, llm.limits)
        except PromptTooLongError:
            return False
        return len(await llm.text.encode(prompt, whole.add_special_tokens, terms.tenant)) <= most

    with llm.take_ticket(terms, 1, guess_num_tokens(whole.num_bytes)) as ticket:
        async with ticket.in_time():
            too_few, enough = -1, len(turns)  # of turns that are dropped
            while enough - too_few > 1:
                middle = (too_few + enough) // 2
                if await fits(_without(items, turns[:middle])):
                    enough = middle
                else:
                    too_few = middle
    return _without(items, turns[:enough])


def turns_to_drop(items: Sequence[InputItem]) -> list[list[int]]:
    """The places of what may be dropped, in the order in which it goes.

    First what each earlier question began, so that a question stands first in what is left; then, of what has come since the
    last question, round by round the calls with their outputs, but for the last round.
    """
    questions = [place for place, item in enumerate(items) if item.kind == "message" and item.role == "user"]
    last = questions[-1] if questions else -1
    earlier: list[list[int]] = [[]]
    since: list[list[int]] = [[]]
    for place, item in enumerate(items):
        if place == last or (item.kind == "message" and item.role in ("system", "developer")):
            continue
        if place < last:
            if item.kind == "message" and item.role == "user":
                earlier.append([])
            earlier[-1].append(place)
        else:
            if since[-1] and _is_output(items[since[-1][-1]]) and not _is_output(item):
                since.append([])
            since[-1].append(place)
    return [turn for turn in [*earlier, *since[:-1]] if turn]


def _is_output(item: InputItem) -> bool:
    return item.kind in ("function_call_output", "custom_tool_call_output") or item.role == "tool"


def _without(items: Sequence[InputItem], turns: Sequence[Sequence[int]]) -> list[InputItem]:
    dropped = {place for turn in turns for place in turn}
    return [item for place, item in enumerate(items) if place not in dropped]

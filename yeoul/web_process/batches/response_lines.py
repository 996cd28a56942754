"""start_line_response(): a line of a batch for ``/v1/responses``, which is answered and not kept; knows no file."""

from __future__ import annotations

from yeoul.errors import InvalidRequestError
from yeoul.web_process.engine.request_stream import RequestStream
from yeoul.web_process.openai.started_answers import MakeTerms, StartedAnswer
from yeoul.web_process.responses.new_responses import start_response
from yeoul.web_process.responses.response_format import ResponseFormat
from yeoul.web_process.responses.response_object import ResponseName, ResponseObject
from yeoul.web_process.responses.schemas.input_items import items_of
from yeoul.web_process.responses.schemas.response_request import ResponseRequest
from yeoul.web_process.server_context import ServerContext


async def start_line_response(
    context: ServerContext, body: ResponseRequest, num_bytes: int, make_terms: MakeTerms
) -> StartedAnswer[ResponseFormat, RequestStream]:
    """Answers the request of a line; ``num_bytes`` is the size of its body. Errors as for ``AsyncLLM.submit``.

    Raises:
        InvalidRequestError: also for what is about things that are kept: an output file is all that a batch has.
    """
    items = items_of(body.input)
    asked = {
        "store": body.store,
        "background": body.background,
        "previous_response_id": body.previous_response_id,
        "conversation": body.conversation,
        "input": any(item.kind == "item_reference" for item in items),
    }
    for field, value in asked.items():
        if value:
            raise InvalidRequestError(
                "responses of a batch are not kept, and go on from none that is: leave store, background,"
                " previous_response_id, conversation and references to items out",
                param=field,
            )
    body.store = False
    model = await context.find_model(body.model)
    response = ResponseObject(ResponseName.fresh(), body, model.name, context.to_sampling(body, model))
    started = await start_response(model, response, items, num_bytes, make_terms(body, model))
    return StartedAnswer(started.stream, lambda: started.answer, started.without_effect)

"""start_scores(): how well documents fit queries, by what the model would answer to each pair; knows no HTTP and no API."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from yeoul.errors import InvalidRequestError
from yeoul.web_process.engine.generation_output import GenerationOutput
from yeoul.web_process.engine.portions import Portions, submit_portions
from yeoul.web_process.engine.request_stream import RequestStream
from yeoul.web_process.engine.reranker import Pairs, Reranker
from yeoul.web_process.engine.served_name import ServedName
from yeoul.web_process.engine.service_terms import ServiceTerms
from yeoul.web_process.engine.ticket import guess_num_tokens


class StartedScores(NamedTuple):
    """The answers to all pairs, and who reads them."""

    stream: Portions
    reranker: Reranker

    def log_odds(self, outputs: Iterable[GenerationOutput]) -> list[float]:
        """How much likelier it is that a document fits than that it does not, as logarithms, in the order of the pairs."""
        return [self.reranker.log_odds(output.logprobs[0]) for output in outputs]


async def start_scores(model: ServedName, pairs: Pairs, terms: ServiceTerms) -> StartedScores:
    """Hands in a prompt for each pair; no more of them are made at a time than are handed in.

    Raises:
        InvalidRequestError: the model is no reranker. Else as for ``AsyncLLM.submit``.
    """
    llm, reranker = model.llm, model.llm.text.reranker
    if reranker is None:
        raise InvalidRequestError(
            f"{model.name!r} is no reranker, as far as its files tell: serve one, such as Qwen3-Reranker, or start the server"
            " with --rerank-template and --rerank-words",
            param="model",
        )
    sizes = [len(query) + len(document) for query, document in pairs.pairs]

    async def submit(some: Sequence[tuple[str, str]]) -> RequestStream:
        num_tokens = guess_num_tokens(sum(len(query) + len(document) for query, document in some))
        with llm.take_ticket(terms, len(some), num_tokens) as ticket:
            async with ticket.in_time():
                prompts = await llm.text.render_pairs(pairs._replace(pairs=some), llm.limits, terms.tenant)
            return await llm.submit(prompts, reranker.sampling, ticket=ticket, add_special_tokens=False)

    return StartedScores(await submit_portions(pairs.pairs, sizes, llm.max_num_prompts, submit), reranker)

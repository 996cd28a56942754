"""How answers of ``/v1/score`` and of both rerank routes are written; knows no engine and no socket."""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from typing import Any

from yeoul.web_process.engine.reranker import probability
from yeoul.web_process.openai.json_writing import encode_json
from yeoul.web_process.openai.schemas.scores import RerankRequest, ScoreRequest


def write_scores(body: ScoreRequest, name: str, log_odds: Sequence[float], num_tokens: int) -> bytes:
    """The scores of pairs, in their order; ``name`` is that of the model, ``num_tokens`` of all prompts."""
    data = [
        {"index": index, "object": "score", "score": value if body.use_activation is False else probability(value)}
        for index, value in enumerate(log_odds)
    ]
    head = {"id": f"score-{uuid.uuid4().hex}", "object": "list", "created": int(time.time()), "data": data}
    return encode_json(head | _about(name, num_tokens))


def write_ranks(body: RerankRequest, name: str, log_odds: Sequence[float], num_tokens: int, *, has_documents: bool) -> bytes:
    """The documents, the best first; ``has_documents`` where the request does not say whether their texts are wanted."""
    order = sorted(range(len(log_odds)), key=lambda index: -log_odds[index])[: body.top_n or None]
    is_raw = body.raw_scores is True or body.use_activation is False
    scores = {index: log_odds[index] if is_raw else probability(log_odds[index]) for index in order}
    documents = body.judged()
    if body.is_of_tei:
        texts = {index: {"text": documents[index]} for index in order if body.return_text}
        return encode_json([{"index": index, "score": scores[index], **texts.get(index, {})} for index in order])
    if body.return_documents is not None:
        has_documents = body.return_documents
    results: list[dict[str, Any]] = []
    for index in order:
        result: dict[str, Any] = {"index": index, "relevance_score": scores[index]}
        if has_documents:
            result["document"] = {"text": documents[index]}
        results.append(result)
    meta = {"api_version": {"version": "2"}, "billed_units": {"search_units": 1}}  # Cohere's clients read it
    return encode_json({"id": f"rerank-{uuid.uuid4().hex}", "results": results, "meta": meta} | _about(name, num_tokens))


def _about(name: str, num_tokens: int) -> dict[str, Any]:
    return {"model": name, "usage": {"prompt_tokens": num_tokens, "total_tokens": num_tokens}}

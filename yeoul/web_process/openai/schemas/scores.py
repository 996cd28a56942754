"""The requests of ``/v1/score``, ``/v1/rerank`` and ``/v2/rerank``; knows nothing of routes or the engine."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta

from yeoul.errors import InvalidRequestError
from yeoul.messages.sampling import Count
from yeoul.web_process.engine.prompt_frame import AS_MANY_AS_FIT, NumTokensLeft
from yeoul.web_process.engine.reranker import Pairs
from yeoul.web_process.http.openapi import says
from yeoul.web_process.http.request_body import ServedBody

MAX_NUM_DOCUMENTS = 2048
_TEXT_SCHEMA: dict[str, Any] = {
    "anyOf": [
        {"type": "string"},
        {"type": "object", "properties": {"text": {"type": "string", "description": "The text."}}, "required": ["text"]},
    ]
}
OneOrMore = Annotated[
    Any, Meta(extra_json_schema={"anyOf": [{"type": "string"}, {"type": "array", "items": _TEXT_SCHEMA, "minItems": 1}]})
]
"""Strings, or objects with a ``text``; a string alone is the same as a list of it."""
# The names that servers have for what is compared with what.
_SIDES = (("text_1", "text_2"), ("queries", "documents"), ("queries", "items"), ("data_1", "data_2"))


class JudgingBody(ServedBody, kw_only=True):
    """What scores and ranks share."""

    instruction: Annotated[str | None, says("What a good document is, for models whose prompt has a place for it.")] = None
    truncate_prompt_tokens: NumTokensLeft | None = None
    truncation_side: Annotated[Literal["right"] | None, says("Documents are cut at their end.")] = None
    use_activation: Annotated[
        bool | None,
        says("Whether a score is a probability, which is the default, or the difference of both log probabilities."),
    ] = None


class ScoreRequest(JudgingBody, kw_only=True):
    """vLLM's: one text with one, one with several, or as many with as many."""

    text_1: Annotated[OneOrMore | None, says("One text, or as many as in `text_2`.")] = None
    text_2: Annotated[OneOrMore | None, says("What each is compared with.")] = None
    queries: Annotated[OneOrMore | None, says("The same as `text_1`.")] = None
    documents: Annotated[OneOrMore | None, says("The same as `text_2`.")] = None
    items: Annotated[OneOrMore | None, says("The same as `text_2`.")] = None
    data_1: Annotated[OneOrMore | None, says("The same as `text_1`.")] = None
    data_2: Annotated[OneOrMore | None, says("The same as `text_2`.")] = None

    def __post_init__(self) -> None:
        self.pairs()

    def pairs(self) -> Pairs:
        """What is judged.

        Raises:
            InvalidRequestError: a side is missing, no texts, or the numbers do not match.
        """
        names = dict.fromkeys(name for sides in _SIDES for name in sides)
        said = {name: _texts(name, value) for name in names if (value := getattr(self, name)) is not None}
        for first, second in _SIDES:
            if first in said and second in said:
                left, right = said[first], said[second]
                if len(left) == 1:
                    left *= len(right)
                if len(left) != len(right):
                    raise InvalidRequestError(
                        f"{first} has {len(left)} texts and {second} {len(right)}; expected one in {first}, or as many",
                        param=first,
                    )
                return Pairs(list(zip(left, right, strict=True)), self.instruction, self.truncate_prompt_tokens)
        raise InvalidRequestError("expected text_1 and text_2, or queries and documents", param="text_1")


class RerankRequest(JudgingBody, kw_only=True):
    """Jina's and Cohere's form with ``documents``; with ``texts`` that of text-embeddings-inference."""

    query: Annotated[str, says("What is looked for.")]
    documents: Annotated[OneOrMore | None, says("The texts that are judged, as Jina and Cohere name them.")] = None
    texts: Annotated[
        OneOrMore | None,
        says("The texts that are judged, as text-embeddings-inference names them: the answer is a bare list."),
    ] = None
    top_n: Annotated[Count | None, says("So many of the best are in the answer; 0, or nothing: all.")] = None
    return_documents: Annotated[
        bool | None, says("Whether the answer has the documents; default: yes, but not at `/v2/rerank`.")
    ] = None
    max_tokens_per_doc: (
        Annotated[int, Meta(ge=1, le=2**31 - 1, description="Of a longer document only so many tokens are read.")] | None
    ) = None
    return_text: Annotated[bool | None, says("Whether the answer has the `texts`.")] = None
    raw_scores: Annotated[
        bool | None, says("Whether a score is the difference of both log probabilities in place of the probability.")
    ] = None
    truncate: Annotated[bool | None, says("Whether documents that do not fit are cut at their end.")] = None

    def __post_init__(self) -> None:
        if (self.documents is None) == (self.texts is None):
            raise InvalidRequestError("expected documents, or texts", param="documents")
        self.judged()

    @property
    def is_of_tei(self) -> bool:
        """Whether the answer is a bare list."""
        return self.texts is not None

    def judged(self) -> list[str]:
        """The documents as texts. Raises InvalidRequestError for what is none."""
        return _texts("texts", self.texts) if self.is_of_tei else _texts("documents", self.documents)

    def pairs(self) -> Pairs:
        """What is judged."""
        pairs = [(self.query, document) for document in self.judged()]
        max_prompt_tokens = AS_MANY_AS_FIT if self.truncate else self.truncate_prompt_tokens
        return Pairs(pairs, self.instruction, max_prompt_tokens, self.max_tokens_per_doc)


def _texts(field: str, value: object) -> list[str]:
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, list) or not value:
        raise InvalidRequestError(f"{field} has to be a list of texts, one at least", param=field)
    if len(value) > MAX_NUM_DOCUMENTS:
        raise InvalidRequestError(f"{field} has {len(value)} entries; expected at most {MAX_NUM_DOCUMENTS}", param=field)
    texts = [entry.get("text") if isinstance(entry, dict) else entry for entry in value]
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise InvalidRequestError(
                f"{field}.{index}: expected a string, or an object with a text; this model reads text only",
                param=f"{field}.{index}",
            )
    return texts  # type: ignore[return-value]

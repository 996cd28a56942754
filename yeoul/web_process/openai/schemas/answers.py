"""What routes answer that make no text, for ``/openapi.json``; knows no route. Chats and completions: ``text_answers.py``."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, UnsetType

from yeoul.messages.sampling import SamplingParams
from yeoul.web_process.http.openapi import Count, UnixTime, says
from yeoul.web_process.openai.schemas.models import StatusOfModel


class PromptUsage(msgspec.Struct, kw_only=True):
    """How many tokens there were, of prompts alone."""

    prompt_tokens: Annotated[Count, says("Of all inputs.")]
    total_tokens: Annotated[Count, says("The same, since nothing was written.")]


_USAGE = says("How many tokens there were.")


class Embedding(msgspec.Struct, kw_only=True):
    """The vector of an input."""

    object: Annotated[Literal["embedding"], says("What this is.")]
    index: Annotated[Count, says("The place of its input.")]
    embedding: Annotated[
        list[float] | str,
        says("Of length 1: numbers; with `encoding_format` base64 their bytes as float32, little-endian."),
    ]


class Embeddings(msgspec.Struct, kw_only=True):
    """A vector for each input."""

    object: Annotated[Literal["list"], says("What this is.")]
    data: Annotated[list[Embedding], says("The vectors, in the order of the inputs.")]
    model: Annotated[str, says("The model, by the name that the request used.")]
    usage: Annotated[PromptUsage, _USAGE]


class Score(msgspec.Struct, kw_only=True):
    """How well one text fits one."""

    index: Annotated[Count, says("The place of the pair.")]
    object: Annotated[Literal["score"], says("What this is.")]
    score: Annotated[float, says("From 0 to 1; log odds with `use_activation` false.")]


class Scores(msgspec.Struct, kw_only=True):
    """How well texts fit texts."""

    id: Annotated[str, says("Of this answer.")]
    object: Annotated[Literal["list"], says("What this is.")]
    created: Annotated[UnixTime, says("When it was made.")]
    data: Annotated[list[Score], says("The scores, in the order of the pairs.")]
    model: Annotated[str, says("The model, by the name that the request used.")]
    usage: Annotated[PromptUsage, _USAGE]


class RankedDocument(msgspec.Struct, kw_only=True):
    """A document that was judged."""

    text: Annotated[str, says("What was judged.")]


class RankedResult(msgspec.Struct, kw_only=True, omit_defaults=True):
    """How well a document fits the query."""

    index: Annotated[Count, says("The document's place in the request.")]
    relevance_score: Annotated[float, says("From 0 to 1; log odds with `use_activation` false.")]
    document: Annotated[RankedDocument | UnsetType, says("The document itself, where it is wanted.")] = UNSET


class ApiVersion(msgspec.Struct, kw_only=True):
    """Cohere's version."""

    version: Annotated[Literal["2"], says("The version whose shape this is.")]


class BilledUnits(msgspec.Struct, kw_only=True):
    """What Cohere would charge."""

    search_units: Annotated[Count, says("Always 1.")]


class RankMeta(msgspec.Struct, kw_only=True):
    """What Cohere's clients read."""

    api_version: Annotated[ApiVersion, says("The version of Cohere's API.")]
    billed_units: Annotated[BilledUnits, says("What Cohere would charge.")]


class Ranking(msgspec.Struct, kw_only=True):
    """Documents by how well they fit a query, as Jina and Cohere have it."""

    id: Annotated[str, says("Of this answer.")]
    results: Annotated[list[RankedResult], says("The documents, the best first.")]
    meta: Annotated[RankMeta, says("What Cohere's clients read.")]
    model: Annotated[str, says("The model, by the name that the request used.")]
    usage: Annotated[PromptUsage, _USAGE]


class RankedText(msgspec.Struct, kw_only=True, omit_defaults=True):
    """How well a text fits the query, as text-embeddings-inference has it."""

    index: Annotated[Count, says("The text's place in the request.")]
    score: Annotated[float, says("From 0 to 1; log odds with `raw_scores`.")]
    text: Annotated[str | UnsetType, says("The text itself, with `return_text`.")] = UNSET


class CallsOfModel(msgspec.Struct, kw_only=True):
    """What is known of the model's calls of tools."""

    family: Annotated[str | None, says("How the model writes calls; null where it is not known, or it writes none.")]
    state: Annotated[
        Literal["none", "pending", "proven", "failed"], says("Whether the model was seen to make a call when it was started.")
    ]
    reason: Annotated[str, says("Why it is so.")]


class ReasoningOfModel(msgspec.Struct, kw_only=True):
    """What is known of the model's thinking."""

    family: Annotated[str | None, says("How the model writes what it thinks; null where it does not.")]


class Model(msgspec.Struct, kw_only=True):
    """A name that requests may use, and what it stands for."""

    id: Annotated[str, says("The name.")]
    object: Annotated[Literal["model"], says("What this is.")] = "model"
    created: Annotated[UnixTime, says("When the server was started.")]
    owned_by: Annotated[str, says("Who serves it.")] = "yeoul"
    root: Annotated[str, says("The model itself, as the server was told of it.")]
    max_model_len: Annotated[
        Count | UnsetType, says("How many tokens prompt and answer may have together; known once its files are there.")
    ] = UNSET
    tool_calls: Annotated[CallsOfModel, says("Whether it can call tools.")]
    reasoning: Annotated[ReasoningOfModel, says("Whether it thinks before it answers.")]
    status: Annotated[StatusOfModel | UnsetType, says("Whether it is in memory, where models come and go.")] = UNSET


class Models(msgspec.Struct, kw_only=True):
    """All names that requests may use."""

    object: Annotated[Literal["list"], says("What this is.")] = "list"
    data: Annotated[list[Model], says("The names, the first one first.")]


class InputTokens(msgspec.Struct, kw_only=True):
    """How long the prompt of a chat would be."""

    object: Annotated[Literal["response.input_tokens"], says("What this is.")] = "response.input_tokens"
    input_tokens: Annotated[Count, says("Its tokens.")]


class Tokens(msgspec.Struct, kw_only=True):
    """The tokens of a text."""

    count: Annotated[Count, says("How many there are.")]
    max_model_len: Annotated[Count, says("How many tokens prompt and answer may have together.")]
    tokens: Annotated[list[int], says("Their ids.")]
    token_strs: Annotated[list[str] | None, says("Their texts, with `return_token_strs`.")]


class Detokenized(msgspec.Struct, kw_only=True):
    """The text of tokens."""

    prompt: Annotated[str, says("The text.")]


class TokenizerInfo(msgspec.Struct, kw_only=True):
    """What a client needs to know to count tokens by itself."""

    vocab_size: Annotated[Count, says("How many tokens there are.")]
    model_max_length: Annotated[Count, says("How many tokens prompt and answer may have together.")]
    bos_token: Annotated[str | None, says("With which texts begin.")]
    eos_token: Annotated[str | None, says("The first of those with which answers end.")]
    eos_tokens: Annotated[list[str], says("With which answers end.")]
    special_token_ids: Annotated[list[int], says("Those that are no text.")]
    added_tokens: Annotated[dict[int, str], says("The texts of tokens that are known as a whole, by their ids.")]
    chat_template: Annotated[str | None, says("How chats are written.")]


class RenderedPrompt(msgspec.Struct, kw_only=True):
    """What the model would read, and how it would answer."""

    model: Annotated[str, says("The model, by the name that the request used.")]
    sampling_params: Annotated[SamplingParams, says("How the answer would be sampled; what is as by default is left out.")]
    priority: Annotated[int, says("The smaller, the sooner.")]
    features: Annotated[None, says("Always null: there are no pictures.")] = None
    stream: Annotated[bool, says("Always false.")] = False
    token_ids: Annotated[list[int], says("The tokens of the prompt.")]


class PromptOfChat(msgspec.Struct, kw_only=True):
    """A chat as the model's template writes it."""

    prompt: Annotated[str, says("The text.")]

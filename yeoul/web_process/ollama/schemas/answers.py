"""What Ollama's routes answer, for ``/openapi.json``; knows no route.

``line_format.py`` and ``model_cards.py`` write it; tests compare what they write with what stands here.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from yeoul.web_process.http.openapi import OF_MODELS, Answers, Count, answers_of, reference_to, says

Time = Annotated[str, msgspec.Meta(extra_json_schema={"format": "date-time"})]


class OllamaError(msgspec.Struct, kw_only=True):
    """An error, in Ollama's shape; in a stream it is the last line."""

    error: Annotated[str, says("What was expected, what came, and what to do.")]


class TokenLogprob(msgspec.Struct, kw_only=True):
    """A token and its log probability."""

    token: Annotated[str, says("Its text.")]
    logprob: Annotated[float, says("The logarithm of its probability; -9999 stands for none at all.")]
    bytes: Annotated[list[int], says("Its text as bytes, since one token may be a part of a character.")]


class ChosenLogprob(TokenLogprob, kw_only=True):
    """The token that was chosen."""

    top_logprobs: Annotated[list[TokenLogprob] | UnsetType, says("The likeliest in its place, with `top_logprobs`.")] = UNSET


class CallOfFunction(msgspec.Struct, kw_only=True):
    """What is to be called."""

    index: Annotated[Count, says("The call's place among those of the answer.")]
    name: Annotated[str, says("The function's name.")]
    arguments: Annotated[dict[str, Any], says("Its arguments.")]


class CallOfTool(msgspec.Struct, kw_only=True):
    """A call that the client is to make; it comes whole."""

    id: Annotated[str, says("By which the message with its result may name it.")]
    function: Annotated[CallOfFunction, says("What is to be called, and with what.")]


class AnswerMessage(msgspec.Struct, kw_only=True):
    """What the assistant says, or what is new of it."""

    role: Annotated[Literal["assistant"], says("Who speaks.")]
    content: Annotated[str, says("The text.")]
    thinking: Annotated[str | UnsetType, says("What was thought.")] = UNSET
    tool_calls: Annotated[list[CallOfTool] | UnsetType, says("The calls that the client is to make.")] = UNSET


class Line(msgspec.Struct, kw_only=True):
    """What every line has; the last one says how it ended and what it took. Times are in nanoseconds."""

    model: Annotated[str, says("The model, by the name that the request used.")]
    created_at: Annotated[Time, says("When the line was written.")]
    done: Annotated[bool, says("Whether it is the last one.")]
    done_reason: Annotated[
        Literal["stop", "length", "abort", "load", "unload"] | UnsetType,
        says("Why it ended; `load` or `unload` where there was nothing to answer."),
    ] = UNSET
    total_duration: Annotated[Count | UnsetType, says("How long all took.")] = UNSET
    load_duration: Annotated[Count | UnsetType, says("How long it waited for its turn.")] = UNSET
    prompt_eval_count: Annotated[Count | UnsetType, says("How many tokens the prompt has.")] = UNSET
    prompt_eval_duration: Annotated[Count | UnsetType, says("How long the prompt took.")] = UNSET
    eval_count: Annotated[Count | UnsetType, says("How many tokens the answer has.")] = UNSET
    eval_duration: Annotated[Count | UnsetType, says("How long the answer took.")] = UNSET
    logprobs: Annotated[list[ChosenLogprob] | UnsetType, says("What the model thinks of its tokens.")] = UNSET


class ChatAnswer(Line, kw_only=True):
    """The answer of a chat, or what is new of it."""

    message: Annotated[AnswerMessage, says("What the assistant says.")]


class GeneratedText(Line, kw_only=True):
    """The answer to a prompt, or what is new of it."""

    response: Annotated[str, says("The text.")]
    thinking: Annotated[str | UnsetType, says("What was thought.")] = UNSET


class Embedded(msgspec.Struct, kw_only=True):
    """A vector for each text."""

    model: Annotated[str, says("The model, by the name that the request used.")]
    embeddings: Annotated[list[list[float]], says("The vectors, of length 1, in the order of the texts.")]
    total_duration: Annotated[Count | UnsetType, says("How long all took, in nanoseconds.")] = UNSET
    load_duration: Annotated[Count | UnsetType, says("How long it waited for its turn, in nanoseconds.")] = UNSET
    prompt_eval_count: Annotated[Count | UnsetType, says("How many tokens the texts have.")] = UNSET


class EmbeddedOne(msgspec.Struct, kw_only=True):
    """The vector of one text."""

    embedding: Annotated[list[float], says("Of length 1; nothing where there was no text.")]


class ModelDetails(msgspec.Struct, kw_only=True):
    """What kind of model it is."""

    parent_model: Annotated[str, says("Always empty.")]
    format: Annotated[str, says("The kind of its files.")]
    family: Annotated[str, says("Its architecture.")]
    families: Annotated[list[str], says("The same, as a list.")]
    parameter_size: Annotated[str, says("How many parameters it has, in short.")]
    quantization_level: Annotated[str, says("The type of its weights.")]
    context_length: Annotated[Count, says("How many tokens prompt and answer may have together.")]
    embedding_length: Annotated[Count, says("How long its vectors are.")]


class ModelEntry(msgspec.Struct, kw_only=True):
    """A name that requests may use."""

    name: Annotated[str, says("The name, with a tag.")]
    model: Annotated[str, says("The same.")]
    size: Annotated[Count, says("How many bytes it has.")]
    digest: Annotated[str, says("The same as long as its answers are.")]
    details: Annotated[ModelDetails, says("What kind of model it is.")]


Capabilities = Annotated[
    list[Literal["completion", "embedding", "insert", "tools", "thinking"]], says("What a request may ask of it.")
]


class TaggedModel(ModelEntry, kw_only=True):
    """A model that is there."""

    modified_at: Annotated[Time, says("When its files were changed.")]
    capabilities: Capabilities


class RunningModel(ModelEntry, kw_only=True):
    """A model that is loaded."""

    size_vram: Annotated[Count, says("How many bytes of it are in the memory of a GPU.")]
    expires_at: Annotated[Time, says("When it is unloaded: never.")]
    context_length: Annotated[Count, says("How many tokens prompt and answer may have together.")]


class Tags(msgspec.Struct, kw_only=True):
    """All that is there."""

    models: Annotated[list[TaggedModel], says("The names.")]


class Running(msgspec.Struct, kw_only=True):
    """All that is loaded, which is the same."""

    models: Annotated[list[RunningModel], says("The names.")]


class ShownModel(msgspec.Struct, kw_only=True):
    """What is known of a model."""

    modelfile: Annotated[str, says("What stands for a Modelfile.")]
    parameters: Annotated[str, says("How its authors recommend to sample, a line each.")]
    template: Annotated[str, says("Its chat template.")]
    details: Annotated[ModelDetails, says("What kind of model it is.")]
    model_info: Annotated[dict[str, str | int | None], says("Its shape, by the keys of a GGUF file.")]
    capabilities: Capabilities
    modified_at: Annotated[Time, says("When its files were changed.")]


class ApiVersion(msgspec.Struct, kw_only=True):
    """Whose API this is."""

    version: Annotated[str, says("Of Ollama; of this server: `/version`.")]


class PullStatus(msgspec.Struct, kw_only=True):
    """That a model is there."""

    status: Annotated[Literal["success"], says("How it went.")]


def answers(answer: type[msgspec.Struct], *, errors: Collection[int] = OF_MODELS, in_lines: bool = False) -> Answers:
    """As ``answers_of``, with Ollama's errors; with ``in_lines`` it may come as such, the last of which may be one."""
    lines = {"anyOf": [reference_to(answer), reference_to(OllamaError)]} if in_lines else None
    return answers_of(answer, errors=errors, error=OllamaError, lines=lines)

"""Finds out from a model's template and tokens how it writes calls and reasoning, and says why; the start's log has it."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from yeoul.text.answers.families import ToolFamily, reasoning_family, tool_family
from yeoul.text.answers.reasoning import ReasoningFamily

_Family = TypeVar("_Family")


@dataclass(frozen=True)
class Finding(Generic[_Family]):
    """A family, or None, and the reason in words."""

    family: _Family | None
    reason: str


@dataclass(frozen=True)
class _Sign:
    """A template that has all of these texts and none of those is of this family."""

    name: str
    texts: tuple[str, ...]
    not_texts: tuple[str, ...] = ()


# ruff: noqa: RUF001 - DeepSeek's tokens have such letters.

# The first that fits counts: a marker that only one family has comes before one that several share.
_TOOL_SIGNS = (
    _Sign("openai", ("<|channel|>", "<|message|>", "<|start|>", "functions")),
    _Sign("gemma4", ("<|tool_call>call:",)),
    _Sign("functiongemma", ("<start_function_call>",)),
    _Sign("deepseek_v3", ("<｜tool▁calls▁begin｜>", "```json")),
    _Sign("deepseek_v31", ("<｜tool▁calls▁begin｜>",)),
    _Sign("kimi_k2", ("<|tool_call_begin|>", "<|tool_call_argument_begin|>")),
    _Sign("seed_oss", ("<seed:tool_call>", "<function=")),
    _Sign("minimax_m2", ("<minimax:tool_call>", "<invoke name=")),
    _Sign("glm45", ("<tool_call>", "<arg_key>", "<arg_value>")),
    _Sign("qwen3_coder", ("<tool_call>", "<function=", "<parameter=")),
    _Sign("mistral", ("[TOOL_CALLS]", "[ARGS]")),
    _Sign("mistral_list", ("[TOOL_CALLS]",)),
    _Sign("lfm2", ("<|tool_call_start|>",)),
    _Sign("llama4_pythonic", ("<|python_start|>",)),
    _Sign("hermes", ("<tool_call>", "</tool_call>", '"name": ', '"arguments": '), ("<tool_calls>",)),
    _Sign("llama3_json", ("<|start_header_id|>", "ipython", '"parameters": ')),
    _Sign("pythonic", ("[func_name1(params_name1=",)),
)

_REASONING_SIGNS = (
    _Sign("openai_gptoss", ("<|channel|>", "<|message|>", "<|start|>", "analysis")),
    _Sign("gemma4", ("<|channel>", "<channel|>")),
    _Sign("mistral", ("[THINK]", "[/THINK]")),
    _Sign("seed_oss", ("<seed:think>",)),
    _Sign("glm45", ("[gMASK]", "</think>")),
    _Sign("kimi_k2", ("<|im_middle|>", "<think>")),
    _Sign("minimax_m2", ("]~b]", "</think>")),
    _Sign("deepseek_v3", ("<｜Assistant｜>", "</think>", "thinking")),
    _Sign("deepseek_r1", ("<｜Assistant｜>", "</think>")),
    _Sign("qwen3", ("<|im_start|>", "</think>")),
    _Sign("deepseek_r1", ("</think>",)),
)  # fmt: skip

# Tokens that tell what no template says: a model that was trained to reason by itself, or without a tool template.
_TOOL_TOKENS = (("lfm2", ("<|tool_call_start|>", "<|tool_call_end|>")),)
_REASONING_TOKENS = (("mistral", ("[THINK]", "[/THINK]")), ("deepseek_r1", ("<think>", "</think>")))


def find_tool_family(template: str | None, tokens: Collection[str] = ()) -> Finding[ToolFamily]:
    """How a model writes calls.

    Args:
        template: the chat template that is used where tools are given; None for a model that has none.
        tokens: the texts of the vocabulary's added tokens.
    """
    if template is None:
        return Finding(None, "no tool calls: the model has no chat template")
    if (sign := _find(_TOOL_SIGNS, template)) is not None:
        family = tool_family(sign.name)
        reason = _reason("tool calls", sign, family.calls.begins, tokens)
        return Finding(family, reason if _shows_tools(template) else f"{reason}, but it does not show tools to the model")
    if not _shows_tools(template):
        return Finding(None, "no tool calls: the chat template does not know of tools")
    for name, markers in _TOOL_TOKENS:
        if all(marker in tokens for marker in markers):
            return Finding(tool_family(name), f"tool calls {name}: the vocabulary has {_listed(markers)}")
    return Finding(None, "no tool calls: the chat template is of no known family; --tool-call-parser names one")


def find_reasoning_family(template: str | None, tokens: Collection[str] = ()) -> Finding[ReasoningFamily]:
    """How a model marks its reasoning; the arguments are those of ``find_tool_family``."""
    if template is not None and (sign := _find(_REASONING_SIGNS, template)) is not None:
        family = reasoning_family(sign.name)
        return Finding(family, _reason("reasoning", sign, family.markers, tokens))
    for name, markers in _REASONING_TOKENS:
        if all(marker in tokens for marker in markers):
            return Finding(reasoning_family(name), f"reasoning {name}: the vocabulary has {_listed(markers)}")
    return Finding(None, "no reasoning: neither the chat template nor the vocabulary has the marks of any known family")


def _shows_tools(template: str) -> bool:
    return re.search(r"\btools\b", template) is not None


def _find(signs: Sequence[_Sign], template: str) -> _Sign | None:
    # What a template writes stands in its source as a literal.
    template = template.replace('\\"', '"').replace("\\n", "\n")
    for sign in signs:
        if all(text in template for text in sign.texts) and not any(text in template for text in sign.not_texts):
            return sign
    return None


def _reason(what: str, sign: _Sign, markers: Collection[str], tokens: Collection[str]) -> str:
    are_tokens = [marker for marker in markers if marker in tokens]
    suffix = f"; {_listed(are_tokens)} {'is a token' if len(are_tokens) == 1 else 'are tokens'}" if are_tokens else ""
    return f"{what} {sign.name}: the chat template has {_listed([text.strip() for text in sign.texts])}{suffix}"


def _listed(texts: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(texts[:-1]), texts[-1])))

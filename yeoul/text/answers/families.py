"""The families of tool calls by the names that vLLM's users know, as data."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from yeoul.errors import ConfigError
from yeoul.text.answers.call_format import CallFormat
from yeoul.text.answers.framed_calls import FramedCalls, MistralCalls
from yeoul.text.answers.gemma_calls import GemmaCalls
from yeoul.text.answers.harmony import HarmonyCalls
from yeoul.text.answers.python_calls import PythonCalls
from yeoul.text.answers.reasoning import REASONING_FAMILIES, ReasoningFamily
from yeoul.text.answers.tagged_calls import TaggedCalls
from yeoul.text.answers.wrapped_calls import WrappedCalls


@dataclass(frozen=True)
class ToolFamily:
    """A way of writing calls, and what ``--tool-call-parser`` calls it."""

    name: str
    calls: CallFormat


_Family = TypeVar("_Family", ToolFamily, ReasoningFamily)

# ruff: noqa: RUF001 - DeepSeek's tokens have such letters.
_DEEPSEEK_SECTION = {
    "begin": "<｜tool▁call▁begin｜>",
    "end": "<｜tool▁call▁end｜>",
    "section_begin": "<｜tool▁calls▁begin｜>",
    "section_end": "<｜tool▁calls▁end｜>",
}

TOOL_FAMILIES = (
    ToolFamily("hermes", WrappedCalls("<tool_call>", "</tool_call>")),
    ToolFamily(
        "qwen3_coder",
        TaggedCalls(
            begin="<tool_call>", end="</tool_call>",
            before_name="<function=", after_name=">", call_end="</function>",
            before_key="<parameter=", after_key=">", before_value="", after_value="</parameter>", has_lines=True,
        ),
    ),
    ToolFamily(
        "seed_oss",
        TaggedCalls(
            begin="<seed:tool_call>", end="</seed:tool_call>",
            before_name="<function=", after_name=">", call_end="</function>",
            before_key="<parameter=", after_key=">", before_value="", after_value="</parameter>",
        ),
    ),
    ToolFamily(
        "minimax_m2",
        TaggedCalls(
            begin="<minimax:tool_call>", end="</minimax:tool_call>",
            before_name='<invoke name="', after_name='">', call_end="</invoke>",
            before_key='<parameter name="', after_key='">', before_value="", after_value="</parameter>",
        ),
    ),
    ToolFamily(
        "glm45",
        TaggedCalls(
            begin="<tool_call>", end="</tool_call>", before_name="", after_name="", call_end="",
            before_key="<arg_key>", after_key="</arg_key>", before_value="<arg_value>", after_value="</arg_value>",
        ),
    ),
    ToolFamily(
        "llama3_json",
        WrappedCalls("<|python_tag|>", separators=(";",), arguments_key="parameters", may_begin_bare=True),
    ),
    ToolFamily("mistral", MistralCalls()),
    ToolFamily("mistral_list", MistralCalls(is_list=True)),
    ToolFamily("pythonic", PythonCalls(may_begin_bare=True)),
    ToolFamily("llama4_pythonic", PythonCalls("<|python_start|>", "<|python_end|>", may_begin_bare=True)),
    ToolFamily("lfm2", PythonCalls("<|tool_call_start|>", "<|tool_call_end|>")),
    ToolFamily(
        "deepseek_v3",
        FramedCalls(
            before_name="function<｜tool▁sep｜>", after_name="\n", before_arguments="```json\n", after_arguments="\n```",
            **_DEEPSEEK_SECTION,
        ),
    ),
    ToolFamily("deepseek_v31", FramedCalls(after_name="<｜tool▁sep｜>", **_DEEPSEEK_SECTION)),
    ToolFamily(
        "kimi_k2",
        FramedCalls(
            begin="<|tool_call_begin|>", after_name="<|tool_call_argument_begin|>", end="<|tool_call_end|>",
            section_begin="<|tool_calls_section_begin|>", section_end="<|tool_calls_section_end|>",
            name_pattern=r"(?:functions\.)?(.+?)(?::\d+)?", name_form="functions.{name}:0",
        ),
    ),
    ToolFamily("gemma4", GemmaCalls("<|tool_call>", "<tool_call|>", '<|"|>')),
    ToolFamily("functiongemma", GemmaCalls("<start_function_call>", "<end_function_call>", "<escape>")),
    ToolFamily("openai", HarmonyCalls()),
)  # fmt: skip

# Other names under which the same is known.
_TOOL_ALIASES = {
    "qwen3_xml": "qwen3_coder", "mimo": "qwen3_coder", "glm47": "glm45", "llama4_json": "llama3_json",
    "harmony": "openai", "gemma": "functiongemma", "granite4": "hermes",
}  # fmt: skip
_REASONING_ALIASES = {
    "harmony": "openai_gptoss", "openai": "openai_gptoss", "glm47": "glm45", "deepseek_v31": "deepseek_v3", "mimo": "qwen3",
}  # fmt: skip


def tool_family(name: str) -> ToolFamily:
    """The family of a name. Raises ConfigError with the names that there are."""
    return _by_name("--tool-call-parser", name, TOOL_FAMILIES, _TOOL_ALIASES)


def reasoning_family(name: str) -> ReasoningFamily:
    """The family of a name. Raises ConfigError with the names that there are."""
    return _by_name("--reasoning-parser", name, REASONING_FAMILIES, _REASONING_ALIASES)


def marker_tokens(tools: ToolFamily | None, reasoning: ReasoningFamily | None, tokens: Iterable[str]) -> frozenset[str]:
    """Those of a vocabulary's added tokens that stand in markers: the detokenizer keeps them and tells where they begin."""
    is_harmony = reasoning is not None and reasoning.is_harmony
    markers = HarmonyCalls.markers if is_harmony else reasoning.markers if reasoning is not None else ()
    markers = (*markers, *(tools.calls.markers if tools is not None else ()))
    return frozenset(token for token in tokens if any(token in marker for marker in markers))


def _by_name(flag: str, name: str, families: Iterable[_Family], aliases: dict[str, str]) -> _Family:
    by_name: dict[str, _Family] = {family.name: family for family in families}
    if (found := by_name.get(aliases.get(name, name))) is not None:
        return found
    names: Sequence[str] = sorted([*by_name, *aliases])
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise ConfigError(f"{flag} is {name!r}, which is none of {', '.join(names)}{hint}")

"""Which family a model is of, from its template and tokens; names, and what is said of an unknown one."""
# ruff: noqa: RUF001 - DeepSeek's tokens have such letters.

from __future__ import annotations

import pytest

from yeoul.errors import ConfigError
from yeoul.text.answers.families import TOOL_FAMILIES, marker_tokens, reasoning_family, tool_family
from yeoul.text.answers.find_family import find_reasoning_family, find_tool_family
from yeoul.text.answers.reasoning import REASONING_FAMILIES

# How templates write what tells a family, in as few words as can be.
TEMPLATES = {
    "hermes": r"""{{ tools }} <tool_call>\n{\"name\": <name>, \"arguments\": <arguments>}\n</tool_call>""",
    "qwen3_coder": r"""{{ tools }} '<tool_call>\n<function=' + name + '>\n' '<parameter=' '</function>'""",
    "seed_oss": "{{ tools }} <seed:tool_call>\n<function=f>\n<parameter=a>1</parameter>",
    "minimax_m2": "{{ tools }} <minimax:tool_call><invoke name='f'> '<invoke name=\"' + name",
    "glm45": "{{ tools }} <tool_call>{name}\n<arg_key>{key}</arg_key>\n<arg_value>{value}</arg_value>\n</tool_call>",
    "llama3_json": """{{ tools }} <|start_header_id|>ipython '{"name": "' + name + '", ' '"parameters": '""",
    "mistral": "{{ tools }} [TOOL_CALLS] + name + [ARGS] + arguments",
    "mistral_list": "{{ tools }} [TOOL_CALLS][ + arguments",
    "pythonic": "{{ tools }} write them as [func_name1(params_name1=params_value1), func_name2(params)]",
    "llama4_pythonic": "{{ tools }} <|python_start|> + call + <|python_end|>",
    "lfm2": "{{ tools }} <|tool_call_start|>[ ]<|tool_call_end|>",
    "deepseek_v3": "{{ tools }} <｜tool▁calls▁begin｜><｜tool▁call▁begin｜> type <｜tool▁sep｜> name '\n```json\n'",
    "deepseek_v31": "{{ tools }} <｜tool▁calls▁begin｜><｜tool▁call▁begin｜> name <｜tool▁sep｜> arguments",
    "kimi_k2": "{{ tools }} <|tool_calls_section_begin|><|tool_call_begin|> id <|tool_call_argument_begin|>",
    "gemma4": "{{ tools }} '<|tool_call>call:' + name + '{' '}<tool_call|>'",
    "functiongemma": "{{ tools }} '<start_function_call>call:' + name <escape>",
    "openai": "{{ tools }} <|start|>assistant to=functions.f<|channel|>commentary json<|message|>",
}
REASONING_TEMPLATES = {
    "openai_gptoss": "<|start|>assistant<|channel|>analysis<|message|>",
    "gemma4": "'<|channel>thought\n<channel|>'",
    "mistral": "[THINK] + thinking + [/THINK]",
    "seed_oss": "<seed:think> </seed:think>",
    "glm45": "[gMASK]<sop> '<think></think>'",
    "kimi_k2": "<|im_middle|> <think></think>",
    "minimax_m2": "]~b]ai <think> </think>",
    "deepseek_v3": "<｜Assistant｜> {% if thinking %}<think>{% else %}</think>{% endif %}",
    "deepseek_r1": "<｜Assistant｜><think>\n content.split('</think>')",
    "qwen3": "<|im_start|>assistant\n content.split('</think>')",
}


@pytest.mark.parametrize(("name", "template"), TEMPLATES.items(), ids=TEMPLATES)
def test_a_template_tells_how_a_model_calls_tools(name, template):
    finding = find_tool_family(template)
    assert finding.family is tool_family(name)
    assert finding.reason.startswith(f"tool calls {name}: the chat template has ")
    assert "but" not in finding.reason


@pytest.mark.parametrize(("name", "template"), REASONING_TEMPLATES.items(), ids=REASONING_TEMPLATES)
def test_a_template_tells_how_a_model_reasons(name, template):
    finding = find_reasoning_family(template)
    assert finding.family is reasoning_family(name)
    assert finding.reason.startswith(f"reasoning {name}: the chat template has ")


def test_every_family_can_be_found():
    assert set(TEMPLATES) == {family.name for family in TOOL_FAMILIES}
    assert set(REASONING_TEMPLATES) == {family.name for family in REASONING_FAMILIES}


def test_the_reason_says_which_markers_are_tokens():
    reason = find_tool_family(TEMPLATES["mistral"], ["[TOOL_CALLS]", "[INST]"]).reason
    assert reason == "tool calls mistral: the chat template has [TOOL_CALLS] and [ARGS]; [TOOL_CALLS] is a token"
    reason = find_reasoning_family(REASONING_TEMPLATES["qwen3"], ["<think>", "</think>"]).reason
    assert reason.endswith("; <think> and </think> are tokens")


def test_a_template_that_knows_calls_but_not_tools_is_named_so():
    finding = find_tool_family(TEMPLATES["deepseek_v3"].replace("tools", ""))
    assert finding.family is tool_family("deepseek_v3")
    assert finding.reason.endswith("but it does not show tools to the model")


def test_tokens_tell_what_no_template_says():
    assert find_reasoning_family("{{ messages }}", ["<think>", "</think>"]).family is reasoning_family("deepseek_r1")
    assert find_reasoning_family(None, ["[THINK]", "[/THINK]"]).family is reasoning_family("mistral")
    tokens = ["<|tool_call_start|>", "<|tool_call_end|>"]
    assert find_tool_family("{{ tools }}", tokens).family is tool_family("lfm2")


def test_where_nothing_is_found_the_reason_says_why():
    assert find_tool_family(None).reason == "no tool calls: the model has no chat template"
    assert find_tool_family("{{ messages }}").reason == "no tool calls: the chat template does not know of tools"
    assert "--tool-call-parser names one" in find_tool_family("{{ tools }}").reason
    assert find_reasoning_family("{{ messages }}").family is None
    assert find_reasoning_family(None, ["<think>"]).reason.startswith("no reasoning: ")


def test_a_family_is_known_by_several_names():
    assert tool_family("qwen3_xml") is tool_family("qwen3_coder")
    assert tool_family("harmony") is tool_family("openai")
    assert reasoning_family("openai") is reasoning_family("openai_gptoss")


def test_an_unknown_name_is_answered_with_the_list_and_the_nearest():
    with pytest.raises(ConfigError, match=r"--tool-call-parser is 'herms', .*glm45, .*; did you mean hermes\?"):
        tool_family("herms")
    with pytest.raises(ConfigError, match=r"--reasoning-parser is 'zzz', which is none of .*qwen3, seed_oss$"):
        reasoning_family("zzz")


def test_the_detokenizer_keeps_the_tokens_of_the_markers():
    tokens = ["<tool_call>", "</tool_call>", "<think>", "</think>", "<|im_end|>", "<|fim_pad|>"]
    assert marker_tokens(tool_family("hermes"), reasoning_family("qwen3"), tokens) == set(tokens[:4])
    assert marker_tokens(None, None, tokens) == set()
    gemma = ["<|channel>", "<channel|>", '<|"|>']
    assert marker_tokens(tool_family("gemma4"), reasoning_family("gemma4"), [*gemma, "<eos>"]) == set(gemma)
    harmony = ["<|start|>", "<|channel|>", "<|message|>", "<|constrain|>", "<|end|>", "<|call|>", "<|return|>"]
    assert marker_tokens(None, reasoning_family("openai_gptoss"), [*harmony, "<|endoftext|>"]) == set(harmony)
    assert marker_tokens(tool_family("deepseek_v3"), None, ["<｜tool▁sep｜>", "<｜User｜>"]) == {"<｜tool▁sep｜>"}


def test_an_answer_begins_inside_reasoning_where_the_prompt_leaves_it_open():
    family = reasoning_family("qwen3")
    assert family.is_open_after("<|im_start|>assistant\n<think>\n")
    assert family.is_open_after("<think>\nAs I began")
    assert not family.is_open_after("<|im_start|>assistant\n")
    assert not family.is_open_after("<think>\n\n</think>\n\n")

"""Answers with reasoning, between markers or in channels, alone and before text and calls."""

from __future__ import annotations

from tests.unit.text.answers.reading import Case, call, said, thought
from tests.unit.text.answers.writing import HOSTILE, gemma, glm, hermes, message

HARMONY_CASES = [
    Case("harmony", message("final", "Hello.", ""), said("Hello."), "openai", "openai_gptoss"),
    Case(
        "harmony, all channels",
        message("analysis", "Hm.")
        + "<|start|>assistant"
        + message("commentary", "I look.")
        + "<|start|>assistant"
        + message("commentary to=functions.weather <|constrain|>json", HOSTILE.replace("<|call|>", ""), "<|call|>"),
        [*thought("Hm."), *said("I look."), *call("weather", HOSTILE.replace("<|call|>", ""))],
        "openai",
        "openai_gptoss",
    ),
    Case(
        "harmony, recipient first",
        " to=functions.now<|channel|>commentary json<|message|>{}<|call|><|start|>assistant to=functions.weather"
        '<|channel|>commentary<|message|>{"days":1}',
        [*call("now"), *call("weather", '{"days": 1}', 1)],
        "openai",
        "openai_gptoss",
    ),
    Case(
        "harmony, no arguments",
        message("commentary to=functions.now", "", "<|call|>"),
        call("now"),
        "openai",
        "openai_gptoss",
    ),
    Case(
        "harmony, two messages of one channel",
        message("analysis", "A.")
        + "<|start|>assistant"
        + message("analysis", "B. ")
        + "<|start|>assistant"
        + message("final", "C"),
        [*thought("A.\n\nB."), *said("C")],
        "openai",
        "openai_gptoss",
    ),
    Case(
        "harmony, unknown recipient",
        message("analysis to=python code", "print(1)"),
        thought("print(1)"),
        "openai",
        "openai_gptoss",
    ),
    Case("harmony without tools", message("commentary to=functions.now", "{}"), thought("{}"), None, "openai_gptoss"),
    Case(
        "harmony, code", "<|start|>assistant to=python" + message("commentary", "1"), thought("1"), "openai", "openai_gptoss"
    ),
    Case(
        "harmony, two channels in a header",
        message("commentary to=assistant<|channel|>analysis", "Hm."),
        thought("Hm."),
        "openai",
        "openai_gptoss",
    ),
    Case("harmony, plain text", "Hello.", said("Hello."), "openai", "openai_gptoss"),
    Case("harmony, cut in a header", "<|channel|>anal", [], "openai", "openai_gptoss", is_damaged=True),
    Case(
        "harmony, damaged header",
        "<|channel|>final<|end|>Hi",
        said("<|channel|>finalHi"),
        "openai",
        "openai_gptoss",
        is_damaged=True,
    ),
    Case(
        "harmony, no json",
        message("commentary to=functions.now", "soon"),
        said("<|channel|>commentary to=functions.now<|message|>soon"),
        "openai",
        "openai_gptoss",
        is_damaged=True,
    ),
    Case(
        "harmony, begun by the prompt",
        "m.<|end|><|start|>assistant" + message("final", "C"),
        [*thought("m."), *said("C")],
        "openai",
        "openai_gptoss",
        "<|start|>assistant<|channel|>analysis<|message|>H",
    ),
]

REASONING_CASES = [
    Case("think", "<think>\nHm.\n</think>\n\nYes.", [*thought("Hm."), *said("Yes.")], None, "qwen3"),
    Case("think, empty", "<think>\n\n</think>\n\nYes.", said("Yes."), None, "qwen3"),
    Case(
        "think, opened by the template",
        "Hm.\n</think>\n\nYes.",
        [*thought("Hm."), *said("Yes.")],
        None,
        "deepseek_r1",
        "<think>\n",
    ),
    Case(
        "think, opened twice", "<think>\nHm.</think>Yes.", [*thought("Hm."), *said("Yes.")], None, "deepseek_r1", "<think>\n"
    ),
    Case("think, closed by the template", "Yes.\n", said("Yes.\n"), None, "qwen3", "<think>\n\n</think>\n\n"),
    Case("think, cut", "<think>\nHm", thought("Hm"), None, "qwen3"),
    Case("no think", " Yes <think>no</think>.", said(" Yes <think>no</think>."), None, "qwen3"),
    Case("almost", "<thin>Hm.", said("<thin>Hm."), None, "qwen3"),
    Case("a lone end", "a</think>b", said("a</think>b"), None, "deepseek_r1"),
    Case(
        "think, text, calls",
        f"<think>\nHm <tool_call>.\n</think>\n\nI look.\n{hermes('{}', 'now')}",
        [*thought("Hm <tool_call>."), *said("I look."), *call("now")],
        "hermes",
        "qwen3",
    ),
    Case(
        "a call ends thinking",
        f"<think>Hm.\n{hermes('{}', 'now')}\nOk",
        [*thought("Hm."), *call("now"), *said("Ok")],
        "hermes",
        "qwen3",
    ),
    Case(
        "a call does not", f"<think>Hm. {hermes('{}', 'now')}", thought(f"Hm. {hermes('{}', 'now')}"), "hermes", "deepseek_r1"
    ),
    Case("think, bare call", "<think>Hm</think>\n[now()]", [*thought("Hm"), *call("now")], "pythonic", "deepseek_r1"),
    Case(
        "mistral thinks",
        "[THINK]Hm[/THINK]Yes.[TOOL_CALLS]now[ARGS]{}",
        [*thought("Hm"), *said("Yes."), *call("now")],
        "mistral",
        "mistral",
    ),
    Case(
        "gemma thinks",
        f"<|channel>thought\nHm\n<channel|>Yes.{gemma('', 'now')}",
        [*thought("Hm"), *said("Yes."), *call("now")],
        "gemma4",
        "gemma4",
    ),
    Case(
        "glm thinks",
        "\n<think>Hm</think>\n" + glm(("days", "1")),
        [*thought("Hm"), *call("weather", '{"days": 1}')],
        "glm45",
        "glm45",
    ),
    Case("nothing to look for", " <think>a</think> <tool_call> ", said(" <think>a</think> <tool_call> ")),
]

"""Answers with calls in tags, as Python and as Gemma writes them: whole, damaged, and what is only like a call."""

from __future__ import annotations

from tests.unit.text.answers.reading import Case, call, said
from tests.unit.text.answers.writing import coder, gemma, glm

TAGGED_CASES = [
    Case(
        "coder",
        "I look.\n"
        + coder(("city", 'Rom\n"1"'), ("days", "3"), ("exact", "True"), ("where", '{"a": [1]}'), ("unit", "null")),
        [
            *said("I look."),
            *call("weather", r'{"city": "Rom\n\"1\"", "days": 3, "exact": true, "where": {"a": [1]}, "unit": null}'),
        ],
        "qwen3_coder",
    ),
    Case(
        "coder, hostile",
        coder(("city", '</parameter> x</function>\n</tool_call>\n<tool_call>\n<function=now> {"a": 1}\\ \U0001f600\n')),
        call(
            "weather",
            r'{"city": "</parameter> x</function>\n</tool_call>\n<tool_call>\n<function=now> {\"a\": 1}\\ '
            + '\U0001f600\\n"}',
        ),
        "qwen3_coder",
    ),
    Case(
        "coder, parallel",
        f"{coder(name='now')}\n{coder(('days', '1'))}\nDone.",
        [*call("now"), *call("weather", '{"days": 1}', 1), *said("Done.")],
        "qwen3_coder",
    ),
    Case(
        "coder, empty values", coder(("city", ""), ("unit", "")), call("weather", '{"city": "", "unit": ""}'), "qwen3_coder"
    ),
    Case(
        "coder, unknown tool", coder(("a", "1"), ("b", "x"), name="else"), call("else", '{"a": 1, "b": "x"}'), "qwen3_coder"
    ),
    Case(
        "coder without the marker",
        "<function=weather>\n<parameter=days>1</parameter></function>",
        call("weather", '{"days": 1}'),
        "qwen3_coder",
    ),
    Case(
        "coder, unknown tool without the marker",
        "<function=else>\n</function>",
        said("<function=else>\n</function>"),
        "qwen3_coder",
        is_damaged=True,
    ),
    Case(
        "coder, damaged",
        "a <tool_call>\n<function now>",
        said("a <tool_call>\n<function now>"),
        "qwen3_coder",
        is_damaged=True,
    ),
    Case(
        "coder, damaged behind a value",
        "<tool_call>\n<function=weather>\n<parameter=days>\n3\n</parameter>\n<param",
        call("weather", '{"days": '),
        "qwen3_coder",
        is_damaged=True,
    ),
    Case(
        "coder, cut in a value",
        coder(("city", "Rome i")).removesuffix("\n</parameter>\n</function>\n</tool_call>"),
        call("weather", '{"city": "Rome i'),
        "qwen3_coder",
        is_damaged=True,
    ),
    Case(
        "seed",
        "<seed:tool_call>\n<function=weather>\n<parameter=city>Rome</parameter>\n<parameter=days>3</parameter>\n</function>\n</seed:tool_call>",
        call("weather", '{"city": "Rome", "days": 3}'),
        "seed_oss",
    ),
    Case(
        "minimax",
        '<minimax:tool_call>\n<invoke name="now">\n</invoke>\n<invoke name="weather">\n'
        '<parameter name="city">Rome</parameter>\n'
        "</invoke>\n</minimax:tool_call>",
        [*call("now"), *call("weather", '{"city": "Rome"}', 1)],
        "minimax_m2",
    ),
    Case(
        "glm",
        "Yes.\n" + glm(("city", ' Ro"m </arg_value> e'), ("tags", '["a", 1]'), ("days", "three")),
        [*said("Yes."), *call("weather", r'{"city": " Ro\"m </arg_value> e", "tags": ["a", 1], "days": "three"}')],
        "glm45",
    ),
    Case(
        "glm, parallel in one line",
        "<tool_call>now</tool_call><tool_call>weather<arg_key>days</arg_key><arg_value>1</arg_value></tool_call>",
        [*call("now"), *call("weather", '{"days": 1}', 1)],
        "glm45",
    ),
    Case("glm, damaged", "<tool_call>now<arg_value>", said("<tool_call>now<arg_value>"), "glm45", is_damaged=True),
]

PYTHON_CASES = [
    Case("python", '[weather(city="Rome", days=3)]', call("weather", '{"city": "Rome", "days": 3}'), "pythonic"),
    Case(
        "python, hostile",
        "[weather(city='a)] \"b\" \\' \\x41\\u00e9\\U0001f600\\n\\d', where={'a': [1, (2.5,), -3e2], 1: None}, exact=True,)]",
        call(
            "weather",
            '{"city": "a)] \\"b\\" \' A\u00e9\U0001f600\\n\\\\d", "where": {"a": [1, [2.5], -3e2], '
            '"1": null}, "exact": true}',
        ),
        "pythonic",
    ),
    Case(
        "python, parallel",
        "[now(), weather(days=1), now( )] Done.",
        [*call("now"), *call("weather", '{"days": 1}', 1), *call("now", index=2), *said("Done.")],
        "pythonic",
    ),
    Case("python, long strings", '[weather(city="""a"b\n""")]', call("weather", r'{"city": "a\"b\n"}'), "pythonic"),
    Case("python, a list", "[1, 2]", said("[1, 2]"), "pythonic"),
    Case("python, a note", "[Note] now(a=1)", said("[Note] now(a=1)"), "pythonic"),
    Case("python, unknown tool", "[other(a=1)]", said("[other(a=1)]"), "pythonic"),
    Case("python, by place", "[now(1)]", said("[now(1)]"), "pythonic", is_damaged=True),
    Case(
        "python, a variable",
        "[now(), weather(days=n)]",
        [*call("now"), *call("weather", '{"days": ', 1), *said("n)]")],
        "pythonic",
        is_damaged=True,
    ),
    Case("python, cut", '[weather(city="Ro', call("weather", '{"city": "Ro'), "pythonic", is_damaged=True),
    Case(
        "llama 4",
        "<|python_start|>[now(), weather(days=1)]<|python_end|>",
        [*call("now"), *call("weather", '{"days": 1}', 1)],
        "llama4_pythonic",
    ),
    Case("lfm", "<|tool_call_start|>[else_(a=1)]<|tool_call_end|>ok", [*call("else_", '{"a": 1}'), *said("ok")], "lfm2"),
]

GEMMA_CASES = [
    Case(
        "gemma",
        "Yes." + gemma('city:<|"|>a "b" } ,\n<|"|>,days:3,exact:true,tags:[<|"|>x<|"|>,1,{k:null}],where:{}'),
        [
            *said("Yes."),
            *call(
                "weather", r'{"city": "a \"b\" } ,\n", "days": 3, "exact": true, "tags": ["x", 1, {"k": null}], "where": {}}'
            ),
        ],
        "gemma4",
    ),
    Case("gemma, parallel", gemma("", "now") + gemma("days:1"), [*call("now"), *call("weather", '{"days": 1}', 1)], "gemma4"),
    Case(
        "gemma, bare and quoted",
        gemma('city:Rome,<|"|>days<|"|>: 3'),
        call("weather", '{"city": "Rome", "days": 3}'),
        "gemma4",
    ),
    Case("gemma, damaged", "<|tool_call>weather{}", said("<|tool_call>weather{}"), "gemma4", is_damaged=True),
    Case(
        "gemma, cut",
        gemma('city:<|"|>R<|').removesuffix("}<tool_call|>"),
        call("weather", '{"city": "R'),
        "gemma4",
        is_damaged=True,
    ),
    Case(
        "function gemma",
        "<start_function_call>call:weather{city:<escape>a{}<escape>,days:3}<end_function_call>",
        call("weather", '{"city": "a{}", "days": 3}'),
        "functiongemma",
    ),
]

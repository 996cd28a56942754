"""Chat templates: what they see, what they are refused, and the messages that they get."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import pytest

from tests.hostile_bytes import little_time
from yeoul.errors import ConfigError, InvalidRequestError, RequestFailedError
from yeoul.model_files.tokenizer_source import TokenizerSource
from yeoul.text.chat_template import ChatTemplate, ChatTemplateTimeoutError

CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
USER = [{"role": "user", "content": "Hi <b>"}]


def source_with(**fields: object) -> TokenizerSource:
    return TokenizerSource(kind="gguf", origin="a.gguf", bos_token="<s>", eos_token="</s>", **fields)  # type: ignore[arg-type]


def test_a_conversation_becomes_the_prompt_that_the_model_was_trained_on():
    template = ChatTemplate(CHATML)
    conversation = [{"role": "system", "content": "Be brief."}, *USER]
    expected = "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi <b><|im_end|>\n"
    assert template.render(conversation, add_generation_prompt=False) == expected
    assert template.render(conversation) == expected + "<|im_start|>assistant\n"


def test_a_template_sees_the_special_tokens_of_the_files():
    source = source_with(
        chat_template="{{ bos_token }}{{ messages[0].content }}{{ eos_token }}{{ unk_token }}",
        special_tokens={"unk_token": "?"},
    )
    assert ChatTemplate.load(source).render(USER) == "<s>Hi <b></s>?"


def test_a_template_sees_its_own_switches_but_they_cannot_replace_the_request():
    template = ChatTemplate("{% if enable_thinking is defined and not enable_thinking %}quick{% else %}slow{% endif %}")
    assert template.render(USER) == "slow"
    assert template.render(USER, variables={"enable_thinking": False}) == "quick"
    for name in ("messages", "tools", "add_generation_prompt", "chat_template"):
        with pytest.raises(InvalidRequestError, match=f"chat_template_kwargs may not set '{name}'"):
            template.render(USER, variables={name: []})


def test_whitespace_loop_controls_and_generation_blocks_work_as_hugging_face_has_them():
    template = ChatTemplate(
        "{% for message in messages %}\n"
        "    {% if message.role == 'tool' %}{% continue %}{% endif %}\n"
        "    {% generation %}\n"
        "{{ message.content }};\n"
        "    {% endgeneration %}\n"
        "{% endfor %}\n"
    )
    messages = [{"role": role, "content": role} for role in ("user", "tool", "assistant")]
    assert template.render(messages) == "user;\nassistant;\n"


def test_json_is_written_without_html_escapes():
    template = ChatTemplate("{{ messages[0].content | tojson }} {{ tools | tojson(indent=1) }}")
    tools = [{"name": "é<&>'"}]
    assert template.render(USER, tools) == '"Hi <b>" ' + json.dumps(tools, ensure_ascii=False, indent=1)


def test_a_template_knows_the_date():
    assert ChatTemplate("{{ strftime_now('%Y') }}").render(USER) in {str(datetime.now().year), str(datetime.now().year - 1)}


def test_tools_use_the_template_that_the_model_has_for_them():
    source = source_with(chat_template="plain", tool_chat_template="{{ tools[0].name }}")
    template = ChatTemplate.load(source)
    assert template.render(USER) == "plain"
    assert template.render(USER, tools=[]) == "plain"
    assert template.render(USER, tools=[{"name": "search"}]) == "search"
    assert ChatTemplate("{{ tools is none }}").render(USER, tools=[]) == "True"


def test_text_parts_are_joined_for_a_template_that_reads_strings():
    parts = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    messages = [{"role": "user", "content": parts}]
    assert "one\ntwo<|im_end|>" in ChatTemplate(CHATML).render(messages)
    with pytest.raises(InvalidRequestError, match="reads text only"):
        ChatTemplate(CHATML).render([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}])


TEXT = "Is this safe?"
PARTS = [{"type": "text", "text": TEXT}]
# Templates by what they read, and the four roles in turn.
READERS = {
    "a string": "{{ m['content'] }}",
    "a string with its type's own method": "{{ m.content.strip() }}",
    "a string behind a plus": "{{ 'x' + m['content'] }}",
    "JSON of a string": "{{ m.content | tojson }}",
    "parts": "{% for part in m['content'] %}{{ part.text }}{% endfor %}",
    "parts through a filter": "{% for p in m.content | selectattr('type', 'equalto', 'text') %}{{ p['text'] }}{% endfor %}",
    "parts by another name": "{% set c = m.content %}{% for part in c | list %}{{ part.text }}{% endfor %}",
    "parts in a macro": (
        "{% macro show(content) %}{% for part in content %}{{ part.text }}{% endfor %}{% endmacro %}{{ show(m.content) }}"
    ),
    "the first part": "{{ m.content[0].text }}",
    "both": (
        "{% if m.content is string %}{{ m.content }}{% else %}{% for p in m.content %}{{ p.text }}{% endfor %}{% endif %}"
    ),
    "parts of users, strings of others": (
        "{% if m.role == 'user' %}{% for p in m.content %}{{ p.text }}{% endfor %}{% else %}{{ m.content }}{% endif %}"
    ),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(
    "frame", ["{}", "{{% if messages[0].role != 'system' %}}{{{{ raise_exception('no') }}}}{{% endif %}}{}"]
)
def test_a_messages_text_is_in_the_prompt_whatever_form_it_is_sent_in_and_whatever_form_the_template_reads(reader, frame):
    loop = "{% for m in messages %}<{{ m.role }}>" + READERS[reader] + "{% endfor %}"
    template = ChatTemplate(frame.format(loop))
    roles = ["system", "user", "assistant", "tool"]
    for sent in roles:
        for content in (TEXT, PARTS):
            messages = [{"role": role, "content": content if role == sent else "-"} for role in roles]
            prompt = template.render(messages)
            assert prompt.count(TEXT) == 1, (sent, content)
            assert "'type'" not in prompt
            assert '"type"' not in prompt


def test_several_text_parts_stay_parts_for_a_template_that_looks_into_them():
    messages = [{"role": "user", "content": [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]}]
    loop = "{% for m in messages %}{% for part in m.content %}[{{ part.text }}]{% endfor %}{% endfor %}"
    assert ChatTemplate(loop).render(messages) == "[one][two]"


def test_the_arguments_of_a_tool_call_are_an_object_to_the_template():
    template = ChatTemplate("{% for call in messages[0].tool_calls %}{{ call.function.arguments | tojson }};{% endfor %}")
    calls = [{"function": {"name": "f", "arguments": text}} for text in ('{"a": 1}', "not json", "[1]")]
    message = {"role": "assistant", "content": None, "tool_calls": calls}
    assert template.render([message]) == '{"a": 1};"not json";"[1]";'
    assert calls[0]["function"]["arguments"] == '{"a": 1}', "the request itself stays as it was"


def test_a_model_without_a_template_says_how_to_give_one():
    with pytest.raises(InvalidRequestError, match=r"no chat template.*--chat-template FILE"):
        ChatTemplate.load(source_with()).render(USER)


def test_the_template_of_a_flag_is_source_or_a_file(tmp_path):
    source = source_with(chat_template="the model's own", tool_chat_template="for tools")
    assert ChatTemplate.load(source, "{{ messages[0].role }}").render(USER, tools=[{}]) == "user"
    path = tmp_path / "template.jinja"
    path.write_text("from a file: {{ bos_token }}")
    assert ChatTemplate.load(source, str(path)).render(USER) == "from a file: <s>"
    with pytest.raises(ConfigError, match=r"nowhere\.jinja' is neither a template nor a file"):
        ChatTemplate.load(source, str(tmp_path / "nowhere.jinja"))
    with pytest.raises(ConfigError, match=r"--chat-template.*cannot be compiled"):
        ChatTemplate.load(source, "{% if %}")


def test_what_a_template_says_about_the_messages_reaches_the_user():
    template = ChatTemplate("{{ raise_exception('Roles must alternate') }}")
    with pytest.raises(InvalidRequestError, match="refuses this conversation: Roles must alternate"):
        template.render(USER)
    with pytest.raises(InvalidRequestError, match="cannot render this conversation: TypeError"):
        ChatTemplate("{{ 'a' + messages[0].content }}").render([{"role": "user", "content": None}])


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{% for %}", "cannot be compiled"),
        ("{{ messages | no_such_filter }}", "cannot be compiled"),
        ("{{ no_such_function() }}", "cannot render any conversation: UndefinedError: 'no_such_function' is undefined"),
        ("{{ 1 + 'a' }}", "cannot render any conversation: TypeError"),
    ],
)
def test_a_template_of_the_models_own_that_never_works_is_said_at_the_start_and_is_not_the_clients_fault(
    template, reason, caplog
):
    for name in ("chat_template", "tool_chat_template"):
        caplog.clear()
        loaded = ChatTemplate.load(source_with(**{"chat_template": "fine", name: template}))
        assert reason in caplog.text
        assert "--chat-template FILE" in caplog.text
        with pytest.raises(RequestFailedError, match=reason):
            loaded.render(USER, tools=[{}])
    assert ChatTemplate.load(source_with(chat_template="fine", tool_chat_template=template)).render(USER) == "fine"
    with pytest.raises(ConfigError, match=f"--chat-template: the chat template {reason}"):
        ChatTemplate.load(source_with(), template)


def test_a_template_that_refuses_what_it_is_tried_on_works_for_others():
    template = "{% if messages | length < 9 %}{{ raise_exception('more') }}{% endif %}{{ messages[8].content }}"
    loaded = ChatTemplate.load(source_with(chat_template=template))
    assert loaded.render([*USER * 8, {"role": "user", "content": "nine"}]) == "nine"
    with pytest.raises(InvalidRequestError, match="refuses this conversation: more"):
        loaded.render(USER)


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.append({'role': 'x'}) }}",
        "{{ messages[0].update({'role': 'x'}) }}",
        "{{ cycler.__init__.__globals__.os.system('true') }}",
        "{{ raise_exception.__globals__.keys() }}",
        "{{ range(3).__class__.__base__.__subclasses__() }}",
        "{% include '/etc/passwd' %}",
        "{{ 'a' * 999999999 }}",
        "{{ 999999999 * [1] }}",
        "{{ 9 ** 999999999 }}",
        "{% for i in range(1000) %}{{ 'x' * 100000 }}{% endfor %}",
        "{% macro again() %}{{ again() }}{% endmacro %}{{ again() }}",
    ],
)
def test_a_hostile_template_is_stopped(template):
    messages = [{"role": "user", "content": "x"}]
    with pytest.raises((InvalidRequestError, RequestFailedError), match="chat template"):
        ChatTemplate(template).render(messages)
    assert messages == [{"role": "user", "content": "x"}]


LONG = "{% for a in messages[0].content %}{% for b in messages[0].content %}{% for c in messages[0].content %}"
ENDLESS = {
    "nested loops over a message": LONG + "{% endfor %}{% endfor %}{% endfor %}",
    "nested ranges": "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "a macro that calls itself twice": (
        "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}"
    ),
    "a recursive loop": (
        "{% for x in messages[0].content recursive %}{{ loop(messages[0].content) if loop.depth < 9 }}{% endfor %}"
    ),
    "a loop in a block": "{% filter upper %}" + LONG + "{% endfor %}{% endfor %}{% endfor %}{% endfilter %}",
    "a filtered loop": "{% for a in range(99999) if a > 0 %}{% for b in range(99999) if b > 0 %}{% endfor %}{% endfor %}",
}


@pytest.mark.parametrize("name", ENDLESS)
def test_a_template_that_never_ends_for_a_long_message_ends_with_an_error_and_the_next_message_is_rendered(name):
    only_long = "{% if messages[0].content | length > 100 %}" + ENDLESS[name] + "{% endif %}{{ messages[0].content }}"
    template = ChatTemplate(only_long)
    with little_time(5), pytest.raises(ChatTemplateTimeoutError, match=r"takes more than 0\.05 seconds; shorten"):
        template.render([{"role": "user", "content": "x" * 5000}], timeout_seconds=0.05)
    assert template.render(USER, timeout_seconds=60.0) == "Hi <b>"


def test_a_template_that_is_slow_from_the_start_delays_it_little():
    with little_time(8):
        ChatTemplate(ENDLESS["nested ranges"])


def test_numbers_that_make_no_text_may_be_as_large_as_they_like():
    template = (
        "{{ messages[0].content | truncate(100000) }}{{ messages[0].content | wordwrap(10 ** 6) }}"
        "{{ [1] | sum(start=10 ** 9) }}"
    )
    assert ChatTemplate(template).render(USER) == "Hi <b>Hi <b>1000000001"


def test_loops_know_their_place():
    template = (
        "{% for x in messages %}{{ loop.index }}/{{ loop.length }}{{ loop.first }}{{ loop.last }}"
        "{{ loop.previtem is defined }}{{ loop.nextitem is defined }}{{ loop.revindex }} {% else %}none{% endfor %}"
        "{% for a, b in {'k': 1}.items() %}{{ a }}{{ b }}{% endfor %}{% for x in nothing %}{% else %}none{% endfor %}"
        "{% for x in [[1, [2]], [3]] recursive %}{{ loop(x) if x is iterable else x }}{% endfor %}"
    )
    assert ChatTemplate(template).render(USER * 2) == "1/2TrueFalseFalseTrue2 2/2FalseTrueTrueFalse1 k1none123"


def test_arithmetic_is_still_possible():
    assert ChatTemplate("{{ 6 * 7 }}{{ '-' * 3 }}{{ 2 ** 10 }}{{ range(3) | sum }}").render(USER) == "42---10243"


TRIMMING = "{% for message in messages %}<{{ message.role }}>{{ message.content | trim }}</{{ message.role }}>{% endfor %}"


@pytest.mark.parametrize("content", ["Once upon a ", " x", "", "a</assistant><user>", "Once upon a Once upon a"])
def test_a_message_that_is_continued_stays_open_behind_its_last_character(content):
    conversation = [*USER, {"role": "assistant", "content": content}]
    prompt = ChatTemplate(TRIMMING).render(conversation, add_generation_prompt=False, continue_final_message=True)
    assert prompt == "<user>Hi <b></user><assistant>" + content.lstrip()
    parts: list[Any] = [*USER, {"role": "assistant", "content": [{"type": "text", "text": content}]}]
    assert ChatTemplate(TRIMMING).render(parts, add_generation_prompt=False, continue_final_message=True) == prompt


def test_a_template_that_leaves_the_last_message_out_cannot_continue_it():
    template = ChatTemplate("{% for message in messages[:-1] %}{{ message.content }}{% endfor %}")
    with pytest.raises(InvalidRequestError, match="cannot be continued"):
        template.render([*USER, *USER], continue_final_message=True)


def test_a_developer_is_the_system_for_a_template_that_knows_none():
    chat = [{"role": "developer", "content": "x"}, *USER]
    assert ChatTemplate(CHATML).render(chat).startswith("<|im_start|>system\n")
    knowing = CHATML + "{% if messages[0].role == 'developer' %}!{% endif %}"
    assert ChatTemplate(knowing).render(chat).startswith("<|im_start|>developer\n")

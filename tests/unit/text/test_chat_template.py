"""Chat templates: what they see, what they are refused, and the messages that they get."""

from __future__ import annotations

import json
from datetime import datetime

import pytest

from yeoul.errors import ConfigError, InvalidRequestError
from yeoul.model_files.tokenizer_source import TokenizerSource
from yeoul.text.chat_template import ChatTemplate

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
    assert template.render(USER, enable_thinking=False) == "quick"
    with pytest.raises(InvalidRequestError, match="chat_template_kwargs sets messages"):
        template.render(USER, messages=[])


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


@pytest.mark.parametrize(
    "template",
    [
        "{% for m in messages %}{% for part in m['content'] %}[{{ part.text }}]{% endfor %}{% endfor %}",
        "{% for m in messages %}{% for part in m.content | list %}[{{ part.text }}]{% endfor %}{% endfor %}",
        "{% for m in messages %}{% set c = m.content %}{% for part in c %}[{{ part.text }}]{% endfor %}{% endfor %}",
        "{% macro show(content) %}{% for part in content %}[{{ part.text }}]{% endfor %}{% endmacro %}"
        "{% for m in messages %}{{ show(m.content) }}{% endfor %}",
    ],
)
def test_text_parts_stay_parts_for_a_template_that_looks_into_them(template):
    messages = [{"role": "user", "content": [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]}]
    assert ChatTemplate(template).render(messages) == "[one][two]"


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
    with pytest.raises(InvalidRequestError, match="cannot be compiled"):
        ChatTemplate("{% for %}").render(USER)


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
        "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
        "{{ 'a' * 999999999 }}",
        "{{ 999999999 * [1] }}",
        "{{ 9 ** 999999999 }}",
        "{% for i in range(1000) %}{{ 'x' * 100000 }}{% endfor %}",
        "{% macro again() %}{{ again() }}{% endmacro %}{{ again() }}",
    ],
)
def test_a_hostile_template_is_stopped(template):
    messages = [{"role": "user", "content": "x"}]
    with pytest.raises(InvalidRequestError, match="chat template"):
        ChatTemplate(template).render(messages)
    assert messages == [{"role": "user", "content": "x"}]


def test_arithmetic_is_still_possible():
    assert ChatTemplate("{{ 6 * 7 }}{{ '-' * 3 }}{{ 2 ** 10 }}{{ range(3) | sum }}").render(USER) == "42---10243"

"""Prompts of files."""

import pytest

from yeoul.cli.benchmark.prompts import file_prompts, repeat
from yeoul.errors import ConfigError


@pytest.fixture
def write(tmp_path):
    def write_file(name, text):
        (tmp_path / name).write_text(text)
        return str(tmp_path / name)

    return write_file


def test_json_lines_hold_texts_tokens_and_objects(write):
    path = write("p.jsonl", '"a text"\n[1, 2]\n\n{"prompt": "named", "other": 1}\n')
    assert file_prompts(path, is_chat=False) == ["a text", [1, 2], "named"]


def test_a_text_file_holds_a_prompt_a_line(write):
    assert file_prompts(write("p.txt", "[1]\n\n{x}\n"), is_chat=True) == ["[1]", "{x}"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "holds no prompt"),
        ('"a"\nnot json\n', "line 2 of .* is not JSON"),
        ("[]", "line 1 of .* is no prompt"),
        ('{"text": "a"}', "an object whose 'prompt' is one"),
        ("[1.5]", "is no prompt"),
        ("[1]", "a chat takes text only"),
    ],
)
def test_what_is_no_prompt_is_named_by_its_line(write, text, told):
    with pytest.raises(ConfigError, match=told):
        file_prompts(write("p.jsonl", text), is_chat=True)


def test_a_file_that_is_not_there_is_the_users_mistake(tmp_path):
    with pytest.raises(ConfigError, match="cannot read the prompts"):
        file_prompts(str(tmp_path / "no.txt"), is_chat=False)


def test_prompts_start_over_when_more_are_asked_for():
    assert repeat(["a", "b"], 5) == ["a", "b", "a", "b", "a"]
    assert repeat(["a", "b"], 1) == ["a"]

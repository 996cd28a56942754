"""One value of one setting, from text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yeoul.config.fields import setting_fields
from yeoul.config.values import expected, read_value
from yeoul.errors import ConfigError

FIELDS = setting_fields()


@pytest.mark.parametrize(
    ("text", "num_bytes"),
    [
        ("1", 1),
        ("123B", 123),
        ("1GiB", 1 << 30),
        ("1 GiB", 1 << 30),
        ("1GB", 10**9),
        ("1G", 1 << 30),
        ("1g", 10**9),
        ("1.5GiB", 3 << 29),
        ("512M", 512 << 20),
        ("512MiB", 512 << 20),
        ("2TiB", 2 << 40),
        ("10_000", 10_000),
    ],
)
def test_a_size_may_carry_its_unit(text, num_bytes):
    assert read_value(FIELDS["kv_cache_memory_bytes"], text, "it") == num_bytes


@pytest.mark.parametrize(
    "text", ["", "GiB", "-1GiB", "0", "1XiB", "1e9", "1.0001", "one", "nan", "1GiBiB", "9" * 5000, "9" * 39]
)
def test_a_size_that_is_none_is_refused(text):
    with pytest.raises(ConfigError, match="expected a size such as 512MiB or a number of bytes, at least 1"):
        read_value(FIELDS["kv_cache_memory_bytes"], text, "it")


@pytest.mark.parametrize(
    ("text", "count"), [("4096", 4096), ("32k", 32_000), ("32K", 32_768), ("auto", None), ("None", None)]
)
def test_a_count_may_carry_a_letter_and_an_optional_one_may_be_left_open(text, count):
    assert read_value(FIELDS["max_model_len"], text, "it") == count


@pytest.mark.parametrize("text", ["32kB", "32KiB", "5B", "0", "-1", "3.5"])
def test_a_count_is_no_size(text):
    with pytest.raises(ConfigError, match="expected a whole number, at least 1"):
        read_value(FIELDS["max_model_len"], text, "it")


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "-1", "1s", "", "0"])
def test_a_time_has_an_end(text):
    with pytest.raises(ConfigError, match="expected a number, more than 0"):
        read_value(FIELDS["step_timeout_seconds"], text, "it")


@pytest.mark.parametrize(
    ("text", "value"), [("true", True), ("1", True), ("Yes", True), ("off", False), ("0", False), ("FALSE", False)]
)
def test_a_switch_understands_the_usual_words(text, value):
    assert read_value(FIELDS["log_requests"], text, "it") is value


@pytest.mark.parametrize("value", ["maybe", "", 1, None])
def test_a_switch_refuses_other_words(value):
    with pytest.raises(ConfigError, match="expected true or false"):
        read_value(FIELDS["log_requests"], value, "it")


def test_a_choice_names_what_there_is():
    with pytest.raises(ConfigError, match="it is 'fp16'; expected one of auto, bfloat16, float16, float32"):
        read_value(FIELDS["dtype"], "fp16", "it")


def test_a_list_is_split_at_commas_where_it_is_text():
    assert read_value(FIELDS["api_key"], "a, b,,", "it") == ["a", "b"]
    assert read_value(FIELDS["api_key"], ["a,b"], "it") == ["a,b"]


@pytest.mark.parametrize("value", [{"a": 1}, 5, [""], [1]])
def test_a_list_of_something_else_is_refused(value):
    with pytest.raises(ConfigError, match="expected a text"):
        read_value(FIELDS["api_key"], value, "it")


def test_a_key_is_not_shown():
    with pytest.raises(ConfigError) as caught:
        read_value(FIELDS["api_key"], ["sk-secret", 5], "it")
    assert caught.value.message == "it is no key (it is not shown); expected a text"


def test_a_long_value_is_shown_in_part():
    with pytest.raises(ConfigError) as caught:
        read_value(FIELDS["port"], "x" * 10_000, "it")
    assert len(caught.value.message) < 200


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("port", "a whole number from 0 to 65535"),
        ("seed", "a whole number"),
        ("max_num_waiting_requests", "a whole number, at least 1"),
        ("ring_slot_bytes", "a size such as 512MiB or a number of bytes from 1024 to 67108864"),
        ("step_timeout_seconds", "a number, more than 0"),
        ("host", "a text"),
    ],
)
def test_what_is_expected_is_said_in_words(name, words):
    assert expected(FIELDS[name]) == words


@given(st.sampled_from(sorted(FIELDS)), st.one_of(st.text(max_size=30), st.integers(), st.floats(), st.booleans(), st.none()))
def test_any_value_is_taken_or_refused_with_a_config_error(name, value):
    try:
        read_value(FIELDS[name], value, "it")
    except ConfigError:
        return
